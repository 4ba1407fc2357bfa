/**
 * Mutations kept in IndexedDB until the server has decided them.
 *
 * Owns one database for each pair of server and user; all pages of that user share it. Every record has an owner: the page
 * that speaks for it, which holds a Web Lock of its name as long as it lives and has records. Invariants:
 *
 * - ONE-SPEAKER: a record changes hands only under its owner's lock, which is free when the owner is dead.
 * - STORED-FIRST: `append` is fulfilled when the records are committed, or when the status says `memory`.
 * - ONE-NUMBER: what the database holds, or may hold, under another client or number than it is to be sent under is not sent: whoever
 *   finds it there would send it under that, and the server would run it twice.
 *
 * Where the database fails, the queue goes on in memory, says so, and stores everything at the next occasion that works.
 */

import type { PendingStore, StoredMutation } from "../shell/pending-store.js";
import { Database, InDoubt, type Timers, type Work } from "./database.js";
import { joinStore } from "./keeping.js";
import { OwnerLock } from "./owner-lock.js";
import type { IndexedDbLike, LocksLike } from "./platform.js";
import {
  adoptAll,
  allRecords,
  type MutationRecord,
  mutationOf,
  putAll,
  removeAll,
  sendable,
} from "./records.js";

/** How often it is looked whether a page has ended and left something; one read of the database. */
export const LOOK_MS = 15_000;

/** How often what may not be sent as it lies in the database is stored again. */
export const CLAIM_MS = 2_000;

/** Where mutations are kept. */
export interface StorageStatus {
  /** `disk`: they survive the page. `memory`: they end with it. */
  readonly mode: "disk" | "memory";
  /** Why they are in memory; empty for `disk`. For people. */
  readonly reason: string;
}

/** A mutation as `exported` returns it. */
export interface ExportedMutation extends StoredMutation {
  /** Version of the application's mutators that it was made for. */
  readonly schema: number;
  /** False: it was made for another schema, or its client has such a one before it; it stays until it is discarded. */
  readonly canBeSent: boolean;
}

/** What a queue is made with. */
export interface QueueOptions {
  /** Whose mutations they are; another user's are in another database. */
  readonly user: string;
  /** The server they are for, as given to `createClient`. */
  readonly url: string;
  /** Version of the application's mutators, 1 if not given: mutations made for another one are kept and not sent. */
  readonly schema?: number | undefined;
  /** What is outside, in place of the platform's. */
  readonly environment?: Partial<QueueEnvironment> | undefined;
}

/** What a queue needs from outside; null: the platform has none. */
export interface QueueEnvironment extends Timers {
  readonly indexedDB: IndexedDbLike | null;
  readonly locks: LocksLike | null;
  /** A name that no other page has. */
  randomName(): string;
}

/** A queue of mutations that survives the page. Made by `durableQueue`. */
export class DurableQueue implements PendingStore {
  /** For `createClient`. */
  readonly join = joinStore;
  readonly #database: Database | null;
  readonly #lock: OwnerLock;
  readonly #timers: Timers;
  readonly #schema: number;
  /** What this page speaks for and the server has not decided, in order. */
  readonly #mine = new Map<string, StoredMutation>();
  /** Of these: what is not in the database as it should be. */
  readonly #unstored = new Set<string>();
  /** What is in the database, or may be: an attempt in doubt may have been committed. As it was stored for sure, or tried first. */
  readonly #onDisk = new Map<string, StoredMutation>();
  /** Of these: what should be there no more. */
  readonly #unremoved = new Set<string>();
  readonly #listeners = new Set<{ readonly call: (status: StorageStatus) => void }>();
  #status: StorageStatus = { mode: "disk", reason: "" };
  /** Storing in the background, while in memory. */
  #healing: Promise<void> | null = null;
  /** Loads that run: what they take over is this page's, and not here yet. */
  #numLoads = 0;
  /** Another page speaks for what this one had stored. */
  #isTakenOver = false;

  /** Use `durableQueue`. */
  constructor(options: QueueOptions, environment: QueueEnvironment) {
    const { user, url, schema = 1 } = options;
    const { indexedDB, locks } = environment;
    const name = `syncd ${JSON.stringify([url, user])}`;
    this.#timers = environment;
    this.#schema = schema;
    this.#lock = new OwnerLock(locks, name, environment.randomName(), () => void this.#regain());
    this.#database = indexedDB && locks && new Database(indexedDB, name, environment);
    if (this.#database === null) {
      const missing = indexedDB ? "Web Locks, which keep two pages apart" : "IndexedDB";
      this.#status = { mode: "memory", reason: `There is no ${missing}.` };
    }
  }

