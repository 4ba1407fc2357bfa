/**
 * The same work with `@tanstack/query-core` and optimistic code written by hand, as its documentation has it: the confirmed
 * rows in a map, 50 predictions made anew over them at each event, one query that holds the sorted list.
 */

import { decode } from "@msgpack/msgpack";
import { QueryClient, QueryObserver } from "@tanstack/query-core";

const KEY = ["orders"];

/** A list of rows in a query, what the server confirmed of it, and what is predicted over that. */
export class HandWritten {
  numTold = 0;
  predictions = [];
  #confirmed = new Map();
  #client = new QueryClient({ defaultOptions: { queries: { staleTime: Infinity, gcTime: Infinity } } });
  #stop;

  constructor() {
    const observer = new QueryObserver(this.#client, { queryKey: KEY, enabled: false });
    this.#stop = observer.subscribe(() => {
      this.numTold += 1;
    });
  }

  /** The rows, sorted by key. */
  get list() {
    return this.#client.getQueryData(KEY) ?? [];
  }

  /** Take the pages of a snapshot. */
  load(frames) {
    for (const frame of frames) {
      for (const { key, value } of decode(frame)[1].entries) this.#confirmed.set(key, { key, value });
    }
    const list = [...this.#confirmed.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
    this.#client.setQueryData(KEY, list);
    return list.length;
  }

  /** Take an event. */
  event(frame) {
    const { key, data } = decode(frame)[1];
    this.#confirmed.set(key, { key, value: data.value });
    const changed = new Set([key, ...this.predictions.map((one) => one.key)]);
    this.#client.setQueryData(KEY, (before) =>
      before.map((row) => (changed.has(row.key) ? this.#predicted(row.key) : row)),
    );
  }

  #predicted(key) {
    let row = this.#confirmed.get(key);
    for (const one of this.predictions) if (one.key === key) row = { key, value: one.change(row.value) };
    return row;
  }

  end() {
    this.#stop();
    this.#client.clear();
  }
}
