/**
 * Keeps queries of TanStack Query true: makes them stale when the server says so, and fills them from collections.
 *
 * Knows a QueryClient by the two methods it calls alone, so it loads nothing and fits React, Vue, Solid and Svelte Query.
 */

import type { CollectionEntry, WatchChange, WatchSelection, WatchStatus } from "../collection.js";
import { cacheRebuild, type RebuildClient } from "../rebuild/index.js";
import { onStale, type Stale, type StaleSource } from "../stale.js";

export type { RebuildView } from "../rebuild/index.js";
export type { Stale, StaleSource } from "../stale.js";

/** As in TanStack Query. */
export type QueryKey = readonly unknown[];

/** What of a `QueryClient` is used. */
export interface QueryCache {
  invalidateQueries(filters: { readonly queryKey: QueryKey }): Promise<unknown>;
  setQueryData(queryKey: QueryKey, update: (before: unknown) => unknown): unknown;
}

/** Which queries become stale when something of a collection does: all below one key, or those that a function returns. */
export type StaleQueries = QueryKey | ((stale: Stale) => Iterable<QueryKey>);

/**
 * Invalidate queries when the server invalidates entries of these collections; return the function that ends that.
 *
 * Query keys match by their beginning, as ever: `["orders"]` also makes `["orders", "list", 3]` stale. Queries that are shown
 * are fetched again at once, others when they are shown. After every reconnect all are stale (`isAll`, cause `reconnected`), as
 * nobody knows what was missed in an absence longer than the server's log. What a function throws is reported by the
 * client and stops nobody.
 *
 * Invalidations are told of collections that are watched; watch one key if nothing else of it is wanted.
 *
 * @param map By name of the collection; those that are not named concern no query.
 */
export function invalidateQueries(
  source: StaleSource,
  queryClient: Pick<QueryCache, "invalidateQueries">,
  map: Readonly<Record<string, StaleQueries>>,
): () => void {
  const take = (stale: Stale): void => {
    const queries = Object.hasOwn(map, stale.collection) ? map[stale.collection] : undefined;
    if (queries === undefined) return;
    for (const queryKey of typeof queries === "function" ? queries(stale) : [queries]) {
      void queryClient.invalidateQueries({ queryKey });
    }
  };
  return onStale(source, () => Object.keys(map), take);
}

/** Ends the key of the query that says how the rebuild of a collection stands; below the key that it concerns. */
export const REBUILD_MARK = "$rebuild";

/**
 * Say in a query how the rebuild of a collection stands, and make the queries below the key stale when one is done; return the
 * function that ends that. Only operators hear of rebuilds.
 *
 * The query is `[...queryKey, REBUILD_MARK]`, and its data are a `RebuildView`: read it by `useQuery` with `enabled: false`.
 */
export function markRebuilds(
  client: RebuildClient,
  queryClient: QueryCache,
  map: Readonly<Record<string, QueryKey>>,
): () => void {
  const stops = Object.entries(map).map(([collection, queryKey]) => {
    const rebuild = cacheRebuild(client, collection);
    let { state } = rebuild.view;
    return rebuild.subscribe(() => {
      const { view } = rebuild;
      queryClient.setQueryData([...queryKey, REBUILD_MARK], () => view);
      const isDoneNow = view.state === "done" && state !== "done" && state !== "idle";
      state = view.state;
      if (isDoneNow) void queryClient.invalidateQueries({ queryKey });
    });
  });
  return () => {
    for (const stop of stops) stop();
  };
}

/** A collection as far as it is used. */
export interface WatchedCollection<Value> {
  watch(selection: WatchSelection, listener: (change: WatchChange) => void): () => void;
  entry(key: string): CollectionEntry<Value> | undefined;
  list(): readonly CollectionEntry<Value>[];
  status(selection: WatchSelection): WatchStatus;
}

/** Which queries hold what of a collection. */
export interface FillOptions<Value> {
  /** The query that holds all entries that are watched. */
  readonly list?: QueryKey | undefined;
  /** What that query's data are: the values, by key, if not given. */
  readonly select?: ((entries: readonly CollectionEntry<Value>[]) => unknown) | undefined;
  /** The query that holds one entry's value, null where it was deleted. Only queries that have data are changed. */
  readonly entry?: ((key: string) => QueryKey) | undefined;
  /** What to watch; all if not given. */
  readonly selection?: WatchSelection | undefined;
}

/**
 * Watch a collection and keep its entries, with this client's predictions, in queries; return the function that ends that.
 *
 * Give those queries `staleTime: Infinity`: they are never older than what the server has told.
 */
export function fillQueries<Value>(
  collection: WatchedCollection<Value>,
  queryClient: Pick<QueryCache, "setQueryData">,
  { list, select = valuesOf, entry, selection = { all: true } }: FillOptions<Value>,
): () => void {
  const fill = (keys: Iterable<string>): void => {
    const status = collection.status(selection);
    if (status !== "current" && status !== "stale") return;
    if (list !== undefined) {
      const data = select(collection.list());
      queryClient.setQueryData(list, () => data);
    }
    if (entry === undefined) return;
    for (const key of keys) {
      const value = collection.entry(key)?.value ?? null;
      queryClient.setQueryData(entry(key), (before) => (before === undefined ? undefined : value));
    }
  };
  const stop = collection.watch(selection, ({ keys }) => fill(keys));
  // Who joins a watch is not told what it shows already.
  fill(collection.list().map(({ key }) => key));
  return stop;
}

function valuesOf<Value>(entries: readonly CollectionEntry<Value>[]): Value[] {
  return entries.map(({ value }) => value);
}
