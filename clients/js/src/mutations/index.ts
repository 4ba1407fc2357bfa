/**
 * What an application imports from `syncd-client/mutations`: the mutations that are not confirmed, and taking them back.
 *
 * The list stands between a room and what keeps its mutations, where it hears of every step: who lists none pays nothing.
 */

import type { Client } from "../client.js";
import type { Keeping } from "../core/entries/facts.js";
import type { Pending } from "../core/entries/pending.js";
import type { StateRoom } from "../core/entries/room.js";
import { copied } from "../core/entries/values.js";
import { callAll, type Listeners, listen } from "../listeners.js";
import type { Engine } from "../shell/engine.js";

/**
 * How far a mutation is.
 *
 * - `queued`: it was never sent, and can be cancelled.
 * - `sent`: it was sent, perhaps by an earlier page; the server may have decided it.
 * - `decided`: the server has, and what is shown does not have all of its effect yet.
 */
export type MutationStatus = "queued" | "sent" | "decided";

/** A mutation that is not confirmed. The same object until its status changes. */
export interface PendingMutation {
  /** As `mutate` returned it, and as `collection.pending(key)` names it; one that an earlier page left has a new one. */
  readonly id: number;
  /** Full name of its mutator. */
  readonly name: string;
  /** What it was made with, as the server gets it; null for nothing. Never change it. */
  readonly args: unknown;
  readonly status: MutationStatus;
  /** The server's wall clock when it was made, as this client knew it; ms since 1970. */
  readonly madeAtMs: number;
}

/** What is pending in one client, as it is listed. */
class MutationList implements Keeping {
  readonly #engine: Engine<StateRoom>;
  /** What keeps the mutations; null: nothing does. */
  readonly #kept: Keeping | null;
  readonly #listeners: Listeners<void> = new Set();
  #list: readonly PendingMutation[] = [];
  /** As the listeners know it. */
  #told = this.#list;
  /** There was a step since it was listed. */
  #isStale = true;

  constructor(engine: Engine<StateRoom>) {
    this.#engine = engine;
    this.#kept = engine.core.entries.keeping;
  }

  /** Return the list of a client, made if there is none. */
  static of({ engine }: Client): MutationList {
    const { entries } = engine.core;
    if (entries.keeping instanceof MutationList) return entries.keeping;
    const list = new MutationList(engine);
    entries.keeping = list;
    return list;
  }

  get now(): readonly PendingMutation[] {
    if (!this.#isStale) return this.#list;
    this.#isStale = false;
    const before = this.#list;
    const known = new Map(before.map((one) => [one.id, one]));
    const now = this.#engine.core.entries.pending.map((one) => listed(one, known.get(one.id)));
    if (now.length !== before.length || now.some((one, place) => one !== before[place])) this.#list = now;
    return this.#list;
  }

  subscribe(listener: () => void): () => void {
    if (this.#listeners.size === 0) this.#told = this.now;
    return listen(this.#listeners, listener);
  }

  /** Told behind everything else that is told of a step: what is shown of entries has changed by then. */
  async #tell(): Promise<void> {
    await undefined;
    if (this.#told === this.now) return;
    this.#told = this.now;
    callAll(this.#listeners, undefined, this.#engine);
  }

  // ------------------------------------------------------------------------------- what it hears

  numbered(pending: Pending, client: string | null): void {
    this.#kept?.numbered(pending, client);
  }

  hasKept(pending: Pending): boolean {
    return this.#kept?.hasKept(pending) ?? true;
  }

  decided(id: number): void {
    this.#kept?.decided(id);
  }

  takenBack(id: number): void {
    this.#kept?.takenBack(id);
  }

  flush(): void {
    this.#kept?.flush();
    this.#isStale = true;
    if (this.#listeners.size > 0) void this.#tell();
  }
}

function listed(
  { id, name, args, nowMs, isSent, outcome }: Pending,
  known?: PendingMutation,
): PendingMutation {
  const status = outcome ? "decided" : isSent ? "sent" : "queued";
  if (known?.status === status) return known;
  return known ? { ...known, status } : { id, name, args: copied(args), status, madeAtMs: nowMs };
}

/**
 * Return the mutations of this client that are not confirmed, oldest first, those that earlier pages left included; the same
 * array until one of them changes. Those that other tabs made are not among them.
 */
export function pendingMutations(client: Client): readonly PendingMutation[] {
  return MutationList.of(client).now;
}

/**
 * Be told, in a microtask, when `pendingMutations` returns another array, however much has changed; return the function that
 * ends that.
 */
export function onMutationsChange(client: Client, listener: () => void): () => void {
  return MutationList.of(client).subscribe(listener);
}

/**
 * Take back a mutation that was never sent: what it predicted is gone at once, in other tabs too, its `server` is rejected with
 * `MutationFailed`, whose `status` is `unsent`, and the server never hears of it.
 *
 * A durable queue forgets it as well. A page that ends before the database has said so, or whose database has failed, may leave it
 * to a later page, which sends it.
 *
 * @param id As `mutate` returned it.
 * @returns False: nothing was done. It was sent and may take effect, it is over, or this client did not make it.
 */
export function cancelMutation(client: Client, id: number): boolean {
  const { engine } = client;
  const { entries } = engine.core;
  return engine.run(() => {
    const pending = entries.pending.find((one) => one.id === id);
    if (!pending || pending.isSent || pending.outcome) return false;
    const queue = entries.queueOf(pending.slot);
    const all = [...queue.undecided.values()];
    const left = all.filter((one) => one !== pending);
    entries.keeping?.takenBack(id);
    queue.renumber(left, (all[0]?.mid ?? 1) - 1);
    // It waits for nothing, so this step settles it.
    pending.outcome = {
      id,
      name: pending.name,
      status: "unsent",
      value: null,
      code: null,
      message: "It was taken back before it was sent.",
      positions: new Map(),
    };
    return true;
  });
}
