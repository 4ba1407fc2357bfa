/** What an application imports from `syncd-client/react`. */

"use client"; // frameworks with server components render what uses this in the browser, too

export type { RebuildOptions, RebuildProgress, RebuildState, RebuildView } from "../rebuild/index.js";
export type { Stale } from "../stale.js";
export {
  type ChannelView,
  type Falsy,
  type OwnPresence,
  type UseChannelOptions,
  useChannel,
  useOthers,
  usePresence,
} from "./channel.js";
export {
  SyncProvider,
  type SyncProviderProps,
  type SyncStatus,
  useClient,
  useConnection,
  useSyncStatus,
} from "./client.js";
export { type CollectionView, shallowEqual, useCollection, useEntity, usePending } from "./collection.js";
export { type InvalidationMap, useBroadcastInvalidation } from "./invalidate.js";
export {
  type MutateCallbacks,
  type MutateContext,
  type MutateResult,
  type UseMutateOptions,
  useMutate,
} from "./mutate.js";
export { type CacheRebuildResult, useCacheRebuild } from "./rebuild.js";
export type { Equality, Selector } from "./store.js";