  /** Where mutations are kept; the same object until that changes. */
  get status(): StorageStatus {
    return this.#status;
  }

  /** Be told every change of `status`; return the function that ends that. */
  onStatus(listener: (status: StorageStatus) => void): () => void {
    const own = { call: listener };
    this.#listeners.add(own);
    return () => {
      this.#listeners.delete(own);
    };
  }

  // ------------------------------------------------------------------------------- as a store of the client

  /**
   * Take over what pages that are gone left behind, and return it, in order. May be called again at any time.
   *
   * Never rejects: with no database there is nothing.
   */
  async load(): Promise<readonly StoredMutation[]> {
    this.#numLoads += 1;
    const records = await this.#attempt("readonly", allRecords);
    const adopted: MutationRecord[] = [];
    const owners = new Set((records ?? []).map((record) => record.owner));
    for (const owner of owners) {
      if (owner === this.#lock.owner) continue;
      await this.#lock.whileFree(owner, async () => {
        if (!(await this.#lock.hold())) return;
        const isKnown = (id: string): boolean => this.#onDisk.has(id);
        const work = adoptAll(owner, this.#lock.owner, this.#schema, isKnown);
        const records = (await this.#attempt("readwrite", work)) ?? [];
        for (const record of records) this.#onDisk.set(record.id, record);
        adopted.push(...records);
      });
    }
    adopted.sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0));
    const mutations = adopted.map(mutationOf);
    for (const mutation of mutations) this.#mine.set(mutation.id, mutation);
    this.#numLoads -= 1;
    this.#letGoIfEmpty();
    return mutations;
  }

  /** Look from time to time whether a page has ended, until the returned function is called: what it left is this page's then. */
  onLeft(found: (left: readonly StoredMutation[]) => void): () => void {
    let timer: unknown;
    let isOver = false;
    const look = async (): Promise<void> => {
      const left = await this.load();
      if (left.length > 0) found(left);
      if (!isOver) timer = this.#timers.setTimeout(look, LOOK_MS);
    };
    timer = this.#timers.setTimeout(look, LOOK_MS);
    return () => {
      isOver = true;
      this.#timers.clearTimeout(timer);
    };
  }

  /** Keep these; fulfilled when they are stored, or `status` says that they are not and they may be sent. Never rejects. */
  async append(mutations: readonly StoredMutation[]): Promise<void> {
    for (const mutation of mutations) {
      this.#mine.set(mutation.id, mutation);
      this.#unstored.add(mutation.id);
    }
    await this.#store();
    while (mutations.some((mutation) => this.#liesElsewhere(mutation))) {
      await new Promise<void>((resolve) => this.#timers.setTimeout(resolve, CLAIM_MS));
      await this.#store();
      await this.#healing;
    }
  }

  /** Whether the database may hold it under another number, or as never sent: see ONE-NUMBER. */
  #liesElsewhere({ id, claim, mid }: StoredMutation): boolean {
    const lies = this.#onDisk.get(id);
    return !!lies && !!claim && (lies.claim?.client !== claim.client || lies.mid !== mid);
  }

  /** Forget these: they are over. Never rejects: one that was decided and could not be removed is decided once more, alike. */
  async remove(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      this.#mine.delete(id);
      this.#unstored.delete(id);
      if (this.#onDisk.has(id)) this.#unremoved.add(id);
    }
    await this.#store();
    this.#letGoIfEmpty();
  }

  /** Bring the database to what this page knows. Where it has failed nobody waits for it, and one attempt runs at a time. */
  async #store(): Promise<void> {
    if (this.#status.mode === "disk") await this.#storeNow();
    else {
      this.#healing ??= this.#storeNow().finally(() => {
        this.#healing = null;
        this.#letGoIfEmpty();
      });
    }
  }

