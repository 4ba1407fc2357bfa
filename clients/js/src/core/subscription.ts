/**
 * One subscription of the client: its state, its position, and what every message does to them. Pure.
 *
 * Owns the position of the last event handed out. Invariant (RECOVER): within one epoch the offsets handed out ascend
 * without a hole on stream channels, and wherever they do not, a reset stands between.
 */

import type { ChannelEvent } from "../wire/frames.js";
import type { Position } from "../wire/messages.js";
import { Backoff, NEVER, type Random } from "./backoff.js";
import type { RequestFailed } from "./errors.js";
import type { ChannelFact, ResetCause, SubscriptionChanged } from "./facts.js";
import { PresenceSet } from "./presence.js";
import { SUBSCRIPTION_TABLE, type SubscriptionInput, type SubscriptionState } from "./tables.js";

/** A `subscribed` message. */
export interface Answer {
  /** Null: the server re-established the subscription by itself. */
  readonly requestId: number | null;
  readonly position: Position | null;
  readonly wasRecovering: boolean;
  readonly recovered: boolean;
  readonly events: readonly ChannelEvent[];
}

/** What distinguishes a step of a subscription from a plain one. */
type Told = Partial<Omit<SubscriptionChanged, "kind" | "channel" | "generation" | "state">>;

/** State machine of one channel's subscription; `ChannelTable` speaks to the server for it. */
export class SubscriptionCore {
  readonly channel: string;
  /** Which subscription of this client this is: facts of an older one of the channel have a lower one. */
  readonly generation: number;
  position: Position | null;
  hasPresence: boolean;
  readonly memberSet = new PresenceSet();
  state: SubscriptionState = "unsubscribed";
  /** Of the `subscribe` in flight, or answered last. */
  requestId: number | null = null;
  /** When it is asked for again, if it is put off. */
  readonly backoff: Backoff;
  /** The server may hold a subscription of this channel: it must be ended before a new one. */
  isKnownToServer = false;
  #hasBegun = false;
  readonly #tell: (fact: ChannelFact) => void;

  constructor(
    channel: string,
    generation: number,
    random: Random,
    tell: (fact: ChannelFact) => void,
    wishes: { position: Position | null; hasPresence: boolean },
  ) {
    this.channel = channel;
    this.generation = generation;
    this.position = wishes.position;
    this.hasPresence = wishes.hasPresence;
    this.backoff = new Backoff(random);
    this.#tell = tell;
  }

  /** Go to the next state and tell it; return false and change nothing where the table has no step. */
  step(input: SubscriptionInput, told: Told = {}): boolean {
    const next = SUBSCRIPTION_TABLE[this.state][input];
    if (!next) return false;
    const isNews = next !== this.state || input === "answered";
    this.state = next;
    if (isNews) this.#tell({ kind: "subscription", ...this.#place, state: next, ...PLAIN, ...told });
    return true;
  }

