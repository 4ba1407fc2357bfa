/**
 * The connection's half of the core: dialling, hello, liveness, backoff, tokens and the clients it speaks for. Pure.
 *
 * Owned by `ClientCore`. Invariant: every dial is answered by one `closed` before the next dial is told.
 */

import type { CLOSE_CODES } from "../wire/codes.js";
import type { Body } from "../wire/decode.js";
import { encodeMessage } from "../wire/encode.js";
import { badField, flagOf, listOfMaps, numberOf, optionalString, textOf } from "../wire/frames.js";
import { type ClientClaim, PROTOCOL_VERSION } from "../wire/messages.js";
import { Backoff, NEVER, type Random } from "./backoff.js";
import { ConnectionStopped } from "./errors.js";
import type { Output } from "./facts.js";
import { CONNECTION_TABLE, type ConnectionInput, type ConnectionState } from "./tables.js";

/** RFC 6455: the connection ended without a close frame. */
export const ABNORMAL_CLOSE = 1006;
const NORMAL_CLOSE = 1000;
const UNAUTHORIZED = 4401 satisfies (typeof CLOSE_CODES)["unauthorized"];
/** RFC 6455: the server does not speak the protocol. */
export const PROTOCOL_ERROR = 1002;
/** RFC 6455: a frame was too big; for a proxy it may be with less than the server takes. */
const TOO_BIG = 1009;
/** Frames of several messages are not made smaller than this. */
const LEAST_PACK_BYTES = 1_024;

/** From dialling to `welcome`: the server allows 10 s for the upgrade and 10 s for `hello`. */
const CONNECT_MS = 20_000;
/** Hearing nothing for `ping_ms` and this long means that the connection is dead (SPEC 4.4). */
const SILENCE_SLACK_MS = 10_000;
/** A token that is refused within this time was not good. */
const FRESH_MS = 30_000;
/** A connection that lasted this long resets the backoff and the count of refused tokens (SPEC 13). */
const STABLE_MS = 5_000;
/** After a wake-up a live server answers a probe within this: a mobile network's worst round trips take 2 s. */
const PROBE_MS = 4_000;

/** What a connection begins with. */
export interface ConnectionOptions {
  /** Told in `hello`; null: none yet. */
  readonly token?: string | null;
  /** `ask-token` will be answered. */
  readonly hasTokenSource?: boolean;
  /** Clients to speak for, from earlier sessions; none: one is issued. */
  readonly claims?: readonly ClientClaim[];
  /** Told in `hello`: tabs of one user on one device. */
  readonly group?: string | null;
  /** Told in `hello`: leadership term within the group; a lower one than the server knows may not mutate. */
  readonly term?: number | null;
}

/** How a connection ended. */
interface Ending {
  readonly code: number;
  readonly reason: string;
  readonly reconnect: boolean;
  readonly afterMs: number;
}

/** Who wants no connection for now: the application, or the page that was left. */
export type Suspender = "application" | "page";

/** State machine of the one connection. */
export class ConnectionCore {
  state: ConnectionState = "idle";
  /** Clients it speaks for, in the order of `welcome.clients`. */
  claims: readonly ClientClaim[];
  /** What the server accepts, told by `welcome`, or less where it has turned out that such does not get through. */
  maxFrameBytes = 65_536;
  /** What frames of several messages have at most: half as much after each session that `TOO_BIG` ended. */
  packBytes = NEVER;
  /** Why it has failed. */
  error: ConnectionStopped | null = null;
  /** Told in the next `hello`; null: none. */
  term: number | null;
  /** The newest token; null: none. */
  token: string | null;

  readonly #tell: (output: Output) => void;
  readonly #backoff: Backoff;
  readonly #group: string | null;
  readonly #hasTokenSource: boolean;
  readonly #suspenders = new Set<Suspender>();
  #helloToken: string | null = null;
  #needsToken = false;
  #isAsking = false;
  #numRefused = 0;
  #suppliedAt = 0;
  #advice: Ending | null = null;
  #isHangingUp = false;
  /** Of the state: to dial, to be welcome, or to have heard something. */
  #deadline = NEVER;
  /** The server asked not to be dialled before. */
  #notBefore = 0;
  #silenceMs = NEVER;
  #welcomedAt = NEVER;
  #isProbing = false;
  #attempt = 0;
  /** The last session was ended by `TOO_BIG`. */
  #isCut = false;
  /** Longer messages do not get through. */
  #mostBytes = NEVER;

  constructor(random: Random, tell: (output: Output) => void, options: ConnectionOptions) {
    this.#tell = tell;
    this.#backoff = new Backoff(random);
    this.#group = options.group ?? null;
    this.#hasTokenSource = options.hasTokenSource ?? false;
    this.term = options.term ?? null;
    this.token = options.token ?? null;
    this.claims = options.claims ?? [];
  }

