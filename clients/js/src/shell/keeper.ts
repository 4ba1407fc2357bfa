/** Keeps mutations in a store, one call after the other, and says when they may be sent. */

import type { ToKeep } from "../core/entries/facts.js";
import type { Left } from "../core/entries/room.js";
import type { ClientClaim } from "../wire/messages.js";
import type { PendingStore, StoredMutation } from "./pending-store.js";

/**
 * Clients that this one speaks for: the first frame has 4,096 bytes (SPEC 4.1) for a token, of some 2 kB at most, and claims of
 * some 120 bytes each. Mutations of further ones stay where they are, for a later page.
 */
const MAX_CLAIMS = 16;

/** What a keeper needs. */
export interface KeeperHost {
  /** The clients that the session speaks for now. */
  claims(): readonly ClientClaim[];
  /** Take what earlier pages left; return the numbers it has here: none where the client has ended. */
  restore(claims: readonly ClientClaim[], left: readonly Left[]): number[];
  /** These are kept. */
  kept(mutations: readonly ToKeep[]): void;
  /** Make an id that nobody else makes. */
  newId(): string;
  /** Take what the store threw. */
  report(error: unknown): void;
}

/** The one user of a store. */
export class Keeper {
  readonly #store: PendingStore;
  readonly #host: KeeperHost;
  /** Number in this client to id in the store. */
  readonly #ids = new Map<number, string>();
  /** Everything that was asked of the store. */
  #last: Promise<void> | null = null;

  constructor(store: PendingStore, host: KeeperHost) {
    this.#store = store;
    this.#host = host;
  }

  /** Load what earlier pages left, once; fulfilled when it is restored, or could not be loaded. */
  load(): Promise<void> {
    this.#last ??= this.#load();
    return this.#last;
  }

  async #load(): Promise<void> {
    let stored: readonly StoredMutation[] = [];
    try {
      stored = await this.#store.load();
    } catch (error) {
      this.#host.report(error);
    }
    const claims = new Map<string, ClientClaim>();
    stored = stored.filter(({ claim }) => {
      if (claim === null || claims.has(claim.client)) return true;
      return claims.size < MAX_CLAIMS && claims.set(claim.client, claim);
    });
    const left = stored.map(({ claim, mid, name, args, madeAtMs }) => {
      return { client: claim?.client ?? null, mid, name, args, madeAtMs };
    });
    const ids = this.#host.restore([...claims.values()], left);
    for (const [place, id] of ids.entries()) this.#ids.set(id, stored[place]?.id ?? "");
  }

  /** Have these kept. Their ids are looked up when it is their turn: while `restore` runs nobody has them yet. */
  keep(mutations: readonly ToKeep[]): void {
    const claims = this.#host.claims();
    const stored = () =>
      mutations.map(({ id, client, ...rest }) => {
        const known = this.#ids.get(id) ?? this.#host.newId();
        this.#ids.set(id, known);
        return { ...rest, id: known, claim: claims.find((claim) => claim.client === client) ?? null };
      });
    void this.#after(() => this.#store.append(stored())).then(() => this.#host.kept(mutations));
  }

  /** These are decided. */
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
      .catch((error) => this.#host.report(error));
    return this.#last;
  }
}
