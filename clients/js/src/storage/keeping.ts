/** Keeps mutations of a client in a store, one call after the other, and says when they may be sent. */

import type { ToKeep } from "../core/entries/facts.js";
import { Pending } from "../core/entries/pending.js";
import type { StateRoom } from "../core/entries/room.js";
import { isFinal } from "../core/tables.js";
import { newId } from "../shell/environment.js";
import type { Keeping, StoreHost } from "../shell/keeping.js";
import type { PendingStore, StoredMutation } from "../shell/pending-store.js";
import type { ClientClaim } from "../wire/messages.js";

/**
 * Clients that this one speaks for: the first frame has 4,096 bytes (SPEC 4.1) for a token, of some 2 kB at most, and claims of
 * some 120 bytes each. Mutations of further ones stay where they are, for a later page.
 */
const MAX_CLAIMS = 16;

/** Let a client use a store: the member `join` of every `PendingStore`, `readonly join = joinStore`. */
export function joinStore(this: PendingStore, host: StoreHost): Keeping {
  return new Keeper(this, host);
}

/** The one user of a store. */
class Keeper implements Keeping {
  readonly #store: PendingStore;
  readonly #host: StoreHost;
  /** Number in this client to id in the store. */
  readonly #ids = new Map<number, string>();
  /** Everything that was asked of the store. */
  #last: Promise<void> | null = null;
  #stopLooking: (() => void) | undefined;
  /** Closes the clients that send what other pages left. */
  readonly #closers = new Set<() => void>();

  constructor(store: PendingStore, host: StoreHost) {
    this.#store = store;
    this.#host = host;
  }

  load(): Promise<void> {
    this.#last ??= this.#load();
    return this.#last;
  }

  async #load(): Promise<void> {
    const { engine } = this.#host;
    let stored: readonly StoredMutation[] = [];
    try {
      stored = await this.#store.load();
    } catch (error) {
      this.#report(error);
    }
    const claims = new Map<string, ClientClaim>();
    stored = stored.filter(({ claim }) => {
      if (claim === null || claims.has(claim.client)) return true;
      return claims.size < MAX_CLAIMS && claims.set(claim.client, claim);
    });
    engine.run(() => {
      const { connection, entries } = engine.core;
      if (isFinal(connection.state)) return;
      connection.claims = [...claims.values()];
      const ids = restored(entries, [...claims.keys()], stored);
      for (const [place, id] of ids.entries()) this.#ids.set(id, stored[place]?.id ?? "");
    });
  }

  #report(error: unknown): void {
    this.#host.engine.environment.reportError(error);
  }

  /** Their ids are looked up when it is their turn: while `restored` runs nobody has them yet. */
  keep(mutations: readonly ToKeep[]): void {
    const { engine } = this.#host;
    const { claims } = engine.core.connection;
    const stored = () =>
      mutations.map(({ id, client, ...rest }) => {
        const known = this.#ids.get(id) ?? newId(engine.environment);
        this.#ids.set(id, known);
        return { ...rest, id: known, claim: claims.find((claim) => claim.client === client) ?? null };
      });
    void this.#after(() => this.#store.append(stored())).then(() =>
      engine.run(() => engine.core.entries.kept(mutations)),
    );
  }

  drop(ids: readonly number[]): void {
    void this.#after(async () => {
      const known = ids.map((id) => this.#ids.get(id)).filter((id) => id !== undefined);
      for (const id of ids) this.#ids.delete(id);
      if (known.length > 0) await this.#store.remove(known);
    });
  }

  #after(run: () => Promise<void>): Promise<void> {
    this.#last = this.load()
      .then(run)
      .catch((error) => this.#report(error));
    return this.#last;
  }

  look(): void {
    this.#stopLooking ??= this.#store.onLeft?.((left) => this.#send(left));
  }

  stop(): void {
    this.#stopLooking?.();
    for (const close of this.#closers) close();
  }

  /** Send what another page left, by a client of its own: a session speaks for those clients alone that its hello named. */
  #send(left: readonly StoredMutation[]): void {
    const store = this.#store;
    const kept = {
      load: async () => left,
      append: store.append.bind(store),
      remove: store.remove.bind(store),
      join: joinStore,
    };
    const client = this.#host.another(kept);
    const close = () => {
      this.#closers.delete(close);
      client.close();
    };
    this.#closers.add(close);
    let numLeft = left.length;
    client.onOutcome(() => {
      numLeft -= 1;
      if (numLeft === 0) close();
    });
    client.connect();
  }
}

/**
 * Give a room what earlier pages left, before anything that was made here; only before the first connection.
 *
 * @param clients Those the session will speak for, in this order.
 * @param left In the order they were made.
 * @returns The ids they have here, in the same order.
 */
function restored(room: StateRoom, clients: readonly string[], left: readonly StoredMutation[]): number[] {
  const made = left.map(({ claim, mid, name, args, madeAtMs }) => {
    const slot = Math.max(clients.indexOf(claim?.client ?? ""), 0);
    const pending = new Pending(room.nextId(), slot, name, args, madeAtMs);
    pending.mid = mid;
    pending.isSent = claim !== null;
    pending.keptAs = `${mid} ${claim?.client ?? null}`;
    return pending;
  });
  const all = [...made, ...room.all.values()];
  room.all.clear();
  for (const one of all) room.all.set(one.id, one);
  for (let slot = 0; slot < Math.max(clients.length, 1); slot++) {
    const own = made.filter((one) => one.slot === slot);
    // Sent ones first, by number: a number stands for one mutation for ever.
    own.sort(
      (one, other) => Number(other.isSent) - Number(one.isSent) || (one.isSent ? one.mid - other.mid : 0),
    );
    room.queueOf(slot).restore(clients[slot] ?? null, own);
  }
  room.foldAnew();
  return made.map(({ id }) => id);
}
