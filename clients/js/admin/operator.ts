/**
 * Who operates: an API key or an admin's token is shown once, for a token that lives an hour and is renewed while the page is open.
 *
 * That token alone is kept, in this tab's session storage, so that a reload asks nothing; the key is forgotten at once.
 */

import { Api, ApiError, ask } from "./api.js";
import { Value } from "./value.js";

/** What the node has signed for this page. */
interface Pass {
  readonly token: string;
  readonly expiresAt: number;
}

const KEPT = "syncd.admin";
/** Renewed when so much of its life is over. */
const RENEW_AT = 0.6;
const LEAST_MS = 5_000;

/** The login. Null: nobody. */
export class Operator {
  readonly pass: Value<Pass | null>;
  /** Why nobody is logged in, for people. */
  readonly why = new Value("");
  readonly api = new Api(
    () => this.token,
    () => this.logout("Your login has ended."),
  );
  #timer: number | undefined;

  constructor() {
    this.pass = new Value(kept());
    this.#renewLater();
  }

  get token(): string | null {
    return this.pass.get()?.token ?? null;
  }

  /** Show a key or token; resolves to what is wrong with it, or to null. */
  async login(secret: string): Promise<string | null> {
    try {
      this.#take(await issue(secret));
      this.why.set("");
      return null;
    } catch (error) {
      return reason(error);
    }
  }

  logout(why = ""): void {
    clearTimeout(this.#timer);
    sessionStorage.removeItem(KEPT);
    this.why.set(why);
    this.pass.set(null);
  }

  #take(pass: Pass): void {
    sessionStorage.setItem(KEPT, JSON.stringify(pass));
    this.pass.set(pass);
    this.#renewLater();
  }

  #renewLater(): void {
    clearTimeout(this.#timer);
    const pass = this.pass.get();
    if (pass === null) return;
    const leftMs = (pass.expiresAt - Date.now()) * RENEW_AT;
    this.#timer = window.setTimeout(() => void this.#renew(pass), Math.max(leftMs, LEAST_MS));
  }

  async #renew(pass: Pass): Promise<void> {
    try {
      const next = await issue(pass.token);
      if (this.pass.get() === pass) this.#take(next);
    } catch (error) {
      if (this.pass.get() !== pass) return;
      if (pass.expiresAt <= Date.now() || (error instanceof ApiError && error.status === 401))
        this.logout("Your login has ended.");
      else this.#renewLater();
    }
  }
}

async function issue(secret: string): Promise<Pass> {
  const told = await ask<{ token: string; expires_at_ms: number }>("POST", "admin/session", secret);
  return { token: told.token, expiresAt: told.expires_at_ms };
}

function kept(): Pass | null {
  try {
    const pass = JSON.parse(sessionStorage.getItem(KEPT) ?? "null") as Pass | null;
    return pass !== null && pass.expiresAt > Date.now() ? pass : null;
  } catch {
    return null;
  }
}

function reason(error: unknown): string {
  if (!(error instanceof ApiError)) return "The server cannot be reached.";
  if (error.status === 401) return "This is no API key of this server, and no token that it takes.";
  if (error.status === 403) return "This token is valid, but it does not have the role admin.";
  if (error.status === 429) return "Too many wrong keys came from here. Wait a few seconds.";
  return error.message;
}
