/** Invalidations in components. */

import { useEffect } from "react";
import { onStale, type Stale } from "../stale.js";
import { useWholeClient } from "./client.js";
import { useLatest } from "./store.js";

/** What to do when entries of a collection may have changed at their source, by its name. */
export type InvalidationMap = Readonly<Record<string, (stale: Stale) => void>>;

/**
 * Call a function when the server invalidates entries of its collection, as long as the component is shown.
 *
 * The functions of the last render are called. Invalidations are told of collections that are watched: by `useCollection`,
 * `useEntity` or `collection.watch` somewhere. After every reconnect each function is called with `isAll` and the cause
 * `reconnected`, as nobody knows what was missed in an absence longer than the server's log.
 *
 * @param map By name of the collection; `*` for all that are not named, which a reconnect tells as one.
 */
export function useBroadcastInvalidation(map: InvalidationMap): void {
  const client = useWholeClient();
  const latest = useLatest(map);
  useEffect(
    () =>
      client === null
        ? undefined
        : onStale(
            client,
            () => Object.keys(latest.current),
            (stale) => {
              const { current } = latest;
              const name = Object.hasOwn(current, stale.collection) ? stale.collection : "*";
              current[name]?.(stale);
            },
          ),
    [client, latest],
  );
}
