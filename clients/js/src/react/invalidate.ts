/** Invalidations in components. */

import { useEffect } from "react";
import type { Invalidation } from "../core/entries/facts.js";
import { useMaybeClient } from "./client.js";
import { useLatest } from "./store.js";

/** What to do when entries of a collection may have changed at their source, by its name. */
export type InvalidationMap = Readonly<Record<string, (invalidation: Invalidation) => void>>;

/**
 * Call a function when the server invalidates entries of its collection, as long as the component is shown.
 *
 * The functions of the last render are called. Invalidations are told of collections that are watched: by `useCollection`,
 * `useEntity` or `collection.watch` somewhere.
 *
 * @param map By name of the collection; `*` for all that are not named.
 */
export function useBroadcastInvalidation(map: InvalidationMap): void {
  const client = useMaybeClient();
  const latest = useLatest(map);
  useEffect(
    () =>
      client?.onInvalidate((invalidation) => {
        const { current } = latest;
        const name = Object.hasOwn(current, invalidation.collection) ? invalidation.collection : "*";
        current[name]?.(invalidation);
      }),
    [client, latest],
  );
}
