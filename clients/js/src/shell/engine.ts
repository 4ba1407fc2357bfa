/**
 * What keeps a client alive: its connections one after another, its clock, its tokens.
 *
 * Owns the core's inputs and outputs. Everything that happens goes through `run`, which tells the core and then performs
 * what it has to say. A listener that calls back into the client only adds to what is performed: outputs are told one at
 * a time, in the order in which they came about, and never from within one another.
 */

import { NEVER } from "../core/backoff.js";
import { ABNORMAL_CLOSE } from "../core/connection.js";
import type { ClientCore } from "../core/core.js";
import type { EntriesRoom } from "../core/entries.js";
import type { Fact, Output, RequestResult } from "../core/facts.js";
import { isFinal } from "../core/tables.js";
import type { Body } from "../wire/decode.js";
import type { Environment } from "./environment.js";
import { Link } from "./link.js";
import { TokenKeeper, type TokenSource } from "./tokens.js";

/** While a connection is kept, something happens at least this often. */
const WATCH_MS = 15_000;

/** Where a client connects to, and what tells it tokens. */
export interface Target {
  readonly url: string;
  readonly getToken: TokenSource | null;
}

/** What channels need of their client. */
export interface Host {
  readonly engine: Engine;
  /** The id the server gave this client; null before the first connection. */
  readonly clientId: string | null;
  /** Make a request, and wait for its answer. */
  call(kind: string, body: Body): Promise<RequestResult>;
  /** Make a name that nobody else makes. */
  newId(): string;
}

/** The core with a socket and a clock. */
export class Engine<Room extends EntriesRoom = EntriesRoom> {
  readonly core: ClientCore<Room>;
  /** Clocks, timers, sockets. */
  readonly outside: Environment;
  readonly #target: Target;
  readonly #tell: (fact: Fact) => void;
  #notedAt = NEVER;
  #wallNotedAt = NEVER;
  readonly #tokens: TokenKeeper | null;
  #link: Link | null = null;
  readonly #queue: Output[] = [];
  #isPerforming = false;
  #timer: unknown = null;
  /** When the timer fires; infinity when there is none. */
  #timerAt = NEVER;
  #stopListening: (() => void) | null = null;

  /**
   * @param core What decides.
   * @param environment What is outside.
   * @param target Where to connect to.
   * @param tell Takes facts, one at a time. May call back into the client. What it throws is reported.
   */
  constructor(core: ClientCore<Room>, environment: Environment, target: Target, tell: (fact: Fact) => void) {
    this.core = core;
    this.outside = environment;
    this.#target = target;
    this.#tell = tell;
    this.#tokens = target.getToken && new TokenKeeper(environment, target.getToken, this);
  }

  /** Tell the core something, perform what follows, and return what the core returned, or throw what it threw. */
  run<Result>(tellCore: (now: number) => Result): Result {
    const now = this.outside.now();
    this.core.tick(now);
    try {
      return tellCore(now);
    } finally {
      this.perform();
    }
  }

  /** Begin to connect, or go on after `disconnect`. */
  connect(): void {
    if (isFinal(this.core.state)) return;
    this.#stopListening ??= this.outside.listen((signal) => {
      const { core } = this;
      if (signal === "pagehide") this.run(() => core.suspend("page", "The page was left."));
      else if (signal !== "offline" || core.state === "connected") {
        const [now] = this.#note();
        if (signal === "pageshow") core.connection.connect(now, "page");
        // Doubt every deadline before it is acted on: a connection gets the time of a probe to show that it lives.
        core.connection.wake(now);
        this.perform();
      }
    });
    this.run((now) => this.core.connection.connect(now));
  }

  /** Use a newer token of the same user. */
  useToken(token: string): void {
    this.#tokens?.stop();
    this.#tokens?.watch(token);
    this.run((now) => this.core.tokenSupplied(now, token));
  }

  // ------------------------------------------------------------------------------- what the core says

  /** Do and tell everything the core has for us; within itself it only gathers. */
  perform(): void {
    this.#queue.push(...this.core.take());
    if (this.#isPerforming) return;
    this.#isPerforming = true;
    try {
      // What is performed may add to it.
      do {
        for (let one = this.#queue.shift(); one; one = this.#queue.shift()) this.#performOne(one);
      } while (this.#queue.push(...this.core.take()) > 0);
    } finally {
      this.#isPerforming = false;
    }
    this.#arm();
  }

  #performOne(output: Output): void {
    if ("do" in output) {
      if (output.do === "dial") {
        try {
          this.#link = new Link(this.outside.WebSocket, this.#target.url, {
            opened: () => this.run(() => this.core.connection.connectSucceeded()),
            /** A frame proves that the connection lives, so it is told before any deadline that has passed meanwhile. */
            received: (frame) => {
              this.core.receive(frame, this.#note()[0]);
              this.perform();
            },
            closed: (code, reason) => this.#closed(code, reason),
          });
        } catch (error) {
          this.#closed(ABNORMAL_CLOSE, String(error));
        }
      } else if (output.do === "send") this.#link?.send(output.data);
      else if (output.do === "ask-token") void this.#tokens?.ask();
      else {
        this.#link?.hangUp(output.code, output.reason);
        this.#closed(output.code, output.reason);
      }
      return;
    }
    if (output.kind === "state" && isFinal(output.state)) {
      this.#tokens?.stop();
      this.#stopListening?.();
      this.#stopListening = null;
    }
    try {
      this.#tell(output);
    } catch (error) {
      this.outside.reportError(error);
    }
  }

  // ------------------------------------------------------------------------------- the socket

  #closed(code: number, reason: string): void {
    this.#link = null;
    this.core.closed(this.outside.now(), code, reason);
    this.perform();
  }

  // ------------------------------------------------------------------------------- time and surroundings

  /** Note the time; return it, and whether the machine slept. */
  #note(): [now: number, slept: boolean] {
    const [now, wallNow] = [this.outside.now(), this.outside.wallNow()];
    // A monotonic clock may stand still in sleep, a wall clock does not.
    const slept = Math.max(now - this.#notedAt, wallNow - this.#wallNotedAt) > 2 * WATCH_MS;
    this.#notedAt = now;
    this.#wallNotedAt = wallNow;
    return [now, slept];
  }

  /** Set the timer, unless one fires early enough: then that one sets the next. */
  #arm(): void {
    const { outside } = this;
    const deadline = this.core.nextDeadline();
    const isIdle = deadline === NEVER;
    const now = outside.now();
    const afterMs = Math.min(Math.max(deadline - now, 0), WATCH_MS);
    const dueAt = isIdle ? NEVER : now + afterMs;
    if (dueAt >= this.#timerAt && !isIdle) return;
    outside.clearTimeout(this.#timer);
    this.#timerAt = dueAt;
    if (!isIdle)
      this.#timer = outside.setTimeout(() => {
        this.#timerAt = NEVER;
        const [now, slept] = this.#note();
        if (slept) this.core.connection.wake(now);
        this.core.tick(now);
        this.perform();
      }, afterMs);
  }
}
