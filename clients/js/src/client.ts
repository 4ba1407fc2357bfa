/** The client as applications use it. Owns who waits for what: replies by request id, channels by name. */

import { Channel } from "./channel.js";
import { Collection, type CollectionHost } from "./collection.js";
import { ClientCore } from "./core/core.js";
import type { Invalidation, MutationOutcome, ViewChange } from "./core/entries/facts.js";
import { StateRoom } from "./core/entries/room.js";
import { ClientClosed, MutationFailed, RequestFailed } from "./core/errors.js";
import type { Fact, JobResult, RequestResult, StateChanged } from "./core/facts.js";
import { found } from "./core/maps.js";
import { type ConnectionState, isFinal } from "./core/tables.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import { type Mutate, type Mutation, type MutatorMap, prepared } from "./mutation.js";
import type { ClientOptions, ConnectionStatus } from "./options.js";
import { Engine } from "./shell/engine.js";
import { completeEnvironment, newId } from "./shell/environment.js";
import type { Kept } from "./shell/keeping.js";
import { Waiters } from "./waiters.js";
import type { Body } from "./wire/decode.js";

/**
 * Requests that may wait for an answer; further ones are refused (REFUSE). Half of what a session may send at once, so
 * that resending all after a reconnect meets no rate limit.
 */
const MAX_REQUESTS = 1024;

