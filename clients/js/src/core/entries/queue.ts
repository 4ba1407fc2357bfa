/**
 * The mutations of one client id that the server has not decided: their numbers, their sending, their acknowledgement. Pure.
 *
 * Owned by `StateRoom`, one for each client this connection speaks for. Invariant: the undecided mutations have ascending
 * numbers without a gap, those that were never sent last.
 */

import { encodeMessage } from "../../wire/encode.js";
import { Backoff, FIRST_RETRY_MS, NEVER } from "../backoff.js";
import type { Speech } from "../entries.js";
import type { Keeping } from "./facts.js";
import type { Pending } from "./pending.js";

/** SPEC section 18: an acknowledgement once every second or every 100 outcomes is enough. */
const ACK_COUNT = 100;
const ACK_MS = 1_000;
/** `out_of_order` is obeyed at once, but at most this often: the copies in flight are answered with it too. */
const CALM_MS = 1_000;
/** `out_of_order` messages in a row, with no outcome between them, that expect what is decided: only a `welcome` says what is so. */
const MAX_STALE = 3;

/** What a `mutate` has besides name and arguments: a number and a client, with their names. */
const OTHER_BYTES = 100;

/**
 * Return how long the message of a mutation is at most, whatever number and client it gets.
 *
 * @throws TypeError, RangeError the arguments have no form on the wire.
 */
export function sizeOf({ name, args }: Pending): number {
  return encodeMessage("mutate", { name, args }).bytes.length + OTHER_BYTES;
}

/** Undecided mutations, oldest first. */
export class MutationQueue {
  /** Null: not issued yet, or forgotten by the server. */
  client: string | null = null;
  /** By mid, ascending. */
  undecided = new Map<number, Pending>();
  /** The server refuses this session's mutations; another session's it may take. */
  isBlocked = false;
  readonly #slot: number;
  readonly #speech: Speech;
  readonly #keeping: () => Keeping | null;
  readonly #backoff: Backoff;
  #isOnline = false;
  /** The highest number given, if higher than that of every decided one. */
  #lastMid = 0;
  /** The highest number that was sent on this connection. */
  #sentUpto = 0;
  #decidedUpto = 0;
  #numUnacked = 0;
  #ackAt = NEVER;
  #resentAt = -NEVER;
  #numStale = 0;

  /**
   * @param slot Which client of the session this is; the first needs no name in messages.
   * @param keeping Returns what keeps mutations before they are sent; null: nothing does.
   */
  constructor(slot: number, speech: Speech, keeping: () => Keeping | null) {
    this.#slot = slot;
    this.#speech = speech;
    this.#keeping = keeping;
    this.#backoff = new Backoff(speech.random, FIRST_RETRY_MS);
  }

  /** Whether it waits for what only a new session gives: a client id, or where the server stands. */
  get needsSession(): boolean {
    return (!this.client && this.undecided.size > 0) || this.#numStale >= MAX_STALE;
  }

  // ------------------------------------------------------------------------------- messages

