/** The whole client as applications use it. Owns who waits for which mutation, and collections by name. */

import { ChannelsClient } from "./channels-client.js";
import { Collection } from "./collection.js";
import type { Invalidation, MutationOutcome, ViewChange } from "./core/entries/facts.js";
import { StateRoom } from "./core/entries/room.js";
import { ClientClosed, MutationFailed } from "./core/errors.js";
import type { Fact, JobResult } from "./core/facts.js";
import { found } from "./core/maps.js";
import { isFinal } from "./core/tables.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import { type Mutate, type Mutation, type MutatorMap, prepared } from "./mutation.js";
import type { ClientOptions } from "./options.js";
import type { Engine } from "./shell/engine.js";
import { completeEnvironment } from "./shell/environment.js";
import type { Kept } from "./shell/keeping.js";
import { Waiters } from "./waiters.js";
import type { Body } from "./wire/decode.js";

/**
 * A connection that comes back, and what is done over it: what `ChannelsClient` has, collections and mutations. Made by
 * `createClient`; does nothing before `connect`.
 */
export class Client<Own extends MutatorMap = Record<never, never>> extends ChannelsClient {
  /** @internal */
  declare readonly engine: Engine<StateRoom>;
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
  readonly #outcomes = new Waiters();
  readonly #collections = new Map<string, Collection>();
  readonly #onInvalidate: Listeners<Invalidation> = new Set();
  readonly #onOutcome: Listeners<MutationOutcome> = new Set();
  readonly #onPending: Listeners<number> = new Set();
  readonly #keeping: Kept | undefined;
  #numPendingTold = 0;
  #wantsConnection = false;

  /** Use `createClient`. */
  constructor(options: ClientOptions<Own>) {
    const { url, tabs, store } = options;
    const outside = completeEnvironment(options.environment);
    const mutate = (name: string, args?: unknown) => this.#mutate(name, args);
    const mutators = prepared(options.mutators ?? {}, mutate);
    super(
      options,
      tabs?.share(outside, url) ?? outside,
      (speech) => new StateRoom(speech, mutators, outside.wallNow() - outside.now()),
    );
    this.mutate = mutate as Mutate<Own>;
    const { engine } = this;
    const kept = tabs?.keep(store) ?? store;
    tabs?.join(engine.core.entries, (act) => engine.run(act));
    this.#keeping = kept?.join({
      engine,
      another: (other) => new Client({ ...options, tabs: undefined, store: other }),
    });
  }

  override connect(): void {
    this.#wantsConnection = true;
    const connect = () => {
      this.#tellPending();
      if (!isFinal(this.state)) this.#keeping?.look();
      if (this.#wantsConnection) super.connect();
    };
    // What earlier pages left comes first.
    if (this.#keeping) void this.#keeping.load().then(connect);
    else connect();
  }

  override disconnect(): void {
    this.#wantsConnection = false;
    super.disconnect();
  }

  /** Return the collection of this name: always the same object. */
  collection<Value = unknown>(name: string): Collection<Value> {
    return found(this.#collections, name, () => new Collection(name, this)) as Collection<Value>;
  }

  /** Wait until no mutation is pending, those of earlier pages included. */
  async settled(): Promise<void> {
    while (this.numPending > 0) {
      let stop!: () => void;
      await new Promise<number>((resolve) => {
        stop = this.onPending(resolve);
      });
      stop();
    }
  }

  /** How many mutations are not settled, those of earlier pages included. */
  get numPending(): number {
    return this.engine.core.entries.pending.length;
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
    return this.call(kind, body as Body) as Promise<JobResult>;
  }

  #mutate(name: string, args: unknown): Mutation {
    const { connection, entries } = this.engine.core;
    if (isFinal(connection.state)) throw connection.error ?? new ClientClosed();
    const mutation = this.engine.run((now) => {
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
    callAll(this.#onPending, numPending, this.engine);
  }

  // ------------------------------------------------------------------------------- facts

  /** @internal */
  override told(fact: Fact): void {
    if (fact.kind === "views") this.#viewsChanged(fact.changed);
    else if (fact.kind === "outcome") {
      const { id, status, value, code, message } = fact.outcome;
      const error = status === "ok" ? null : new MutationFailed(status, code, message);
      this.#outcomes.settle(id, error, value);
      callAll(this.#onOutcome, fact.outcome, this.engine);
      this.#tellPending();
    } else if (fact.kind === "invalidated") callAll(this.#onInvalidate, fact.invalidation, this.engine);
    else if (fact.kind === "ended") {
      for (const collection of this.#collections.values()) collection.ended(fact);
    } else {
      if (fact.kind === "state" && isFinal(fact.state)) this.#keeping?.stop();
      super.told(fact);
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
