/** All subscriptions of a client and everything the server says about channels. Pure; owned by `ClientCore`. */

import type { Body } from "../wire/decode.js";
import {
  eventFromBody,
  flagOf,
  listOfMaps,
  listOfStrings,
  membersFromBody,
  numberOf,
  optionalNumber,
  positionFromBody,
  textOf,
} from "../wire/frames.js";
import type { Position } from "../wire/messages.js";
import { earliest, type Random } from "./backoff.js";
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
        subscription.heardEvent(eventFromBody(body), optionalNumber(body, "prev"), now);
      }),
      subscribed: this.#handler((subscription, body) => {
        subscription.answered({
          requestId: optionalNumber(body, "id"),
          position: positionFromBody(body),
          wasRecovering: flagOf(body, "was_recovering"),
          recovered: flagOf(body, "recovered"),
          events: listOfMaps(body, "events").map(eventFromBody),
        });
      }),
      unsubscribed: this.#handler((subscription, body) => {
        const [code, reason] = [textOf(body, "code"), textOf(body, "reason")];
        this.#end(subscription, { code, reason });
      }),
      mark: this.#handler((subscription, body, now) => {
        const position = positionFromBody(body);
        if (position) subscription.marked(position, now);
      }),
      lagged: this.#handler((subscription, _body, now) => subscription.lagged(now)),
      presence_state: this.#handler((subscription, body) => {
        subscription.memberSet.replace(numberOf(body, "seq"), membersFromBody(body, "members"));
        this.#tellMembers(subscription);
      }),
      presence_diff: this.#handler((subscription, body) => {
        const leaves = listOfStrings(body, "leaves");
        const changed = [...membersFromBody(body, "joins"), ...membersFromBody(body, "updates")];
        const isApplied = subscription.memberSet.apply(numberOf(body, "seq"), changed, leaves);
        if (isApplied) this.#tellMembers(subscription);
      }),
    };
  }

  /** A handler that knows its subscription, and asks again for it where that is called for. */
  #handler(take: (subscription: SubscriptionCore, body: Body, now: number) => void): Handler {
    return (body, now) => {
      const subscription = this.#subscriptions.get(textOf(body, "channel"));
      if (!subscription) return;
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
  endAll({ message: reason }: Error): void {
    this.#isOnline = false;
    for (const subscription of this.#subscriptions.values()) subscription.step("end", { reason });
    this.#subscriptions.clear();
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return earliest(this.#subscriptions.values());
  }

  /** Ask again for what was put off until now. */
  tick(now: number): void {
    for (const subscription of this.#subscriptions.values()) {
      if (subscription.backoff.takeDue(now)) this.#pursue(subscription);
    }
  }

  // ------------------------------------------------------------------------------- the application asks

  /** Subscribe, or begin anew from another position; return the generation of what it tells. */
  subscribe(channel: string, position: Position | null, hasPresence: boolean): number {
    let subscription = this.#subscriptions.get(channel);
    if (subscription) subscription.restart(position, hasPresence);
    else {
      const wishes = { position, hasPresence };
      subscription = new SubscriptionCore(channel, ++this.#numMade, this.#random, this.#tell, wishes);
      this.#subscriptions.set(channel, subscription);
    }
    this.#pursue(subscription);
    return subscription.generation;
  }

  /** Add presence to a subscription that is there. */
  watchPresence(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription || subscription.hasPresence) return;
    subscription.requestPresence(true);
    this.#pursue(subscription);
  }

  /** End a subscription. */
  unsubscribe(channel: string): void {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription) return;
    this.#end(subscription);
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
        subscription.putOff(now, error, isKnown);
      } else if (subscription.state === "subscribing") {
        this.#end(subscription, { code: error.code, reason: error.message });
      }
      return true;
    }
    return false;
  }

  #end(subscription: SubscriptionCore, told?: { readonly code: string; readonly reason: string }): void {
    this.#subscriptions.delete(subscription.channel);
    subscription.step("end", told);
  }

  /** Ask again for one channel or all: the answers tell whether anything was missed. */
  reset(channel: string | null, now: number): void {
    for (const subscription of this.#subscriptions.values()) {
      if ((channel ?? subscription.channel) !== subscription.channel) continue;
      subscription.foundGap(now);
      this.#pursue(subscription);
    }
  }

  #tellMembers({ channel, generation, memberSet, hasPresence }: SubscriptionCore): void {
    if (hasPresence) this.#tell({ kind: "presence", channel, generation, members: memberSet.members });
  }
}