  #sendAll(): void {
    this.#sentUpto = 0;
    this.#sendMore();
  }

  /** Send what follows what was sent, as far as it is kept. */
  #sendMore(): void {
    if (!this.#isOnline || !this.client || this.isBlocked) return;
    for (const pending of this.undecided.values()) {
      if (pending.mid <= this.#sentUpto) continue;
      if (this.#keeping()?.hasKept(pending) === false) return;
      pending.isSent = true;
      this.#sentUpto = pending.mid;
      const { mid, name, args } = pending;
      this.#speech.send(
        encodeMessage("mutate", { mid, name, args, client: this.#slot ? this.client : null }),
      );
    }
  }

  #tellNumbers(): void {
    for (const pending of this.undecided.values()) this.#keeping()?.numbered(pending, this.client);
  }

  /** Send what follows, unless everything is to be sent again later. */
  sendNext(): void {
    if (!this.#backoff.isWaiting) this.#sendMore();
  }

  // ------------------------------------------------------------------------------- the application

  /** Give a mutation its number and send it, or have it wait for its turn. */
  add(pending: Pending): void {
    this.#lastMid += 1;
    pending.mid = this.#lastMid;
    this.undecided.set(pending.mid, pending);
    this.#tellNumbers();
    this.sendNext();
  }

  /** Take what an earlier page left, before everything that was added; only while there was no session yet. */
  restore(client: string | null, restored: readonly Pending[]): void {
    const added = [...this.undecided.values()];
    this.client = client ?? this.client;
    this.undecided = new Map(restored.map((pending) => [pending.mid, pending]));
    this.renumber([...restored, ...added], 0);
  }

  // ------------------------------------------------------------------------------- connection and time

  /** The session is gone. */
  wentOffline(): void {
    this.#isOnline = false;
    this.#numStale = 0;
    this.#backoff.dueAt = this.#ackAt = NEVER;
    this.#backoff.reset();
  }

  /** When `tick` has something to do. */
  nextDeadline(): number {
    return Math.min(this.#backoff.dueAt, this.#ackAt);
  }

  /** Send again what was put off until now, and acknowledge. */
  tick(now: number): void {
    if (this.#backoff.takeDue(now)) {
      this.#resentAt = now;
      this.#sendAll();
    }
    if (this.#ackAt <= now) this.#ack();
  }

  // ------------------------------------------------------------------------------- the server

  /**
   * A session speaks for this client: number what was never sent, and send everything in order.
   *
   * Undecided mutations up to `lastMid` are sent too: the server has decided them and answers with the outcome it kept.
   * That is right because the server never runs a number twice; dropping them would leave their outcome untold, and taking
   * them for done would call rejected ones successful.
   *
   * A `lastMid` below what was decided before means that the server lost state. What is above it is not applied there, so
   * it is numbered anew.
   *
   * @returns What was sent under an id the server has forgotten: nobody can say what became of it.
   */
  greeted(client: string, lastMid: number, now: number): Pending[] {
    const isOther = client !== this.client;
    const hasLost = lastMid < this.#decidedUpto;
    let lost: Pending[] = [];
    const all = [...this.undecided.values()];
    if (isOther && this.client) lost = all.filter(({ isSent }) => isSent);
    if (isOther || hasLost) this.#decidedUpto = lastMid;
    // What was sent and does not follow on was not decided: the server, or a store, lost what was between.
    let next = lastMid;
    for (const pending of all) if (pending.mid > lastMid) pending.isSent &&= pending.mid === ++next;
    this.client = client;
    this.isBlocked = false;
    this.#isOnline = true;
    this.renumber(without(all, lost), lastMid);
    this.#resentAt = now;
    this.#sendAll();
    if (this.#decidedUpto > 0) this.#ackAt = now + ACK_MS;
    return lost;
  }

  /** The server knows this client no more; return what was sent: nobody can say what became of it. */
  forgotten(): Pending[] {
    const all = [...this.undecided.values()];
    const sent = all.filter(({ isSent }) => isSent);
    this.client = null;
    this.#decidedUpto = 0;
    this.#ackAt = this.#backoff.dueAt = NEVER;
    this.renumber(without(all, sent), 0);
    return sent;
  }

  /** Number those never sent, one after the other behind those that were, and behind `lastMid`. */
  renumber(kept: readonly Pending[], lastMid: number): void {
    let top = lastMid;
    for (const { isSent, mid } of kept) if (isSent) top = Math.max(top, mid);
    for (const pending of kept) {
      if (pending.isSent) continue;
      top += 1;
      pending.mid = top;
    }
    this.#lastMid = top;
    this.undecided = new Map(kept.map((pending) => [pending.mid, pending]));
    this.#tellNumbers();
  }

  /** Take an outcome; return the mutation, undefined if it was decided before. A repetition is acknowledged again. */
  decided(mid: number, now: number): Pending | undefined {
    const pending = this.undecided.get(mid);
    this.undecided.delete(mid);
    this.#decidedUpto = Math.max(this.#decidedUpto, mid);
    this.#backoff.reset();
    this.#numStale = 0;
    this.#numUnacked += 1;
    this.#ackAt = Math.min(this.#ackAt, now + ACK_MS);
    if (this.#numUnacked >= ACK_COUNT) this.#ack();
    return pending;
  }

  /** The lowest number that is not decided; infinity for none. */
  get #first(): number {
    const { value = NEVER } = this.undecided.keys().next();
    return value;
  }

  /** Acknowledge every outcome below the first that is missing. */
  #ack(): void {
    this.#ackAt = NEVER;
    this.#numUnacked = 0;
    const upto = Math.min(this.#decidedUpto, this.#first - 1);
    if (upto <= 0 || !this.#isOnline || !this.client) return;
    this.#speech.send(encodeMessage("mutate_ack", { upto, client: this.#slot ? this.client : null }));
  }

  /** A mutation could not be decided for now: send it and everything behind it again later. */
  putOff(mid: number, now: number, afterMs: number | null): void {
    if (this.undecided.has(mid) && !this.#backoff.isWaiting) this.#backoff.postpone(now, afterMs);
  }

  /** A mutation will never be taken, and was not decided: take it out; those behind it move up and are sent again. */
  refused(mid: number): Pending | undefined {
    const pending = this.undecided.get(mid);
    if (!pending) return undefined;
    this.undecided.delete(mid);
    const left = [...this.undecided.values()];
    for (const later of left) later.isSent &&= later.mid < mid;
    this.renumber(left, mid - 1);
    this.#sendAll();
    return pending;
  }

  /**
   * The server says that one is missing: send from the first undecided on, but do not answer every echo.
   *
   * Those below `expect` are decided, and sent for their outcome. One that expects what was decided before is older than
   * the outcomes that came since, which go another way at the server; it says nothing about numbers.
   */
  isMissing(expect: number, now: number): void {
    if (this.#backoff.isWaiting || this.undecided.size === 0) return;
    if (expect < this.#first) this.#numStale += 1;
    if (now - this.#resentAt < CALM_MS) {
      this.#backoff.postpone(now);
      return;
    }
    this.#resentAt = now;
    this.#sendAll();
  }
}

function without(all: readonly Pending[], some: readonly Pending[]): Pending[] {
  return all.filter((pending) => !some.includes(pending));
}
