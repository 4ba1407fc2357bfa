/** A store that outlives the clients of a test. */

import type { PendingStore, StoredMutation } from "../../src/index.ts";
import { joinStore } from "../../src/storage/index.ts";

/** Keeps mutations in memory, in order, as a store on a disk does. */
export class KeptStore implements PendingStore {
  readonly join = joinStore;
  readonly kept = new Map<string, StoredMutation>();
  /** What was asked, in order. */
  readonly calls: string[] = [];
  /** Waited for before anything is kept. */
  gate: Promise<void> = Promise.resolve();
  /** Thrown by the next call. */
  failure: Error | null = null;

  #called(name: string): void {
    this.calls.push(name);
    const { failure } = this;
    this.failure = null;
    if (failure !== null) throw failure;
  }

  async load(): Promise<readonly StoredMutation[]> {
    this.#called("load");
    return structuredClone([...this.kept.values()]);
  }

  async append(mutations: readonly StoredMutation[]): Promise<void> {
    this.#called("append");
    await this.gate;
    for (const one of mutations) this.kept.set(one.id, structuredClone(one));
  }

  async remove(ids: readonly string[]): Promise<void> {
    this.#called("remove");
    for (const id of ids) this.kept.delete(id);
  }
}
