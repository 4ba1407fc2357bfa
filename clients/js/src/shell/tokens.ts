/** Gets tokens from the application: when the core asks, and before the present one runs out. */

import type { ConnectionCore } from "../core/connection.js";
import type { Engine } from "./engine.js";
import type { Environment } from "./environment.js";

/** Returns a fresh JWT; null: the user is logged out. May throw: it is asked again later. */
export type TokenSource = () => string | null | undefined | Promise<string | null | undefined>;

/** An application that does not answer is taken for one that cannot. */
const ANSWER_MS = 30_000;
/** A new token is asked for so long before the old one runs out, or a fifth of its life if that is shorter. */
const AHEAD_MS = 60_000;
/** A source that keeps returning old tokens is not asked more often than this. */
const LEAST_MS = 30_000;
/** Timers of browsers hold at most 2^31 ms. */
const MOST_MS = 12 * 3_600_000;

/** Asks one question at a time; only the answer to the last one counts. */
export class TokenKeeper {
  readonly #environment: Environment;
  readonly #source: TokenSource;
  readonly #engine: Engine;
  #turn = 0;
  #refreshTimer: unknown = null;

  constructor(environment: Environment, source: TokenSource, engine: Engine) {
    this.#environment = environment;
    this.#source = source;
    this.#engine = engine;
  }

  /** Ask, and tell the core the answer once: a token, none, or that it cannot be had now. */
  async ask(): Promise<void> {
    this.stop();
    const turn = this.#turn;
    try {
      const token = await this.#answer();
      if (turn !== this.#turn) return;
      if (typeof token === "string") this.#engine.useToken(token);
      else this.#engine.run(() => this.#connection.tokenMissing());
    } catch (error) {
      if (turn === this.#turn)
        this.#engine.run((now) => this.#connection.tokenUnavailable(now, String(error)));
    }
  }

  get #connection(): ConnectionCore {
    return this.#engine.core.connection;
  }

  #answer(): Promise<string | null | undefined> {
    return new Promise((resolve, reject) => {
      const tooLate = () => reject(new Error("getToken did not answer in time."));
      const timer = this.#environment.setTimeout(tooLate, ANSWER_MS);
      Promise.resolve()
        .then(() => this.#source())
        .then(resolve, reject)
        .finally(() => this.#environment.clearTimeout(timer));
    });
  }

  /** Ask again in time for a token that says when it runs out. A refresh that fails is tried again; it says nothing. */
  watch(token: string): void {
    const expiresAtMs = expiryOf(token);
    if (expiresAtMs === null) return;
    const leftMs = expiresAtMs - this.#environment.wallNow();
    const afterMs = Math.min(Math.max(leftMs - Math.min(AHEAD_MS, leftMs / 5), LEAST_MS), MOST_MS);
    this.#environment.clearTimeout(this.#refreshTimer);
    this.#refreshTimer = this.#environment.setTimeout(() => void this.#refresh(token), afterMs);
  }

  async #refresh(old: string): Promise<void> {
    const turn = this.#turn;
    const token = await this.#answer().catch(() => null);
    if (turn !== this.#turn) return;
    if (token && token !== old) this.#engine.useToken(token);
    else this.watch(old);
  }

  /** Forget the question and the timer. */
  stop(): void {
    this.#turn += 1;
    this.#environment.clearTimeout(this.#refreshTimer);
  }
}

/** When a JWT runs out, in ms since 1970; null when it does not say, or is none. */
export function expiryOf(token: string): number | null {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { atob } = globalThis as unknown as { atob(text: string): string };
    const { exp } = JSON.parse(atob(payload)) as { exp?: unknown };
    return typeof exp === "number" ? exp * 1000 : null;
  } catch {
    return null;
  }
}
