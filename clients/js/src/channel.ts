/** What an application holds of one channel: its events, and who is present. */

import type { ChannelFact, HistoryPage, Reset, SubscriptionChanged } from "./core/facts.js";
import type { SubscriptionState } from "./core/tables.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import type { Host } from "./shell/engine.js";
import type { ChannelEvent, Member } from "./wire/frames.js";
import type { Position } from "./wire/messages.js";

/** What an application wants to hear of a channel. Listeners may call anything of the client, also `close`. */
export interface ChannelListeners {
  /** An event; the channel's position was advanced before. */
  readonly onEvent?: ((event: ChannelEvent) => void) | undefined;
  /** Events may have been missed: what was built from this channel must be fetched anew, as of the position. */
  readonly onReset?: ((reset: Pick<Reset, "position" | "cause">) => void) | undefined;
  /** The subscription went to another state, or the server told where it stands. `ended` is the last that is told. */
  readonly onState?: ((change: Omit<SubscriptionChanged, "kind" | "generation">) => void) | undefined;
}

/** How a subscription begins. */
export interface SubscribeOptions {
  /** Everything after this position comes first, or a reset. Only for the first listener of a channel. */
  readonly since?: Position | null | undefined;
}

/** How an event is published. */
export interface PublishOptions {
  /** What kind of event it is. */
  readonly name?: string | null | undefined;
  /** Conflation and latest-value key. */
  readonly key?: string | null | undefined;
  /** Idempotency key; one is made if none is given. Give one to repeat a call safely over a reload. */
  readonly uid?: string | undefined;
}

/** What part of a channel's past is wanted. */
export interface HistoryOptions {
  /** At most this many events, up to 1,000. 100 if not given; 0 asks for the position alone. */
  readonly limit?: number | undefined;
  /** Events after it; with `reverse`, before it. */
  readonly since?: Position | null | undefined;
  /** Newest first. */
  readonly reverse?: boolean | undefined;
}

/**
 * One channel. `client.channel(name)` returns the same object for the same name.
 *
 * The server is asked for it while it has listeners; a release is put off by one turn of the event loop, so that whoever
 * leaves and comes back at once (React's strict mode) does not subscribe twice.
 */
export class Channel {
  readonly name: string;
  readonly presence: ChannelPresence;
  readonly #host: Host;
  /** Each is called with what is to be done with its listeners. */
  readonly #listeners: Listeners<(listeners: ChannelListeners) => void> = new Set();
  #generation = 0;
  #state: SubscriptionState = "unsubscribed";
  #position: Position | null = null;

  /** Made by `client.channel`. */
  constructor(name: string, host: Host) {
    this.name = name;
    this.#host = host;
    this.presence = new ChannelPresence(name, host, {
      join: () => this.#join(null, true),
      leave: () => this.#leaveSoon(),
    });
  }

  /** What the subscription is doing; `unsubscribed` also while nobody listens. */
  get state(): SubscriptionState {
    return this.#state;
  }

  /** Up to where the listeners were told everything: store it to go on from there in another page. Null until known. */
  get position(): Position | null {
    return this.#position;
  }

