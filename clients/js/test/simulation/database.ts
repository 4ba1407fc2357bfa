/**
 * IndexedDB in microtasks: one origin's databases, with pages that die in the middle of a transaction, and with faults.
 *
 * Unlike `fake-indexeddb` it needs no turns of the real event loop, so a simulated clock is all that moves it. It knows as much
 * as `src/storage` asks for: one object store with a key that is given, and one unique index.
 */

import type {
  DatabaseLike,
  IndexedDbLike,
  OpenRequestLike,
  RequestLike,
  StoreLike,
  TransactionLike,
} from "../../src/storage/platform.ts";

/** A page, which runs what it is told, later, or never. */
export interface Page {
  readonly isDead: boolean;
  run(task: () => void): void;
}

/** What the next transaction that writes comes to: it fails, hangs until it is aborted, or is committed and nobody is told. */
export type Fault = "abort" | "never" | "committed-late";

interface Stored {
  seq: number;
  id: string;
}

type Records = Map<number, Stored>;

/** One database: its records, and the transactions that wait for each other. */
class Disk {
  records: Records = new Map();
  numMade = 0;
  readonly waiting: Transaction[] = [];

  get committed(): Records {
    return this.waiting[0]?.before ?? this.records;
  }

  begin(transaction: Transaction): void {
    this.waiting.push(transaction);
    if (this.waiting.length === 1) transaction.start();
  }

  /** A transaction is over; it may not have been its turn yet. */
  end(transaction: Transaction): void {
    const wasFirst = this.waiting[0] === transaction;
    this.waiting.splice(this.waiting.indexOf(transaction), 1);
    if (wasFirst) this.waiting[0]?.start();
  }
}

/** All databases of an origin. */
export class Disks {
  readonly faults: Fault[] = [];
  /** Whether databases can be opened. */
  isBroken = false;
  readonly #disks = new Map<string, Disk>();
  readonly #handles = new Map<DatabaseLike, Page>();

  /** One page's `indexedDB`. */
  page(page: Page): IndexedDbLike {
    return { open: (name) => this.#open(page, name) };
  }

  /** Records of all databases as they are committed, to look at. */
  get records(): Stored[] {
    return [...this.#disks.values()].flatMap(({ committed }) => [...committed.values()]);
  }

  /** The browser ends all handles, as it may at any time. */
  endHandles(): void {
    for (const [handle, page] of this.#handles) page.run(() => handle.onclose?.({} as never));
    this.#handles.clear();
    for (const disk of this.#disks.values()) for (const transaction of [...disk.waiting]) transaction.end();
  }

  /** A page is gone: what it had not committed is undone. */
  forget(page: Page): void {
    for (const [handle, owner] of this.#handles) if (owner === page) this.#handles.delete(handle);
    for (const disk of this.#disks.values()) {
      for (const transaction of [...disk.waiting]) if (transaction.page === page) transaction.end();
    }
  }

  /** Whether a page is in the middle of a transaction: browsers do not freeze it there. */
  isBusy(page: Page): boolean {
    return [...this.#disks.values()].some(({ waiting }) => waiting.some((one) => one.page === page));
  }

  #open(page: Page, name: string): OpenRequestLike {
    const request: { -readonly [Name in keyof OpenRequestLike]: OpenRequestLike[Name] } = {
      result: null as unknown as DatabaseLike,
      error: null,
      onsuccess: null,
      onerror: null,
      onupgradeneeded: null,
      onblocked: null,
    };
    void Promise.resolve().then(() =>
      page.run(() => {
        if (this.isBroken) {
          request.error = new Error("No disk.");
          request.onerror?.({} as never);
          return;
        }
        let disk = this.#disks.get(name);
        const isNew = disk === undefined;
        disk ??= new Disk();
        this.#disks.set(name, disk);
        request.result = this.#handle(page, disk);
        if (isNew) request.onupgradeneeded?.({} as never);
        request.onsuccess?.({} as never);
      }),
    );
    return request;
  }

  #handle(page: Page, disk: Disk): DatabaseLike {
    const handle: DatabaseLike = {
      onclose: null,
      onversionchange: null,
      createObjectStore: () => ({ createIndex: () => undefined }) as unknown as StoreLike,
      close: () => this.#handles.delete(handle),
      transaction: (_store, mode) => {
        if (!this.#handles.has(handle)) throw new Error("InvalidStateError");
        const fault = mode === "readwrite" ? this.faults.shift() : undefined;
        const transaction = new Transaction(page, disk, fault ?? null);
        disk.begin(transaction);
        return transaction;
      },
    };
    this.#handles.set(handle, page);
    return handle;
  }
}

/** One transaction: requests one after the other, each in a task of its page. */
class Transaction implements TransactionLike {
  readonly page: Page;
  error: unknown = null;
  oncomplete: ((event: never) => void) | null = null;
  onabort: ((event: never) => void) | null = null;
  readonly #disk: Disk;
  readonly #fault: Fault | null;
  readonly #asked: (() => void)[] = [];
  /** What it changes, once it has begun. */
  before: Records | null = null;
  #isOver = false;

  constructor(page: Page, disk: Disk, fault: Fault | null) {
    this.page = page;
    this.#disk = disk;
    this.#fault = fault;
  }

  start(): void {
    this.before = new Map(this.#disk.records);
    this.#step();
  }

  #step(): void {
    void Promise.resolve().then(() =>
      this.page.run(() => {
        if (this.#isOver) return;
        const next = this.#asked.shift();
        if (next === undefined) this.#complete();
        else {
          next();
          this.#step();
        }
      }),
    );
  }

  #complete(): void {
    if (this.#fault === "never") return;
    if (this.#fault === "abort") {
      this.end();
      return;
    }
    this.#isOver = true;
    this.#disk.end(this);
    if (this.#fault === null) this.oncomplete?.({} as never);
  }

  abort(): void {
    if (this.#isOver) throw new Error("InvalidStateError");
    this.end();
  }

  /** Undo it. */
  end(): void {
    this.#isOver = true;
    if (this.before !== null) this.#disk.records = this.before;
    this.#disk.end(this);
    this.page.run(() => this.onabort?.({} as never));
  }

  #ask<Result>(answer: (records: Records) => Result): RequestLike<Result> {
    const request = {
      result: undefined as Result,
      error: null,
      onsuccess: null as ((event: never) => void) | null,
      onerror: null,
    };
    this.#asked.push(() => {
      request.result = answer(this.#disk.records);
      request.onsuccess?.({} as never);
    });
    return request;
  }

  objectStore(): StoreLike {
    const found = (records: Records, id: unknown) => [...records.values()].find((one) => one.id === id);
    return {
      getAll: () => this.#ask((records) => structuredClone(inOrder(records))),
      put: (value) => {
        const record = structuredClone(value) as Stored;
        return this.#ask((records) => {
          if (record.seq === undefined) {
            this.#disk.numMade += 1;
            record.seq = this.#disk.numMade;
          }
          records.set(record.seq, record);
          return record.seq;
        });
      },
      delete: (key) => this.#ask((records) => records.delete(key)),
      createIndex: () => undefined,
      index: () => ({
        get: (id) => this.#ask((records) => structuredClone(found(records, id))),
        getKey: (id) => this.#ask((records) => found(records, id)?.seq),
      }),
    };
  }
}

function inOrder(records: Records): Stored[] {
  return [...records.values()].sort((one, other) => one.seq - other.seq);
}
