/** What may be stale of data that an application fetched elsewhere. */

import type { Client } from "./client.js";
import type { Invalidation } from "./core/entries/facts.js";

/** What may have changed at its source. */
export type Stale = Pick<Invalidation, "collection" | "keys" | "tags" | "isAll" | "cause">;

/** What tells it: a client. */
export type StaleSource = Pick<Client, "onInvalidate" | "onState">;

/**
 * Be told what the server invalidates, and after every reconnect that all of these collections may be stale; return the
 * function that ends that.
 *
 * What was invalidated in an absence longer than the server's log is told by nobody, so a reconnect means all of it.
 *
 * @param collections Says which, when it happens.
 */
export function onStale(
  source: StaleSource,
  collections: () => readonly string[],
  listener: (stale: Stale) => void,
): () => void {
  let wasAway = false;
  const stops = [
    source.onInvalidate(listener),
    source.onState(({ state, hasConnected }) => {
      const isBack = state === "connected" && wasAway;
      wasAway = state !== "connected" && hasConnected;
      if (!isBack) return;
      for (const collection of collections()) {
        listener({ collection, keys: [], tags: [], isAll: true, cause: "reconnected" });
      }
    }),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}
