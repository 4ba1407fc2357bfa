/** Keeps mutations of a client in a store, one call after the other, and says when they may be sent. */

import type { Keeping } from "../core/entries/facts.js";
import { Pending } from "../core/entries/pending.js";
import type { StateRoom } from "../core/entries/room.js";
import { isFinal } from "../core/tables.js";
import { newId } from "../shell/environment.js";
import type { Kept, StoreHost } from "../shell/keeping.js";
import type { PendingStore, StoredMutation } from "../shell/pending-store.js";
import type { ClientClaim } from "../wire/messages.js";

/**
 * Clients that this one speaks for: the first frame has 4,096 bytes (SPEC 4.1) for a token, of some 2 kB at most, and claims of
 * some 120 bytes each. Mutations of further ones stay where they are, for a later page.
 */
const MAX_CLAIMS = 16;

/** Let a client use a store: the member `join` of every `PendingStore`, `readonly join = joinStore`. */
export function joinStore(this: PendingStore, host: StoreHost): Kept {
  const keeper = new Keeper(this, host);
  host.engine.core.entries.keeping = keeper;
  return keeper;
}

interface ToKeep {
  readonly pending: Pending;
  readonly client: string | null;
  readonly mid: number;
}

/** How soon what others left is tried again once its session is denied. */
const DENIED_MS = 15_000;

const placeOf = (mid: number, client: string | null | undefined): string => `${mid} ${client ?? ""}`;

/** The one user of a store. */
class Keeper implements Kept, Keeping {
  readonly #store: PendingStore;
  readonly #host: StoreHost;
  /** Number in this client to id in the store. */
  readonly #ids = new Map<number, string>();
  /** Under which client and number a mutation is to be kept, and whether it is. */
  readonly #kept = new WeakMap<Pending, { readonly as: string; isKept: boolean }>();
  /** Of this step. */
  #toKeep: ToKeep[] = [];
  #decided: number[] = [];
  /** Everything that was asked of the store. */
  #last: Promise<void> | null = null;
  #stopLooking: (() => void) | undefined;
  /** The clients that send what other pages left. */
  readonly #others = new Set<{ connect(): void; close(): void }>();

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
      const made = restoredOf(entries, [...claims.keys()], stored);
      for (const [place, pending] of made.entries()) {
        const { id = "", claim = null } = stored[place] ?? {};
        this.#ids.set(pending.id, id);
        this.#kept.set(pending, { as: placeOf(pending.mid, claim?.client), isKept: true });
      }
      restore(entries, [...claims.keys()], made);
    });
  }

  #report(error: unknown): void {
    this.#host.engine.outside.reportError(error);
  }

  numbered(pending: Pending, client: string | null): void {
    const { mid } = pending;
    const as = placeOf(mid, client);
    if (this.#kept.get(pending)?.as === as) return;
    this.#kept.set(pending, { as, isKept: false });
    this.#toKeep.push({ pending, client, mid });
  }

  hasKept(pending: Pending): boolean {
    return this.#kept.get(pending)?.isKept ?? false;
  }

  decided(id: number): void {
    this.#decided.push(id);
  }

  /** At once: what is numbered anew for it comes after. */
  takenBack(id: number): void {
    this.#drop([id], true);
  }

  flush(): void {
    const [made, ids] = [this.#toKeep, this.#decided];
    [this.#toKeep, this.#decided] = [[], []];
    if (made.length > 0) this.#keep(made);
    if (ids.length > 0) this.#drop(ids);
  }

  /**
   * Their ids are looked up when it is their turn: while `restore` runs nobody has them yet. What has another number by then is
   * left out, as it is to be kept under that: who takes back hundreds numbers what follows anew each time.
   */
  #keep(made: readonly ToKeep[]): void {
    const { engine } = this.#host;
    const { claims } = engine.core.connection;
    const append = async () => {
      const latest = made.filter((one) => this.#keptAs(one));
      const stored = latest.map(({ pending: { id, name, args, nowMs: madeAtMs }, client, mid }) => {
        const known = this.#ids.get(id) ?? newId(engine.outside);
        this.#ids.set(id, known);
        const claim = claims.find((one) => one.client === client) ?? null;
        return { id: known, claim, mid, name, args, madeAtMs };
      });
      if (stored.length > 0) await this.#store.append(stored);
    };
    void this.#after(append).then(() =>
      engine.run(() => {
        for (const one of made) this.#wasKept(one);
      }),
    );
  }

  /** Return how a mutation is kept; undefined: under another number than this. */
  #keptAs({ pending, client, mid }: ToKeep): { isKept: boolean } | undefined {
    const kept = this.#kept.get(pending);
    return kept?.as === placeOf(mid, client) ? kept : undefined;
  }

  #wasKept(one: ToKeep): void {
    const kept = this.#keptAs(one);
    if (!kept) return;
    kept.isKept = true;
    this.#host.engine.core.entries.queueOf(one.pending.slot).sendNext();
  }

  #drop(ids: readonly number[], areTakenBack = false): void {
    void this.#after(async () => {
      const known = ids.map((id) => this.#ids.get(id)).filter((id) => id !== undefined);
      for (const id of ids) this.#ids.delete(id);
      if (known.length > 0) await this.#store.remove(known, areTakenBack);
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
    for (const other of this.#others) other.connect();
  }

  stop(): void {
    this.#stopLooking?.();
    for (const other of this.#others) other.close();
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
    const { another, engine } = this.#host;
    const { outside } = engine;
    const client = another(kept);
    let timer: unknown;
    const retry = () => {
      const again = () => (engine.core.connection.state === "connected" ? client.connect() : retry());
      timer = outside.setTimeout(again, DENIED_MS);
    };
    const close = () => {
      outside.clearTimeout(timer);
      this.#others.delete(other);
      client.close();
    };
    const other = { connect: () => client.connect(), close };
    this.#others.add(other);
    // No application hears of this session's tokens: one that is denied is tried again, while the client's own is not.
    client.onState(({ state }) => {
      outside.clearTimeout(timer);
      if (state === "needs-auth") retry();
    });
    let numLeft = left.length;
    client.onOutcome(() => {
      numLeft -= 1;
      if (numLeft === 0) close();
    });
    client.connect();
  }
}

/** Return what earlier pages left, in the same order, as mutations of a session that speaks for these clients. */
function restoredOf(
  room: StateRoom,
  clients: readonly string[],
  left: readonly StoredMutation[],
): readonly Pending[] {
  return left.map(({ claim, mid, name, args, madeAtMs }) => {
    const slot = Math.max(clients.indexOf(claim?.client ?? ""), 0);
    const pending = new Pending(room.nextId(), slot, name, args, madeAtMs);
    pending.mid = mid;
    pending.isSent = claim !== null;
    return pending;
  });
}

/** Give a room what earlier pages left, before anything that was made here; only before the first connection. */
function restore(room: StateRoom, clients: readonly string[], made: readonly Pending[]): void {
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
}
