/**
 * The parts of IndexedDB and of Web Locks that the queue uses: the browser's, or fakes.
 *
 * Written down here because the package is compiled without the browser's types, and so that tests can inject both.
 */

/** One request within a transaction. */
export interface RequestLike<Result> {
  readonly result: Result;
  readonly error: unknown;
  onsuccess: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
}

/** The answer to `open`. */
export interface OpenRequestLike extends RequestLike<DatabaseLike> {
  onupgradeneeded: ((event: never) => void) | null;
  onblocked: ((event: never) => void) | null;
}

/** An object store of a transaction. */
export interface StoreLike {
  getAll(): RequestLike<unknown[]>;
  put(value: unknown): RequestLike<unknown>;
  delete(key: never): RequestLike<unknown>;
  createIndex(name: string, keyPath: string, options: { unique: boolean }): unknown;
  index(name: string): { get(key: never): RequestLike<unknown>; getKey(key: never): RequestLike<unknown> };
}

/** One transaction. */
export interface TransactionLike {
  readonly error: unknown;
  oncomplete: ((event: never) => void) | null;
  onabort: ((event: never) => void) | null;
  objectStore(name: string): StoreLike;
  abort(): void;
}

/** An open database. */
export interface DatabaseLike {
  onclose: ((event: never) => void) | null;
  onversionchange: ((event: never) => void) | null;
  transaction(store: string, mode: "readonly" | "readwrite"): TransactionLike;
  createObjectStore(name: string, options: { keyPath: string; autoIncrement: boolean }): StoreLike;
  close(): void;
}

/** `indexedDB`. */
export interface IndexedDbLike {
  open(name: string, version: number): OpenRequestLike;
}

/** The signal of an `AbortController`. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  addEventListener(type: "abort", listener: () => void): void;
}

/** `navigator.locks`. */
export interface LocksLike {
  request(
    name: string,
    options: {
      mode?: "exclusive" | "shared";
      ifAvailable?: boolean;
      steal?: boolean;
      signal?: AbortSignalLike;
    },
    hold: (lock: unknown) => Promise<void>,
  ): Promise<unknown>;
}