/** A connection that comes back, and what is done over it. Made by `createClient`; does nothing before `connect`. */
export class Client<Own extends MutatorMap = Record<never, never>> {
  /**
   * Make a mutation: predict it, keep it, and send it until the server has decided it, which takes effect exactly once.
   *
   * By its full name, `client.mutate("orders.ship", args)`, or as a method where the mutator is registered.
   *
   * @throws MutationFailed the local mutator rejected it by what this client knows. Or whatever it threw.
   * @throws RequestFailed `too_large`; `overloaded`: 900 mutations are pending.
   * @throws TypeError, RangeError the arguments have no form on the wire.
   * @throws ClientClosed, ConnectionStopped the client has ended. In every case nothing was queued and nothing changed.
   */
  readonly mutate: Mutate<Own>;
  readonly #engine: Engine<StateRoom>;
  readonly #host: CollectionHost;
  readonly #replies = new Waiters();
  readonly #outcomes = new Waiters();
  readonly #collections = new Map<string, Collection>();
  readonly #channels = new Map<string, Channel>();
  readonly #onState: Listeners<ConnectionStatus> = new Set();
  readonly #onInvalidate: Listeners<Invalidation> = new Set();
  readonly #onOutcome: Listeners<MutationOutcome> = new Set();
  readonly #onPending: Listeners<number> = new Set();
  #numPendingTold = 0;
  #wantsConnection = false;
  readonly #keeping: Kept | undefined;
  #status: ConnectionStatus = {
    state: "idle",
    code: null,
    reason: "",
    attempt: 0,
    retryAt: null,
    hasConnected: false,
  };

  /** Use `createClient`. */
  constructor(options: ClientOptions<Own>) {
    const outside = completeEnvironment(options.environment);
    const environment = options.tabs?.share(outside, options.url) ?? outside;
    const getToken = options.getToken ?? null;
    const store = options.tabs ? options.tabs.keep(options.store) : options.store;
    const { mutators, mutate } = prepared(options.mutators ?? ({} as Own), (name, args) =>
      this.#mutate(name, args),
    );
    this.mutate = mutate;
    const core = new ClientCore(
      () => environment.random(),
      (speech) => new StateRoom(speech, { mutators }),
      { group: options.group ?? null, hasTokenSource: getToken !== null },
    );
    this.#engine = new Engine(core, environment, { url: options.url, getToken }, (fact) => this.#tell(fact));
    options.tabs?.join(core.entries, (act) => this.#engine.run(act));
    this.#host = {
      engine: this.#engine,
      call: (kind, body) => this.#call(kind, body),
      mutate,
    };
    this.#keeping = store?.join({
      engine: this.#engine,
      another: (other) => new Client({ ...options, tabs: undefined, store: other }),
    });
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
    return this.#engine.core.connection.claims[0]?.client ?? null;
  }

  /** Begin to connect, or go on after `disconnect`; in `needs-auth`, ask `getToken` again. Returns at once. */
  connect(): void {
    this.#wantsConnection = true;
    if (this.#keeping) void this.#keeping.load().then(() => this.#connect());
    else this.#connect();
  }

  /** What earlier pages left is there. */
  #connect(): void {
    this.#tellPending();
    if (!isFinal(this.state)) this.#keeping?.look();
    if (this.#wantsConnection) this.#engine.connect();
  }

  /** End the connection until `connect`. What waits for it goes on waiting. */
  disconnect(): void {
    this.#wantsConnection = false;
    this.#engine.run(() => this.#engine.core.suspend("application", "The application disconnected."));
  }

  /** Leave and end for good: promises that wait are rejected with `ClientClosed`, listeners are told. */
  close(): void {
    this.#engine.run(() => this.#engine.core.close());
  }

  /** Dial at once if a dial is waited for, and find out whether a connection that seems to be there still is. */
  wake(): void {
    this.#engine.run((now) => this.#engine.core.connection.wake(now));
  }

  /** Use a newer token of the same user, at once and on later connections. For another user make another client. */
  setToken(token: string): void {
    this.#engine.useToken(token);
  }

  /** Be told every change of `status`; return the function that ends that. */
  onState(listener: (status: ConnectionStatus) => void): () => void {
    return listen(this.#onState, listener);
  }

  /** Return the channel of this name, `namespace:name`: always the same object. */
  channel(name: string): Channel {
    return found(this.#channels, name, () => new Channel(name, this.#host));
  }

  /** Return the collection of this name: always the same object. */
  collection<Value = unknown>(name: string): Collection<Value> {
    return found(this.#collections, name, () => new Collection(name, this.#host)) as Collection<Value>;
  }

  /** Wait until no mutation is pending, those of earlier pages included. */
  async settled(): Promise<void> {
    while (this.numPending > 0) {
      await new Promise<void>((resolve) => {
        const stop = listen(this.#onPending, () => {
          stop();
          resolve();
        });
      });
    }
  }

  /** How many mutations are not settled, those of earlier pages included. */
  get numPending(): number {
    return this.#engine.core.entries.pending.length;
  }

  /** Be told every change of `numPending`; return the function that ends that. */
  onPending(listener: (numPending: number) => void): () => void {
    return listen(this.#onPending, listener);
  }

  /** Be told entries that may have changed at their source, of watched collections; return the function that ends that. */
  onInvalidate(listener: (invalidation: Invalidation) => void): () => void {
    return listen(this.#onInvalidate, listener);
  }

  /** Be told how every mutation ended, those of earlier pages included; return the function that ends that. */
  onOutcome(listener: (outcome: MutationOutcome) => void): () => void {
    return listen(this.#onOutcome, listener);
  }

  /**
   * Make one of the operators' requests, and return its answer. `syncd-client/rebuild` is made of these.
   *
   * @throws RequestFailed the server refuses it.
   */
  request(kind: "rebuild" | "rebuild_cancel", body: object): Promise<JobResult> {
    return this.#call(kind, body as Body) as Promise<JobResult>;
  }

  /** Make a key for a new entry, or any other name, that nobody else makes: 32 hexadecimal digits. */
  newId(): string {
    return newId(this.#engine.outside);
  }

  async #call(kind: string, body: Body): Promise<RequestResult> {
    if (this.#replies.size >= MAX_REQUESTS) {
      throw new RequestFailed("overloaded", `${MAX_REQUESTS} requests are pending.`, true);
    }
    const { core } = this.#engine;
    return (await this.#engine.run(() => this.#replies.wait(core.requests.ask(kind, body)))) as RequestResult;
  }

  #mutate(name: string, args: unknown): Mutation {
    const { connection, entries } = this.#engine.core;
    if (isFinal(connection.state)) throw connection.error ?? new ClientClosed();
    const mutation = this.#engine.run((now) => {
      const [id, local] = entries.mutate(name, args ?? null, now);
      const server = this.#outcomes.wait(id);
      server.catch(() => undefined); // Nobody has to wait for it.
      return { id, local, server };
    });
    this.#tellPending();
    return mutation;
  }

  #tellPending(): void {
    const { numPending } = this;
    if (numPending === this.#numPendingTold) return;
    this.#numPendingTold = numPending;
    callAll(this.#onPending, numPending, this.#engine);
  }

  // ------------------------------------------------------------------------------- facts

  #tell(fact: Fact): void {
    if (fact.kind === "state") this.#stateChanged(fact);
    else if (fact.kind === "settled") this.#replies.settle(fact.requestId, fact.error, fact.result);
    else if (fact.kind === "complaint") {
      this.#engine.outside.log(`syncd: ${fact.code}: ${fact.message}`);
    } else if (fact.kind === "views") this.#viewsChanged(fact.changed);
    else if (fact.kind === "outcome") {
      const { id, status, value, code, message } = fact.outcome;
      const error = status === "ok" ? null : new MutationFailed(status, code, message);
      this.#outcomes.settle(id, error, value);
      callAll(this.#onOutcome, fact.outcome, this.#engine);
      this.#tellPending();
    } else if (fact.kind === "invalidated") callAll(this.#onInvalidate, fact.invalidation, this.#engine);
    else if (fact.kind === "ended") {
      const { watch, code, message } = fact;
      for (const collection of this.#collections.values()) collection.ended(watch, code, message);
    } else if (this.#engine.core.state !== "closed" || fact.kind === "subscription") {
      // A listener may have closed the client: what still waits is not told, but for the end itself.
      this.#channels.get(fact.channel)?.take(fact);
    }
  }

  /** All collections change before anybody is told, so that listeners never see one ahead of another. */
  #viewsChanged(changed: readonly ViewChange[]): void {
    const byCollection = new Map<Collection, ViewChange[]>();
    for (const change of changed) {
      const collection = this.collection(change[0].extent.collection);
      found(byCollection, collection, () => [] as ViewChange[]).push(change);
    }
    for (const [collection, own] of byCollection) collection.take(own);
    for (const [collection, own] of byCollection) collection.tell(own);
  }

  #stateChanged({ state, code, reason, attempt, retryAt }: StateChanged): void {
    const { outside } = this.#engine;
    const wallRetryAt = retryAt === null ? null : outside.wallNow() + retryAt - outside.now();
    const hasConnected = this.#status.hasConnected || state === "connected";
    const status = { state, code, reason, attempt, retryAt: wallRetryAt, hasConnected };
    this.#status = status;
    if (isFinal(state)) this.#keeping?.stop();
    callAll(this.#onState, status, this.#engine);
  }
}

/**
 * Make a client. Nothing happens before `client.connect()`: subscriptions and requests may be made before and wait.
 *
 * @throws TypeError the platform has no WebSocket and none is given.
 */
export function createClient<const Own extends MutatorMap = Record<never, never>>(
  options: ClientOptions<Own>,
): Client<Own> {
  return new Client(options);
}
