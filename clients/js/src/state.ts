/** The state side of a client: its collections and mutations, and who waits for them. */

import { Collection, type CollectionHost } from "./collection.js";
import type { EntriesNews, Invalidation, MutationOutcome, ViewChange } from "./core/entries/facts.js";
import { ClientClosed } from "./core/errors.js";
import { isFinal } from "./core/tables.js";
import { callAll, type Listeners } from "./listeners.js";
import { type Mutation, Waiters } from "./mutation.js";
import type { Host } from "./shell/engine.js";
import type { Keeping } from "./shell/keeping.js";

/** Collections by name, waiting promises by mutation. */
export class ClientState {
  readonly onInvalidate: Listeners<Invalidation> = new Set();
  readonly onOutcome: Listeners<MutationOutcome> = new Set();
  readonly onPending: Listeners<number> = new Set();
  readonly #host: CollectionHost;
  readonly #waiters = new Waiters();
  readonly #collections = new Map<string, Collection>();
  readonly #keeping: Keeping | undefined;
  #whenSettled: (() => void)[] = [];
  #numPendingTold = 0;

  /**
   * @param host What collections need, but for mutations.
   * @param keeping Keeps mutations before they are sent; undefined: they live in memory.
   */
  constructor(host: Host, keeping: Keeping | undefined) {
    this.#host = { ...host, mutate: (name, args) => this.mutate(name, args) };
    this.#keeping = keeping;
  }

  /** Call `run` once what earlier pages left is there. */
  whenLoaded(run: () => void): void {
    if (!this.#keeping) run();
    else {
      void this.#keeping.load().then(() => {
        this.#tellPending();
        run();
      });
    }
  }

  /** Return the collection of this name: always the same object. */
  collection(name: string): Collection {
    let collection = this.#collections.get(name);
    if (collection === undefined) {
      collection = new Collection(name, this.#host);
      this.#collections.set(name, collection);
    }
    return collection;
  }

  /** Make a mutation; see `Client.mutate`. */
  mutate(name: string, args: unknown): Mutation {
    const { core } = this.#host.engine;
    if (isFinal(core.state)) throw core.connection.error ?? new ClientClosed();
    const mutation = this.#host.engine.run((now) => {
      const [id, local] = core.entries.mutate(name, args ?? null, now);
      return { id, local, server: this.#waiters.wait(id) };
    });
    this.#tellPending();
    return mutation;
  }

  /** How many mutations are not settled. */
  get numPending(): number {
    return this.#host.engine.core.entries.pending.length;
  }

  #tellPending(): void {
    const { numPending } = this;
    if (numPending === this.#numPendingTold) return;
    this.#numPendingTold = numPending;
    callAll(this.onPending, numPending, this.#host.engine);
  }

  /** Wait until no mutation is pending. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.#whenSettled.push(resolve);
      this.#tellSettled();
    });
  }

  #tellSettled(): void {
    if (this.numPending > 0) return;
    for (const resolve of this.#whenSettled.splice(0)) resolve();
  }

  /** Take a fact of the core. */
  take(fact: EntriesNews): void {
    const { engine } = this.#host;
    if (fact.what === "views") this.#viewsChanged(fact.changed);
    else if (fact.what === "outcome") {
      this.#waiters.settle(fact.outcome);
      callAll(this.onOutcome, fact.outcome, engine);
      this.#tellSettled();
      this.#tellPending();
    } else if (fact.what === "invalidated") callAll(this.onInvalidate, fact.invalidation, engine);
    else if (fact.what === "keep") this.#keeping?.keep(fact.mutations);
    else if (fact.what === "drop") this.#keeping?.drop(fact.ids);
    else {
      for (const collection of this.#collections.values()) {
        collection.ended(fact.watch, fact.code, fact.message);
      }
    }
  }

  /** All collections change before anybody is told, so that listeners never see one ahead of another. */
  #viewsChanged(changed: readonly ViewChange[]): void {
    const byCollection = new Map<Collection, ViewChange[]>();
    for (const change of changed) {
      const collection = this.collection(change[0].selection.collection);
      const known = byCollection.get(collection);
      if (known === undefined) byCollection.set(collection, [change]);
      else known.push(change);
    }
    for (const [collection, own] of byCollection) collection.take(own);
    for (const [collection, own] of byCollection) collection.tell(own);
  }
}
