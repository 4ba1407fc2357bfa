/**
 * A client as far as channels go: the connection, its status, requests and channels.
 *
 * Owns who waits for what: replies by request id, channels by name. `Client` is one with collections and mutations.
 */

import { Channel } from "./channel.js";
import { ClientCore } from "./core/core.js";
import type { EntriesNews } from "./core/entries/facts.js";
import type { EntriesRoom, OpenEntries } from "./core/entries.js";
import { RequestFailed } from "./core/errors.js";
import type { Fact, RequestResult, StateChanged } from "./core/facts.js";
import { found } from "./core/maps.js";
import type { ConnectionState } from "./core/tables.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import type { ChannelsClientOptions, ConnectionStatus } from "./options.js";
import { Engine } from "./shell/engine.js";
import { type Environment, newId } from "./shell/environment.js";
import { Waiters } from "./waiters.js";
import type { Body } from "./wire/decode.js";

/**
 * Requests that may wait for an answer; further ones are refused (REFUSE). Half of what a session may send at once, so
 * that resending all after a reconnect meets no rate limit.
 */
const MAX_REQUESTS = 1024;

/** The status of a client that was not told to connect. */
export const IDLE: ConnectionStatus = {
  state: "idle",
  code: null,
  reason: "",
  attempt: 0,
  retryAt: null,
  hasConnected: false,
};

/** What there is to tell without a room of entries, and what is left when `Client` has taken what its room tells. */
type CoreFact = Exclude<Fact, EntriesNews>;

/**
 * A connection that comes back, and channels over it. Made by `createClient` of `syncd-client/channels`; does nothing before
 * `connect`. Every `Client` is one.
 */
export class ChannelsClient {
  /** @internal */
  readonly engine: Engine;
  readonly #replies = new Waiters();
  readonly #channels = new Map<string, Channel>();
  readonly #onState: Listeners<ConnectionStatus> = new Set();
  #status = IDLE;

  /** Made by `createClient`. */
  constructor(
    options: ChannelsClientOptions,
    environment: Environment,
    openEntries: OpenEntries<EntriesRoom>,
  ) {
    const { url, getToken = null, group = null } = options;
    const core = new ClientCore(() => environment.random(), openEntries, {
      group,
      hasTokenSource: getToken !== null,
    });
    this.engine = new Engine(core, environment, { url, getToken }, (fact) => this.told(fact as CoreFact));
  }

  /** What the connection is doing. */
  get state(): ConnectionState {
    return this.#status.state;
  }

  /** What the connection is doing and why; the same object until something changes. */
  get status(): ConnectionStatus {
    return this.#status;
  }

  /** The id the server gave this client; it stays over reconnects. Null before the first connection. */
  get clientId(): string | null {
    return this.engine.core.connection.claims[0]?.client ?? null;
  }

  /** Begin to connect, or go on after `disconnect`; in `needs-auth`, ask `getToken` again. Returns at once. */
  connect(): void {
    this.engine.connect();
  }

  /** End the connection until `connect`. What waits for it goes on waiting. */
  disconnect(): void {
    this.engine.run(() => this.engine.core.suspend("application", "The application disconnected."));
  }

  /** Leave and end for good: promises that wait are rejected with `ClientClosed`, listeners are told. */
  close(): void {
    this.engine.run(() => this.engine.core.close());
  }

  /** Dial at once if a dial is waited for, and find out whether a connection that seems to be there still is. */
  wake(): void {
    this.engine.run((now) => this.engine.core.connection.wake(now));
  }

  /** Use a newer token of the same user, at once and on later connections. For another user make another client. */
  setToken(token: string): void {
    this.engine.useToken(token);
  }

  /** Be told every change of `status`; return the function that ends that. */
  onState(listener: (status: ConnectionStatus) => void): () => void {
    return listen(this.#onState, listener);
  }

  /** Return the channel of this name, `namespace:name`: always the same object. */
  channel(name: string): Channel {
    return found(this.#channels, name, () => new Channel(name, this));
  }

  /** Make a key for a new entry, or any other name, that nobody else makes: 32 hexadecimal digits. */
  newId(): string {
    return newId(this.engine.outside);
  }

  /** @internal Make a request, and wait for its answer. */
  async call(kind: string, body: Body): Promise<RequestResult> {
    if (this.#replies.size >= MAX_REQUESTS) {
      throw new RequestFailed("overloaded", `${MAX_REQUESTS} requests are pending.`, true);
    }
    const answer = this.engine.run(() => this.#replies.wait(this.engine.core.requests.ask(kind, body)));
    return answer as Promise<RequestResult>;
  }

  /** @internal Take a fact. Those of collections and mutations are taken by `Client`. */
  told(fact: CoreFact): void {
    if (fact.kind === "state") this.#stateChanged(fact);
    else if (fact.kind === "settled") this.#replies.settle(fact.requestId, fact.error, fact.result);
    else if (fact.kind === "complaint") {
      this.engine.outside.log(`syncd: ${fact.code}: ${fact.message}`);
    } else if (this.engine.core.state !== "closed" || fact.kind === "subscription") {
      // A listener may have closed the client: what still waits is not told, but for the end itself.
      this.#channels.get(fact.channel)?.take(fact);
    }
  }

  #stateChanged({ kind: _, ...known }: StateChanged): void {
    const { outside } = this.engine;
    const { state, retryAt } = known;
    this.#status = {
      ...known,
      retryAt: retryAt === null ? null : outside.wallNow() + retryAt - outside.now(),
      hasConnected: this.#status.hasConnected || state === "connected",
    };
    callAll(this.#onState, this.#status, this.engine);
  }
}
