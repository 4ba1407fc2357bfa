/** Rebuilds of collections in components of operators. */

import { useCallback, useMemo } from "react";
import { cacheRebuild, type RebuildOptions, type RebuildView, UNKNOWN } from "../rebuild/index.js";
import type { Falsy } from "./channel.js";
import { useWholeClient } from "./client.js";
import { useStore } from "./store.js";

/** What a component sees of the rebuilds of a collection, and what it may do. */
export interface CacheRebuildResult extends RebuildView {
  /** Have it read anew from its source, or join the job that is under way. Never throws: see `error`. The same function always. */
  readonly start: (options?: RebuildOptions) => void;
  /** Have the job that is under way end without effect. The same function always. */
  readonly cancel: () => void;
}

/**
 * Follow and start rebuilds of a collection while the component is shown.
 *
 * Only operators may: show nothing while `isOperator` is not true, and a button that starts one while `canStart`.
 *
 * @param collection Falsy: none.
 */
export function useCacheRebuild(collection: string | Falsy): CacheRebuildResult {
  const client = useWholeClient();
  const rebuild = useMemo(
    () => (client && collection ? cacheRebuild(client, collection) : null),
    [client, collection],
  );
  const store = useMemo(
    () =>
      rebuild && { subscribe: (changed: () => void) => rebuild.subscribe(changed), get: () => rebuild.view },
    [rebuild],
  );
  const view = useStore(store, UNKNOWN);
  const start = useCallback((options?: RebuildOptions) => rebuild?.start(options), [rebuild]);
  const cancel = useCallback(() => rebuild?.cancel(), [rebuild]);
  return useMemo(() => ({ ...view, start, cancel }), [view, start, cancel]);
}