  async #storeNow(): Promise<void> {
    if (this.#database === null || this.#isTakenOver || this.#unstored.size + this.#unremoved.size === 0)
      return;
    if (this.#unstored.size > 0 && !(await this.#lock.hold())) {
      this.#tell("memory", "The browser gave this page no lock.");
      return;
    }
    // Not before: what is decided while the lock is waited for must not be stored.
    const stored = [...this.#unstored].flatMap((id) => this.#mine.get(id) ?? []);
    const removed = [...this.#unremoved];
    const fresh = stored.filter(({ id }) => !this.#onDisk.has(id));
    for (const mutation of fresh) this.#onDisk.set(mutation.id, mutation);
    const { owner } = this.#lock;
    const put = putAll(stored.map((mutation) => ({ ...mutation, owner, schema: this.#schema })));
    const remove = removeAll(removed, owner);
    const work: Work<boolean> = (store, done) => {
      put(store, () => undefined);
      remove(store, () => undefined);
      done(true);
    };
    const isDone = await this.#attempt("readwrite", work, () => {
      for (const { id } of fresh) this.#onDisk.delete(id);
    });
    if (!isDone) return;
    for (const mutation of stored) {
      this.#onDisk.set(mutation.id, mutation);
      if (this.#mine.get(mutation.id) === mutation) this.#unstored.delete(mutation.id);
    }
    for (const id of removed) {
      this.#unremoved.delete(id);
      this.#onDisk.delete(id);
    }
  }

  /** The lock was lost: take it again, and see whether another page took over what this one had stored. */
  async #regain(): Promise<void> {
    const before = [...this.#mine.keys()].filter((id) => !this.#unstored.has(id));
    if (before.length === 0 || !(await this.#lock.hold())) return;
    const records = (await this.#attempt("readonly", allRecords)) ?? [];
    const still = new Set(records.filter(({ owner }) => owner === this.#lock.owner).map(({ id }) => id));
    if (before.every((id) => still.has(id) || !this.#mine.has(id))) return;
    this.#isTakenOver = true;
    this.#tell("memory", "Another page took over the mutations of this one.");
  }

  /** With nothing to speak for no lock is held: a page with a lock cannot enter the back/forward cache. */
  #letGoIfEmpty(): void {
    if (this.#mine.size + this.#unremoved.size + this.#numLoads === 0) this.#lock.letGo();
  }

  /** @param undone Called when nothing came of it for sure. */
  async #attempt<Result>(
    mode: "readonly" | "readwrite",
    work: Work<Result>,
    undone = (): void => undefined,
  ): Promise<Result | null> {
    if (this.#database === null) return null;
    try {
      const result = await this.#database.run(mode, work, this.#status.mode === "disk" ? 2 : 1);
      this.#tell("disk", "");
      return result;
    } catch (error) {
      if (!(error instanceof InDoubt)) undone();
      this.#tell("memory", String(error));
      return null;
    }
  }

  #tell(mode: StorageStatus["mode"], reason: string): void {
    if (mode === this.#status.mode) return;
    this.#status = { mode, reason };
    for (const listener of [...this.#listeners]) listener.call(this.#status);
  }

  // ------------------------------------------------------------------------------- for the application

  /** Return everything that is kept, of all pages of this user, in order: to show it, to save it elsewhere. */
  async exported(): Promise<ExportedMutation[]> {
    const records = (await this.#attempt("readonly", allRecords)) ?? [];
    const stored = records.filter(({ id }) => !this.#unremoved.has(id));
    const stuck = await this.#stuckOf(stored);
    const ids = new Set(stored.map(({ id }) => id));
    const onlyHere = [...this.#mine.values()].filter(({ id }) => !ids.has(id));
    return [
      ...stored.map((record) => ({
        ...mutationOf(record),
        schema: record.schema,
        canBeSent: !stuck.has(record.id),
      })),
      ...onlyHere.map((mutation) => ({ ...mutation, schema: this.#schema, canBeSent: true })),
    ];
  }

  /** Return what no page sends: its own is gone, and this one's schema is another. */
  async #stuckOf(records: readonly MutationRecord[]): Promise<Set<string>> {
    const stuck = new Set<string>();
    for (const owner of new Set(records.map((record) => record.owner))) {
      const theirs = records.filter((record) => record.owner === owner);
      const sent = new Set(sendable(theirs, this.#schema));
      const left = theirs.filter((record) => !sent.has(record));
      if (left.length === 0) continue;
      await this.#lock.whileFree(owner, async () => {
        for (const { id } of left) stuck.add(id);
      });
    }
    return stuck;
  }

  /**
   * Forget mutations that cannot be sent; ids of others are ignored.
   *
   * @throws Error the database does not work: nothing was discarded.
   */
  async discard(ids: readonly string[]): Promise<void> {
    const exported = await this.exported();
    const stuck = exported.filter(({ id, canBeSent }) => !canBeSent && ids.includes(id)).map(({ id }) => id);
    await this.#database?.run("readwrite", removeAll(stuck, null));
  }

  /** End the use of the database; what is kept stays for whoever loads it next. */
  close(): void {
    this.#lock.letGo();
    this.#database?.close();
  }
}