  /** Whether what comes in still counts. */
  get isListening(): boolean {
    return this.#isUp && !this.#isHangingUp;
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return this.#isHangingUp ? NEVER : this.#deadline;
  }

  get #isUp(): boolean {
    return this.state === "connecting" || this.state === "connected";
  }

  /** Go to the next state and tell it; return false where the table has no step. */
  #step(input: ConnectionInput, deadline = NEVER, code: number | null = null, reason = ""): boolean {
    const next = CONNECTION_TABLE[this.state][input];
    if (!next) return false;
    this.state = next;
    this.#deadline = deadline;
    const retryAt = next === "offline" && deadline < NEVER ? deadline : null;
    this.#tell({ kind: "state", state: next, code, reason, attempt: this.#attempt, retryAt });
    return true;
  }

  // ------------------------------------------------------------------------------- the application

  /** Begin; or go on after `suspend`; or ask again for the token that there was not. */
  connect(now: number, by: Suspender = "application"): void {
    this.#suspenders.delete(by);
    if (this.state === "offline") this.wake(now);
    if (by === "page" || this.#suspenders.size > 0) return;
    if (this.state === "needs-auth" && !this.#isAsking) {
      this.#numRefused = 0;
      this.#askToken();
    } else if (this.state === "idle") {
      if (this.token !== null || !this.#hasTokenSource) this.#dial("start", now);
      else if (this.#step("denied")) this.#askToken();
    }
  }

  /** End the connection, if there is one, and dial no more until `connect`. */
  suspend(by: Suspender, reason: string): void {
    if (this.state === "idle") return;
    this.#suspenders.add(by);
    const wasUp = this.#isUp;
    if (this.#step("suspend", NEVER, null, reason) && wasUp) this.hangUp(NORMAL_CLOSE, reason);
  }

  /**
   * The network or the user is back, or the machine slept: dial at once if a dial is waited for, and find out by a probe
   * whether a connection that seems to be there still is.
   */
  wake(now: number): void {
    if (this.state === "offline" && this.#suspenders.size === 0) {
      this.#deadline = Math.max(now, this.#notBefore);
      this.tick(now);
    } else if (this.state === "connected" && !this.#isProbing && !this.#isHangingUp) {
      this.#isProbing = true;
      this.#deadline = now + PROBE_MS;
      this.#send("probe", { nonce: 1 });
    }
  }

  /** End for good. */
  close(): void {
    const wasUp = this.#isUp;
    if (this.#step("close") && wasUp) this.hangUp();
  }

  /** Here is the token that was asked for, or a newer one. */
  tokenSupplied(now: number, token: string): void {
    this.token = token;
    this.#suppliedAt = now;
    this.#needsToken = false;
    this.#isAsking = false;
    this.#dial("token", now);
  }

  /** No token can be had now; ask again after a while. */
  tokenUnavailable(now: number, reason: string): void {
    this.#isAsking = false;
    if (this.state === "needs-auth") {
      this.#step("no-token-now", now + this.#backoff.nextMs(), null, reason);
    }
  }

  /** There is no token until `tokenSupplied` or `connect`: the user is logged out. */
  tokenMissing(): void {
    this.#isAsking = false;
    this.#step("no-token", NEVER, UNAUTHORIZED, "There is no token.");
  }

  #askToken(): void {
    this.#needsToken = true;
    this.#isAsking = true;
    this.#tell({ do: "ask-token" });
  }

  // ------------------------------------------------------------------------------- the transport

  /** Begin an attempt by this step. */
  #dial(input: ConnectionInput, now: number): void {
    this.#attempt += 1;
    if (this.#step(input, now + CONNECT_MS)) {
      this.#isHangingUp = false;
      this.#tell({ do: "dial" });
    } else this.#attempt -= 1;
  }

  /** The WebSocket is open: say hello. */
  connectSucceeded(): void {
    if (this.state !== "connecting" || this.#isHangingUp) return;
    this.#helloToken = this.token;
    this.#send("hello", {
      v: PROTOCOL_VERSION,
      token: this.token,
      clients: this.claims.length > 0 ? this.claims : null,
      group: this.#group,
      term: this.term,
    });
  }

  /** Whether the token has changed since it was told. */
  get hasNewerToken(): boolean {
    return this.token !== this.#helloToken;
  }

  #send(kind: string, body: object): void {
    this.#tell({ do: "send", data: encodeMessage(kind, body).bytes });
  }

  /** The connection, or the attempt, is over. */
  closed(now: number, code: number, reason: string): void {
    const ending = this.#advice ?? { code, reason, reconnect: true, afterMs: 0 };
    this.#advice = null;
    this.#isHangingUp = false;
    if (!this.#isUp) {
      this.tick(now);
      return;
    }
    if (now - this.#welcomedAt >= STABLE_MS) {
      this.#backoff.reset();
      this.#numRefused = this.#attempt = 0;
    }
    if (code === TOO_BIG && this.#welcomedAt < NEVER) {
      this.#isCut = true;
      this.packBytes = Math.max(this.packBytes / 2, LEAST_PACK_BYTES);
    }
    this.#welcomedAt = NEVER;
    this.#ended(now, ending);
  }

  #ended(now: number, { code, reason, reconnect, afterMs }: Ending): void {
    this.#notBefore = now + afterMs;
    const isDenied = code === UNAUTHORIZED;
    if (isDenied && this.#hasTokenSource) {
      // Ask for a newer token once; when that is refused too, wait for the application to come with one.
      this.#step("denied", NEVER, code, reason);
      // Fetched a while ago it has run out meanwhile, as under a lid that was closed: that says nothing about the next one.
      this.#numRefused = now - this.#suppliedAt > FRESH_MS ? 1 : this.#numRefused + 1;
      if (this.#numRefused === 1) this.#askToken();
    } else if (isDenied || !reconnect || (code >= 4500 && code <= 4999)) {
      this.#step("stopped", NEVER, code, reason);
      this.error = new ConnectionStopped(code, reason);
    } else {
      // The present token may not have come to the server, and runs out until it does.
      this.#numRefused = 0;
      this.#step("lost", now + this.#backoff.nextMs(afterMs), code, reason);
    }
  }

  /** End this connection, and come back. */
  hangUp(code = NORMAL_CLOSE, reason = ""): void {
    if (this.#isHangingUp) return;
    this.#isHangingUp = true;
    this.#tell({ do: "hangup", code, reason });
  }

  // ------------------------------------------------------------------------------- the server

  /** Something came in: the connection lives. */
  heard(now: number): void {
    if (this.state !== "connected") return;
    this.#isProbing = false;
    this.#deadline = now + this.#silenceMs;
  }

  /** Take `welcome`: adopt the clients and the limits. Return whether it counts. */
  greeted(body: Body, now: number): boolean {
    const claims = claimsAfter(this.claims, listOfMaps(body, "clients"));
    const silenceMs = numberOf(body, "ping_ms") + SILENCE_SLACK_MS;
    const maxFrameBytes = Math.min(numberOf(body, "max_frame_bytes"), this.#mostBytes);
    if (!this.#step("welcomed", now + silenceMs)) return false;
    this.claims = claims;
    this.maxFrameBytes = maxFrameBytes;
    this.packBytes = Math.min(this.packBytes, maxFrameBytes);
    this.#silenceMs = silenceMs;
    this.#welcomedAt = now;
    this.#isProbing = false;
    return true;
  }

  /**
   * The longest message that has no answer has so many bytes.
   *
   * If `TOO_BIG` ended the last session, and none of its frames of several messages can have been as long, then this message
   * is too long, whichever frame it was: that was a shorter one, or this. What was answered has got through, so it is shorter.
   */
  blame(bytes: number): void {
    if (this.#isCut && bytes > 2 * this.packBytes) this.maxFrameBytes = this.#mostBytes = bytes - 1;
    this.#isCut = false;
  }

  /** Take `bye`: note its advice and end the connection. */
  saidBye(body: Body): void {
    this.#advice = {
      code: numberOf(body, "code"),
      reason: textOf(body, "reason"),
      reconnect: flagOf(body, "reconnect"),
      afterMs: numberOf(body, "after_ms"),
    };
    this.hangUp();
  }

  /** The server no longer knows this client; null: any. */
  forgetClient(client: string | null): void {
    this.claims = client === null ? [] : this.claims.filter((claim) => claim.client !== client);
  }

  // ------------------------------------------------------------------------------- time

  /** Do what is due. */
  tick(now: number): void {
    if (now < this.nextDeadline()) return;
    if (this.state === "offline" && this.#needsToken) {
      if (this.#step("timer-without-token")) this.#askToken();
    } else if (this.state === "offline") this.#dial("timer", now);
    else if (this.#isUp) {
      this.hangUp(ABNORMAL_CLOSE, "The server did not answer in time.");
    }
  }
}

/** Return the claims that `welcome.clients` leaves: each as it was, or as it was issued anew. */
function claimsAfter(claims: readonly ClientClaim[], states: readonly Body[]): ClientClaim[] {
  const kept = states.map((state, place) => {
    const client = textOf(state, "client");
    const secret =
      optionalString(state, "secret") ?? (claims[place]?.client === client && claims[place].secret);
    return { client, secret: secret || "" };
  });
  if (kept.length === 0 || kept.some(({ secret }) => !secret)) {
    throw badField("clients");
  }
  return kept;
}
