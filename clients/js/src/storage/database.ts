/**
 * The handle of one IndexedDB database with one object store.
 *
 * Owns the handle: browsers end it at will (Safari in hidden tabs, a user who clears the site's data, a newer version of
 * the page), so it is opened when it is needed, given up when it is ended, and every piece of work is tried twice at most,
 * the second time with a new handle. Work must therefore come to the same when it is done twice.
 */

import type { DatabaseLike, IndexedDbLike, RequestLike, StoreLike, TransactionLike } from "./platform.js";

const VERSION = 1;
const STORE = "mutations";
/** Mutations are sent only after they are stored, so a database that does not answer must not hold them up for longer. */
export const ATTEMPT_MS = 3_000;

/** What bounds the attempts: an environment's timers. */
export interface Timers {
  setTimeout(run: () => void, afterMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

/** One piece of work: asks requests of the store, and says by `done` what comes of it once all is committed. */
export type Work<Result> = (store: StoreLike, done: (result: Result) => void) => void;

/** The work failed, and may be committed all the same. */
export class InDoubt extends Error {}

/** One attempt at a piece of work. */
interface Attempt {
  /** While it may still be committed. */
  transaction: TransactionLike | null;
  isOver: boolean;
}

/** A database that is opened again as often as it takes. */
export class Database {
  readonly #indexedDB: IndexedDbLike;
  readonly #name: string;
  readonly #timers: Timers;
  #handle: Promise<DatabaseLike> | null = null;

  constructor(indexedDB: IndexedDbLike, name: string, timers: Timers) {
    this.#indexedDB = indexedDB;
    this.#name = name;
    this.#timers = timers;
  }

  /**
   * Do this in one transaction; return what it made once it is committed.
   *
   * @param numAttempts 2, or 1 where the database has just failed.
   * @param isInDoubt An attempt before may still be committed.
   * @throws InDoubt an attempt was only late, or may have been.
   * @throws Error of the last attempt; nothing is changed then.
   */
  async run<Result>(
    mode: "readonly" | "readwrite",
    work: Work<Result>,
    numAttempts = 2,
    isInDoubt = false,
  ): Promise<Result> {
    const attempt: Attempt = { transaction: null, isOver: false };
    try {
      return await this.#inTime(this.#attempt(mode, work, attempt));
    } catch (error) {
      const isInDoubtNow = !isUndone(attempt) || isInDoubt;
      this.close();
      if (numAttempts > 1) return this.run(mode, work, numAttempts - 1, isInDoubtNow);
      throw isInDoubtNow ? new InDoubt(String(error)) : error;
    }
  }

  /** Give the handle up; the next piece of work opens another one. */
  close(): void {
    const handle = this.#handle;
    this.#handle = null;
    handle?.then(
      (database) => database.close(),
      () => undefined,
    );
  }

  async #attempt<Result>(
    mode: "readonly" | "readwrite",
    work: Work<Result>,
    attempt: Attempt,
  ): Promise<Result> {
    if (this.#handle === null) {
      const handle = this.#open();
      this.#handle = handle;
      const forget = (): void => {
        if (this.#handle === handle) this.#handle = null;
      };
      handle.then((database) => letGo(database, forget), forget);
    }
    const database = await this.#handle;
    return new Promise((resolve, reject) => {
      if (attempt.isOver) throw new Error("Too late.");
      const transaction = database.transaction(STORE, mode);
      attempt.transaction = transaction;
      let result: Result;
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = () => {
        attempt.transaction = null;
        reject(transaction.error ?? new Error("The transaction was aborted."));
      };
      try {
        work(transaction.objectStore(STORE), (made) => {
          result = made;
        });
      } catch (error) {
        reject(error);
      }
    });
  }

  #open(): Promise<DatabaseLike> {
    return new Promise((resolve, reject) => {
      const request = this.#indexedDB.open(this.#name, VERSION);
      request.onupgradeneeded = () => {
        const store = request.result.createObjectStore(STORE, { keyPath: "seq", autoIncrement: true });
        store.createIndex("id", "id", { unique: true });
      };
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      request.onblocked = () =>
        reject(new Error("Another page holds an older version of the database open."));
    });
  }

  #inTime<Result>(attempt: Promise<Result>): Promise<Result> {
    return new Promise((resolve, reject) => {
      const timer = this.#timers.setTimeout(() => {
        reject(new Error("The database did not answer in time."));
      }, ATTEMPT_MS);
      attempt.finally(() => this.#timers.clearTimeout(timer)).then(resolve, reject);
    });
  }
}

/** End an attempt that failed or takes too long; return whether it is sure to change nothing any more. */
function isUndone(attempt: Attempt): boolean {
  attempt.isOver = true;
  try {
    // Others, of other pages too, wait for it to end.
    attempt.transaction?.abort();
    return true;
  } catch {
    return false; // It is being committed, or was: `abort` throws then.
  }
}

/** Let go of the handle when the browser ends it, and at once when somebody deletes or upgrades the database. */
function letGo(database: DatabaseLike, forget: () => void): void {
  database.onclose = forget;
  database.onversionchange = () => {
    database.close();
    forget();
  };
}

/** Call `take` with what a request gave; its failure aborts the transaction. */
export function whenDone<Result>(request: RequestLike<Result>, take: (result: Result) => void): void {
  request.onsuccess = () => take(request.result);
}
