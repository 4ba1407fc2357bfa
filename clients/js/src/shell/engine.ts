/**
 * What keeps a client alive: its connections one after another, its clock, its tokens.
 *
 * Owns the core's inputs and outputs. Everything that happens goes through `run`, which tells the core and then performs
 * what it has to say. A listener that calls back into the client only adds to what is performed: outputs are told one at
 * a time, in the order in which they came about, and never from within one another.
 */

import { ClockWatch, WATCH_MS } from "../core/clock.js";
import { ABNORMAL_CLOSE } from "../core/connection.js";
import type { ClientCore } from "../core/core.js";
import type { EntriesRoom } from "../core/entries.js";
import type { Action, Fact, Output } from "../core/facts.js";
import { isFinal } from "../core/tables.js";
import type { Environment, Signal } from "./environment.js";
import { Link } from "./link.js";
import { TokenKeeper, type TokenSource } from "./tokens.js";

/** Where a client connects to, and what tells it tokens. */
export interface Target {
  readonly url: string;
  readonly getToken: TokenSource | null;
}

/** The core with a socket and a clock. */
export class Engine<Room extends EntriesRoom = EntriesRoom> {
  readonly core: ClientCore<Room>;
  readonly environment: Environment;
  readonly #target: Target;
  readonly #tell: (fact: Fact) => void;
  readonly #clock = new ClockWatch();
  readonly #tokens: TokenKeeper | null;
  #link: Link | null = null;
  #queue: Output[] = [];
  /** How many of the queue are performed. */
  #numDone = 0;
  #isPerforming = false;
  #timer: unknown = null;
  /** When the timer fires; infinity when there is none. */
  #timerAt = Number.POSITIVE_INFINITY;
  #stopListening: (() => void) | null = null;

  /**
   * @param core What decides.
   * @param environment What is outside.
   * @param target Where to connect to.
   * @param tell Takes facts, one at a time. May call back into the client. What it throws is reported.
   */
  constructor(core: ClientCore<Room>, environment: Environment, target: Target, tell: (fact: Fact) => void) {
    this.core = core;
    this.environment = environment;
    this.#target = target;
    this.#tell = tell;
    this.#tokens = target.getToken && this.#keeperOf(target.getToken);
  }

  #keeperOf(source: TokenSource): TokenKeeper {
    return new TokenKeeper(this.environment, source, {
      supplied: (token) => this.useToken(token),
      missing: () => this.run(() => this.core.tokenMissing()),
      unavailable: (reason) => this.run((now) => this.core.tokenUnavailable(now, reason)),
    });
  }

  /** Tell the core something, perform what follows, and return what the core returned, or throw what it threw. */
  run<Result>(tellCore: (now: number) => Result): Result {
    const now = this.environment.now();
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
    this.#stopListening ??= this.environment.listen((signal) => this.#onSignal(signal));
    this.run((now) => this.core.connect(now));
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
      for (let output = this.#next(); output !== undefined; output = this.#next()) {
        this.#performOne(output);
      }
    } finally {
      this.#isPerforming = false;
    }
    this.#arm();
  }

  #next(): Output | undefined {
    if (this.#numDone === this.#queue.length) {
      this.#queue = this.core.take();
      this.#numDone = 0;
    }
    const output = this.#queue[this.#numDone];
    if (output !== undefined) this.#numDone += 1;
    return output;
  }

  #performOne(output: Output): void {
    if ("do" in output) {
      this.#act(output);
      return;
    }
    if (output.kind === "state" && isFinal(output.state)) this.#stop();
    try {
      this.#tell(output);
    } catch (error) {
      this.environment.reportError(error);
    }
  }

  #act(action: Action): void {
    switch (action.do) {
      case "dial":
        this.#dial();
        break;
      case "send":
        this.#link?.send(action.data);
        break;
      case "hangup":
        this.#link?.hangUp(action.code, action.reason);
        this.#link = null;
        this.core.closed(this.environment.now(), action.code, action.reason);
        break;
      case "ask-token":
        void this.#tokens?.ask();
        break;
    }
  }

  #stop(): void {
    this.#tokens?.stop();
    this.#stopListening?.();
    this.#stopListening = null;
  }

  // ------------------------------------------------------------------------------- the socket

  #dial(): void {
    try {
      this.#link = new Link(this.environment.WebSocket, this.#target.url, {
        opened: () => this.run(() => this.core.connectSucceeded()),
        received: (frame) => this.#received(frame),
        closed: (code, reason) => this.#closed(code, reason),
      });
    } catch (error) {
      this.core.closed(this.environment.now(), ABNORMAL_CLOSE, String(error));
    }
  }

  /** A frame proves that the connection lives, so it is told before any deadline that has passed meanwhile. */
  #received(frame: Uint8Array): void {
    const now = this.environment.now();
    this.#clock.note(now, this.environment.wallNow());
    this.core.receive(frame, now);
    this.perform();
  }

  #closed(code: number, reason: string): void {
    this.#link = null;
    this.core.closed(this.environment.now(), code, reason);
    this.perform();
  }

  // ------------------------------------------------------------------------------- time and surroundings

  #onSignal(signal: Signal): void {
    if (signal === "pagehide") this.run(() => this.core.suspend("page", "The page was left."));
    else if (signal === "pageshow") {
      this.#wake((now) => this.core.connect(now, "page"));
    } else if (signal !== "offline" || this.core.state === "connected") this.#wake(() => undefined);
  }

  /** Doubt every deadline before it is acted on: a connection gets the time of a probe to show that it lives. */
  #wake(first: (now: number) => void): void {
    const now = this.environment.now();
    this.#clock.note(now, this.environment.wallNow());
    first(now);
    this.core.wake(now);
    this.perform();
  }

  /** Set the timer, unless one fires early enough: then that one sets the next. */
  #arm(): void {
    const deadline = this.core.nextDeadline();
    const isIdle = deadline === Number.POSITIVE_INFINITY;
    const dueAt = isIdle ? deadline : Math.min(deadline, this.environment.now() + WATCH_MS);
    if (dueAt >= this.#timerAt && !isIdle) return;
    this.environment.clearTimeout(this.#timer);
    this.#timerAt = dueAt;
    if (isIdle) return;
    const afterMs = Math.max(dueAt - this.environment.now(), 0);
    this.#timer = this.environment.setTimeout(() => this.#onTimer(), afterMs);
  }

  #onTimer(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = this.environment.now();
    if (this.#clock.note(now, this.environment.wallNow())) this.core.wake(now);
    this.core.tick(now);
    this.perform();
  }
}