  /**
   * Listen to the channel's events from now on; return the function that ends that.
   *
   * The first listener subscribes; later ones join its subscription where it stands, and are not told what came before.
   *
   * @throws Error `since` was given and the channel is subscribed already.
   */
  subscribe(listeners: ChannelListeners, options: SubscribeOptions = {}): () => void {
    if (options.since && this.#generation !== 0) {
      throw new Error(`\`since\` is for the first listener of ${this.name}.`);
    }
    const own = { ...listeners };
    const stop = listen(this.#listeners, (visit) => visit(own));
    this.#join(options.since ?? null, false);
    return () => {
      stop();
      this.#leaveSoon();
    };
  }

  /**
   * Publish an event and return where it stands; null on ephemeral channels.
   *
   * Waits while offline and is sent again after a reconnect, always under one idempotency key: the event happens once.
   *
   * @throws RequestFailed the server refuses it.
   * @throws ClientClosed the client ended first; whether the event happened is unknown.
   * @throws TypeError, RangeError the data has no form on the wire.
   */
  publish(data: unknown, options: PublishOptions = {}): Promise<Position | null> {
    const uid = options.uid ?? this.#host.newId();
    const { name, key } = options;
    const publication = { channel: this.name, name, data, key, uid };
    return this.#host.call("publish", publication) as Promise<Position | null>;
  }

  /**
   * Return events of the past, and the channel's top.
   *
   * @throws RequestFailed the server refuses it.
   */
  history(options: HistoryOptions = {}): Promise<HistoryPage> {
    const { limit = 100, since, reverse } = options;
    const query = { channel: this.name, since, limit, reverse: reverse || null };
    return this.#host.call("history", query) as Promise<HistoryPage>;
  }

  /** @internal Take a fact about this channel; one of an older subscription is none of ours. */
  take(fact: ChannelFact): void {
    if (fact.generation !== this.#generation) return;
    if (fact.kind === "presence") {
      this.presence.take(fact.members);
      return;
    }
    if (fact.kind === "subscription") {
      this.#state = fact.state;
      this.#tell((listeners) => listeners.onState?.(fact));
      if (fact.state === "ended" && fact.generation === this.#generation) this.#forget();
      return;
    }
    const { position } = fact.kind === "event" ? fact.event : fact;
    if (position || fact.kind === "reset") this.#position = position;
    if (fact.kind === "event") this.#tell((listeners) => listeners.onEvent?.(fact.event));
    if (fact.kind === "reset") this.#tell((listeners) => listeners.onReset?.(fact));
  }

  #tell(visit: (listeners: ChannelListeners) => void): void {
    callAll(this.#listeners, visit, this.#host.engine);
  }

  #join(since: Position | null, wantsPresence: boolean): void {
    this.#host.engine.run(() => {
      const { core } = this.#host.engine;
      const hasPresence = wantsPresence || this.presence.isWatched;
      if (this.#generation !== 0) {
        if (hasPresence) core.channels.watchPresence(this.name);
        return;
      }
      this.#position = since;
      this.#generation = core.channels.subscribe(this.name, since, hasPresence);
    });
  }

  #leaveSoon(): void {
    const generation = this.#generation;
    this.#host.engine.outside.setTimeout(() => {
      const isUsed = this.#listeners.size > 0 || this.presence.isWatched;
      if (isUsed || generation === 0 || generation !== this.#generation) return;
      this.#forget();
      this.#host.engine.run(() => this.#host.engine.core.channels.unsubscribe(this.name));
    }, 0);
  }

  /** The subscription is over: whoever listens again begins a new one. */
  #forget(): void {
    this.#generation = 0;
    this.#state = "unsubscribed";
    this.#listeners.clear();
    this.presence.forget();
  }
}

/** Who is present in one channel, and what this client announces there. */
export class ChannelPresence {
  readonly #name: string;
  readonly #host: Host;
  readonly #subscription: { join(): void; leave(): void };
  readonly #listeners: Listeners<readonly Member[]> = new Set();
  #members: readonly Member[] = [];
  #others: readonly Member[] = [];

  /** Made by `Channel`. */
  constructor(name: string, host: Host, subscription: { join(): void; leave(): void }) {
    this.#name = name;
    this.#host = host;
    this.#subscription = subscription;
  }

  /**
   * All members, in order of arrival; offline, those known last. The same array until something changes.
   *
   * All tabs and devices of a user are one member, with a state each. Without a token every client is one, also every tab of
   * those that share a connection.
   */
  get members(): readonly Member[] {
    return this.#members;
  }

  /**
   * All members but the one that this client is announced in: its own user. The same array until something changes.
   *
   * It is not known otherwise which one that is: until this client has announced itself, and the server has told that, nobody is
   * left out, not even the user's other tabs.
   */
  get others(): readonly Member[] {
    return this.#others;
  }

  /** @internal Whether anybody listens. */
  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  /** Be told the others after every change; return the function that ends that. */
  subscribe(listener: (others: readonly Member[]) => void): () => void {
    const stop = listen(this.#listeners, listener);
    this.#subscription.join();
    return () => {
      stop();
      this.#subscription.leave();
    };
  }

  /**
   * Announce a state of at most 4 KiB; it is announced again after every reconnect. A newer one supersedes it on its way.
   *
   * @throws RequestFailed the server refuses it.
   */
  async set(state: unknown): Promise<void> {
    await this.#host.call("presence", { channel: this.#name, state });
  }

  /** Take the announcement back. */
  leave(): Promise<void> {
    return this.set(null);
  }

  /** @internal Take the members; for `Channel`. */
  take(members: readonly Member[]): void {
    const { clientId, engine } = this.#host;
    this.#members = members;
    this.#others = members.filter(({ states }) => !states.some(({ client }) => client === clientId));
    callAll(this.#listeners, this.#others, engine);
  }

  /** @internal Nobody is known to be there any more, which is the last that is told; for `Channel`. */
  forget(): void {
    if (this.#members.length > 0) this.take([]);
    this.#listeners.clear();
  }
}
