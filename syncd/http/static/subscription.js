/**
 * One channel's subscription, without any I/O: its state, its position, and what each message means for what is shown
 * (protocol/SPEC.md, sections 3 and 6).
 *
 * Invariant: the events handed out in one epoch ascend without a hole; where they cannot, a `lost` fact stands between.
 *
 * A fact is `{kind, ...}`: `event {event, how, isChecked}` with how = live | recovered | state, `began {position}`,
 * `recovered {count}`, `lost {position}`, `gap {expected, got}`.
 */

/** What may happen in which state, and where it leads. */
export const TRANSITIONS = {
  wanted: { asked: "subscribing", ended: "ended" },
  subscribing: { answered: "live", disconnected: "wanted", again: "wanted", ended: "ended" },
  live: { answered: "live", disconnected: "wanted", again: "wanted", ended: "ended" },
  ended: { again: "wanted" },
};

export class Subscription {
  state = "wanted";
  /** Position of the last event handed out; null before the first answer and on channels without positions. */
  position = null;
  hasPresence = true;
  requestId = null;
  /** `{code, message}` once the server ended it. */
  ended = null;
  numChecked = 0;
  numGaps = 0;
  numDuplicates = 0;
  isStale = false;
  /** Events up to this wall time count as recovered: they are the rest of an answer that did not fit. */
  recoveredUntilMs = 0;

  constructor(channel) {
    this.channel = channel;
  }

  step(happened) {
    const next = TRANSITIONS[this.state][happened];
    if (next === undefined) return false;
    this.state = next;
    return true;
  }

  /** Return the body of `subscribe`, or null when there is nothing to ask. */
  ask(id) {
    if (!this.step("asked")) return null;
    this.requestId = id;
    this.ended = null;
    return {
      id,
      channel: this.channel,
      position: this.position ?? undefined,
      presence: this.hasPresence,
    };
  }

  /** The position means nothing any more; what is shown is stale. */
  forgetPosition() {
    this.position = null;
    this.isStale = true;
  }

  /** Take a `subscribed` and return its facts. `nowMs` is the server's wall clock. */
  answered(body, nowMs) {
    const isOurs = body.id == null ? this.state === "live" : body.id === this.requestId;
    if (!isOurs || !this.step("answered")) return [];
    return body.recovered ? this.resumed(body, nowMs) : this.restarted(body);
  }

  resumed(body, nowMs) {
    const facts = [];
    this.recoveredUntilMs = nowMs;
    for (const event of body.events) {
      if (!this.isNewer(event)) continue;
      const [fact] = this.event(event);
      if (fact.kind === "gap") return [...facts, fact];
      facts.push({ ...fact, how: "recovered" });
    }
    this.position = body.position ?? null;
    return [...facts, { kind: "recovered", count: facts.length }];
  }

  restarted(body) {
    const position = body.position ?? null;
    const isStale = this.isStale || body.was_recovering || body.id == null;
    this.isStale = false;
    this.position = position;
    const facts = [{ kind: position !== null && isStale ? "lost" : "began", position }];
    for (const event of body.events) facts.push({ kind: "event", event, how: "state", isChecked: false });
    return facts;
  }

  /** Take an `event` and return its facts; a `gap` means that the channel must be subscribed again. */
  event(event) {
    if (this.state !== "live") return [];
    if (event.offset == null) return [{ kind: "event", event, how: "live", isChecked: false }];
    if (this.position !== null && event.epoch !== this.position.epoch) return this.gap(event);
    if (!this.isNewer(event)) {
      this.numDuplicates += 1;
      return [];
    }
    const hasPrev = event.prev != null && this.position !== null;
    if (hasPrev && event.prev !== this.position.offset) return this.gap(event);
    const how = event.at_ms <= this.recoveredUntilMs ? "recovered" : "live";
    return [{ kind: "event", event, how, isChecked: this.check(event) }];
  }

  /** Take a `mark`: everything up to there was sent or superseded. */
  mark(position) {
    if (this.state === "live") this.position = position;
  }

  gap(event) {
    this.numGaps += 1;
    return [{ kind: "gap", expected: this.position, got: event }];
  }

  isNewer(event) {
    if (event.offset == null || this.position === null) return true;
    return event.epoch === this.position.epoch && event.offset > this.position.offset;
  }

  /** Make the event's place ours; tell whether its `prev` was our offset. */
  check(event) {
    const isChecked = event.prev != null && event.prev === this.position?.offset;
    if (isChecked) this.numChecked += 1;
    this.position = { epoch: event.epoch, offset: event.offset };
    return isChecked;
  }
}
