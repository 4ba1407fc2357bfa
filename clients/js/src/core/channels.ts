/** All subscriptions of a client and everything the server says about channels. Pure; owned by `ClientCore`. */

import type { Body } from "../wire/decode.js";
import {
  eventFromBody,
  field,
  listOfMaps,
  listOfStrings,
  membersFromBody,
  optionalNumber,
  positionFromBody,
} from "../wire/frames.js";
import type { Position } from "../wire/messages.js";
import type { Random } from "./backoff.js";
import type { Handler } from "./entries.js";
import type { RequestFailed } from "./errors.js";
import type { Output } from "./facts.js";
import { SubscriptionCore } from "./subscription.js";

/** One `SubscriptionCore` a channel. */
export class ChannelTable {
  readonly handlers: Readonly<Record<string, Handler>>;
  readonly #random: Random;
  readonly #request: (kind: string, body: object) => number;
  readonly #tell: (output: Output) => void;
  readonly #subscriptions = new Map<string, SubscriptionCore>();
  #numMade = 0;
  #isOnline = false;

  /**
   * @param random Source of jitter.
   * @param request Send a message of this type and body under a fresh id, and return the id.
   * @param tell Queue an output.
   */
  constructor(
    random: Random,
    request: (kind: string, body: object) => number,
    tell: (output: Output) => void,
  ) {
    this.#random = random;
    this.#request = request;
    this.#tell = tell;
    this.handlers = {
      event: this.#handler((subscription, body, now) => {
        subscription.received(eventFromBody(body), optionalNumber(body, "prev"), now);
      }),
      subscribed: this.#handler((subscription, body) => {
        subscription.answered({
          requestId: optionalNumber(body, "id"),
          position: positionFromBody(body),
          wasRecovering: field(body, "was_recovering", "boolean"),
          recovered: field(body, "recovered", "boolean"),
          events: listOfMaps(body, "events").map(eventFromBody),
        });
      }),
      unsubscribed: this.#handler((subscription, body) => {
        this.#end(subscription, field(body, "code", "string"), field(body, "reason", "string"));
      }),
      mark: this.#handler((subscription, body, now) => {
        const position = positionFromBody(body);
        if (position !== null) subscription.marked(position, now);
      }),
      lagged: this.#handler((subscription, _body, now) => subscription.lagged(now)),
      presence_state: this.#handler((subscription, body) => this.#onPresenceState(subscription, body)),
      presence_diff: this.#handler((subscription, body) => this.#onPresenceDiff(subscription, body)),
    };
  }

  /** A handler that knows its subscription, and asks again for it where that is called for. */
  #handler(take: (subscription: SubscriptionCore, body: Body, now: number) => void): Handler {
    return (body, now) => {
      const subscription = this.#subscriptions.get(field(body, "channel", "string"));
      if (subscription === undefined) return;
      take(subscription, body, now);
      this.#pursue(subscription);
    };
  }

  /** Return the subscription of a channel. */
  find(channel: string): SubscriptionCore | undefined {
    return this.#subscriptions.get(channel);
  }

  // ------------------------------------------------------------------------------- connection and time

  /** A session is there: ask for everything. */
  wentOnline(): void {
    this.#isOnline = true;
    for (const subscription of this.#subscriptions.values()) this.#pursue(subscription);
  }

  /** The session is gone. */
  wentOffline(): void {
    this.#isOnline = false;
    for (const subscription of this.#subscriptions.values()) subscription.wentOffline();
  }

  /** The client is over. */
  endAll(reason: string): void {
    this.#isOnline = false;
    for (const subscription of this.#subscriptions.values()) subscription.step("end", { reason });
    this.#subscriptions.clear();
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    let deadline = Number.POSITIVE_INFINITY;
    for (const { retryAt } of this.#subscriptions.values()) {
      if (retryAt !== null && retryAt < deadline) deadline = retryAt;
    }
    return deadline;
  }

  /** Ask again for what was put off until now. */
  tick(now: number): void {
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.retryAt !== null && subscription.retryAt <= now) {
        subscription.retryAt = null;
        this.#pursue(subscription);
      }
    }
  }

  // ------------------------------------------------------------------------------- the application asks

  /** Subscribe, or begin anew from another position; return the generation of what it tells. */
  subscribe(channel: string, position: Position | null, hasPresence: boolean): number {
    let subscription = this.#subscriptions.get(channel);
    if (subscription === undefined) {
      this.#numMade += 1;
      const wishes = { position, hasPresence };
      subscription = new SubscriptionCore(channel, this.#numMade, this.#random, this.#tell, wishes);
      this.#subscriptions.set(channel, subscription);
    } else subscription.restart(position, hasPresence);
    this.#pursue(subscription);
    return subscription.generation;
  }

  /** Add presence to a subscription that is there. */
  watchPresence(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (subscription === undefined || subscription.hasPresence) return;
    subscription.requestPresence(true);
    this.#pursue(subscription);
  }

  /** End a subscription. */
  unsubscribe(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (subscription === undefined) return;
    this.#subscriptions.delete(channel);
    subscription.step("end");
    this.#withdraw(subscription);
  }

  /** Ask the server for a subscription that wants to be asked for. */
  #pursue(subscription: SubscriptionCore): void {
    if (!this.#isOnline || !subscription.isWanting) return;
    this.#withdraw(subscription);
    const { channel, position, hasPresence } = subscription;
    subscription.asked(this.#request("subscribe", { channel, position, presence: hasPresence || null }));
  }

  /** End what the server may still hold; a refusal would change nothing, so nobody waits for the answer. */
  #withdraw(subscription: SubscriptionCore): void {
    if (subscription.isKnownToServer && this.#isOnline) {
      this.#request("unsubscribe", { channel: subscription.channel });
    }
    subscription.isKnownToServer = false;
  }

  // ------------------------------------------------------------------------------- the server speaks

  /** Take an error; return whether it answered a `subscribe`. */
  refused(requestId: number, error: RequestFailed, now: number): boolean {
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.requestId !== requestId) continue;
      const isKnown = error.code === "already_subscribed";
      if (error.retryable || isKnown) {
        subscription.postponed(now, error.afterMs ?? 0, isKnown, error.message);
      } else if (subscription.state === "subscribing") {
        this.#end(subscription, error.code, error.message);
      }
      return true;
    }
    return false;
  }

  #end(subscription: SubscriptionCore, code: string, reason: string): void {
    this.#subscriptions.delete(subscription.channel);
    subscription.step("end", { code, reason });
  }

  /** Ask again for one channel or all: the answers tell whether anything was missed. */
  reset(channel: string | null, now: number): void {
    for (const subscription of this.#subscriptions.values()) {
      if (channel !== null && channel !== subscription.channel) continue;
      subscription.foundGap(now);
      this.#pursue(subscription);
    }
  }

  #onPresenceState(subscription: SubscriptionCore, body: Body): void {
    if (!subscription.hasPresence) return;
    subscription.presence.replace(field(body, "seq", "number"), membersFromBody(body, "members"));
    this.#tellMembers(subscription);
  }

  #onPresenceDiff(subscription: SubscriptionCore, body: Body): void {
    const leaves = listOfStrings(body, "leaves");
    if (!subscription.hasPresence) return;
    const changed = [...membersFromBody(body, "joins"), ...membersFromBody(body, "updates")];
    if (subscription.presence.apply(field(body, "seq", "number"), changed, leaves)) {
      this.#tellMembers(subscription);
    }
  }

  #tellMembers({ channel, generation, presence }: SubscriptionCore): void {
    this.#tell({ kind: "presence", channel, generation, members: presence.members });
  }
}
