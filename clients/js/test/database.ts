/** IndexedDB as it is in Safari's hidden tabs, on full disks and in sandboxes: fails on demand. */

import { IDBFactory } from "fake-indexeddb";
import type {
  DatabaseLike,
  IndexedDbLike,
  OpenRequestLike,
  TransactionLike,
} from "../src/storage/platform.ts";

/** IndexedDB that fails on demand. */
export class Trouble implements IndexedDbLike {
  readonly real = new IDBFactory();
  /** Handles given out and not closed by a fault. */
  readonly handles: DatabaseLike[] = [];
  numOpened = 0;
  /** What the next transactions that write come to; one each. */
  readonly faults: ("abort" | "never" | "committed-late")[] = [];
  opens: "well" | "not" | "never" | "blocked" = "well";

  open(name: string, version: number): OpenRequestLike {
    this.numOpened += 1;
    if (this.opens === "well") {
      const request = this.real.open(name, version) as unknown as OpenRequestLike;
      (request as unknown as EventTarget).addEventListener("success", () => this.#adopt(request.result));
      return request;
    }
    const request = {
      error: new Error("No disk."),
      result: null,
      onsuccess: null,
    } as unknown as OpenRequestLike;
    queueMicrotask(() => {
      const tell = (handler: ((event: never) => void) | null): void => handler?.({} as never);
      if (this.opens === "not") tell(request.onerror);
      if (this.opens === "blocked") tell(request.onblocked);
    });
    return request;
  }

  #adopt(database: DatabaseLike): void {
    this.handles.push(database);
    const transaction = database.transaction.bind(database);
    database.transaction = (store, mode) => {
      const made = transaction(store, mode);
      const fault = mode === "readwrite" ? this.faults.shift() : undefined;
      if (fault === "abort") queueMicrotask(() => made.abort());
      if (fault === "never" || fault === "committed-late") return silent(made, fault === "never");
      return made;
    };
  }
}

/** A transaction of which nothing is heard; whether it is carried out or not. */
function silent(made: TransactionLike, isAborted: boolean): TransactionLike {
  if (isAborted) queueMicrotask(() => made.abort());
  return {
    error: null,
    oncomplete: null,
    onabort: null,
    objectStore: (name) => made.objectStore(name),
    abort: () => made.abort(),
  };
}