  get #place(): { channel: string; generation: number } {
    return { channel: this.channel, generation: this.generation };
  }

  /** Whether the server should be asked now, if there is a connection. */
  get isWanting(): boolean {
    return this.state === "unsubscribed" && !this.backoff.isWaiting;
  }

  // ------------------------------------------------------------------------------- asking

  /** Note that `subscribe` went out under this id. */
  asked(requestId: number): void {
    if (!this.step("ask")) return;
    this.requestId = requestId;
    this.isKnownToServer = true;
    this.memberSet.forget();
  }

  /** Ask again from another position, as if for the first time. */
  restart(position: Position | null, hasPresence: boolean): void {
    this.position = position;
    this.#hasBegun = false;
    this.requestPresence(hasPresence);
  }

  /** Ask again, now with or without presence, from where it stands. */
  requestPresence(hasPresence: boolean): void {
    this.hasPresence = hasPresence;
    this.backoff.dueAt = NEVER;
    this.step("restart");
  }

  /** The server refused for now; ask again later. */
  putOff(now: number, { message: reason, afterMs }: RequestFailed, isKnown: boolean): void {
    if (!this.step("postponed", { reason })) return;
    this.isKnownToServer = isKnown;
    this.backoff.postpone(now, afterMs);
  }

  /** The connection is gone, and with it whatever the server held. */
  wentOffline(): void {
    this.step("offline");
    this.isKnownToServer = false;
    this.backoff.dueAt = NEVER;
  }

  // ------------------------------------------------------------------------------- what the server says

  /** Take a `subscribed`: adopt its position, hand out what was missed, or tell that it cannot be had. */
  answered({ requestId, position, wasRecovering, recovered, events: missed }: Answer): void {
    // What the server says by itself counts while subscribed, and an answer while it is waited for.
    const expected = this.state === "subscribed" ? null : this.requestId;
    if (requestId !== expected || this.state === "unsubscribed") return;
    const before = this.position;
    const isContinued = recovered && before !== null && position?.epoch === before.epoch;
    const events = ascending(missed, isContinued ? before.offset : -1);
    const isReset = !isContinued && (this.#hasBegun || before !== null);
    this.#hasBegun = true;
    const last = events.at(-1)?.position ?? (isContinued ? before : null);
    this.position = position && position.offset >= (last?.offset ?? 0) ? position : last;
    this.step("answered", { position, wasRecovering, recovered });
    if (isReset) this.#tell({ kind: "reset", ...this.#place, ...resetOf(position, before, events) });
    for (const event of events) this.#tell({ kind: "event", ...this.#place, event });
    this.#tellMark();
  }

  #tellMark(): void {
    const { position } = this;
    if (position) this.#tell({ kind: "mark", ...this.#place, position });
  }

  /**
   * Take a live event: hand it out if it is the next one, ask again if one is missing.
   *
   * `prev` is there on stream channels alone: elsewhere the server vouches for completeness and offsets only ascend.
   */
  heardEvent(event: ChannelEvent, prev: number | null, now: number): void {
    if (this.state !== "subscribed") return;
    const mine = this.position;
    const its = event.position;
    if (its && mine) {
      const isOther = its.epoch !== mine.epoch;
      if (!isOther && its.offset <= mine.offset) return;
      if (isOther || (prev ?? mine.offset) !== mine.offset) {
        this.foundGap(now);
        return;
      }
    }
    this.position = its ?? mine;
    this.#tell({ kind: "event", ...this.#place, event });
  }

  /** Take a `mark`: everything up to there was sent or superseded. */
  marked(position: Position, now: number): void {
    if (this.state !== "subscribed") return;
    const mine = this.position ?? { ...position, offset: -1 };
    if (position.epoch !== mine.epoch) this.foundGap(now);
    else if (position.offset > mine.offset) {
      this.position = position;
      this.#tellMark();
    }
  }

  /** The server stopped the delivery: ask again from the position. */
  lagged(now: number): void {
    if (this.state === "subscribed") this.isKnownToServer = false;
    this.foundGap(now);
  }

  /** Something is missing: ask again from the position, at once unless it happened just now. */
  foundGap(now: number): void {
    if (this.step("gap")) this.backoff.foundGap(now);
  }
}

const PLAIN = { position: null, wasRecovering: false, recovered: false, code: null, reason: "" };

/** Keep events whose offsets ascend above `last`, and all that have none. */
function ascending(events: readonly ChannelEvent[], last: number): ChannelEvent[] {
  let top = last;
  return events.filter(({ position }) => {
    if (position && position.offset <= top) return false;
    top = position?.offset ?? top;
    return true;
  });
}

/** What a reset says: the position before the first event that follows, and why. */
function resetOf(
  position: Position | null,
  before: Position | null,
  events: readonly ChannelEvent[],
): { position: Position | null; cause: ResetCause } {
  if (!position || !before) return { position, cause: "not-kept" };
  const cause = position.epoch === before.epoch ? "out-of-retention" : "epoch-changed";
  const first = events[0]?.position;
  return {
    position: first ? { epoch: first.epoch, offset: Math.max(first.offset - 1, 0) } : position,
    cause,
  };
}
