/** Collections in components. */

import { useMemo } from "react";
import type { Collection, CollectionEntry, WatchSelection, WatchStatus } from "../collection.js";
import type { Falsy } from "./channel.js";
import { useWholeClient } from "./client.js";
import { type Equality, type Selector, type Store, useStore } from "./store.js";

/** What a component sees of a collection. The same object until something changes. */
export interface CollectionView<Value = unknown> {
  /** What is watched, sorted by key. An entry is the same object until its value or its pending mutations change. */
  readonly entries: readonly CollectionEntry<Value>[];
  /** `idle`: nothing is asked for, or the server refused it and `code` says why. */
  readonly status: WatchStatus;
  readonly code: string | null;
  /** For people; may be empty. */
  readonly message: string;
}

const NONE: readonly never[] = [];
const IDLE: CollectionView<never> = { entries: NONE, status: "idle", code: null, message: "" };
const LOADING: CollectionView<never> = { ...IDLE, status: "loading" };
const ALL: WatchSelection = { all: true };

/** One component's watch of a selection, which says the same as `word`. */
function viewOf<Value>(collection: Collection<Value>, word: string): Store<CollectionView<Value>> {
  const selection = JSON.parse(word) as WatchSelection;
  const { partition } = selection;
  const keys = selection.keys && new Set(selection.keys);
  const covers = (_: Value, key: string) => keys?.has(key) ?? key.startsWith(`${partition}/`);
  const filter = selection.all ? undefined : covers;
  let view: CollectionView<Value> = LOADING;
  const show = (now: CollectionView<Value>): void => {
    if (view.entries !== now.entries || view.status !== now.status || view.code !== now.code) view = now;
  };
  return {
    subscribe: (changed) => {
      // Whoever comes back watches anew, whatever ended the last watch.
      show({ ...view, code: null });
      return collection.watch(selection, ({ code, message }) => {
        show({ ...view, code, message });
        changed();
      });
    },
    get: () => {
      const status = collection.status(selection);
      const isEnded = view.code !== null;
      // Before a component is shown it watches nothing; what it asks for is to come all the same.
      show({
        ...view,
        entries: collection.list(filter),
        status: status === "idle" && !isEnded ? "loading" : status,
      });
      return view;
    },
  };
}

function useNamedCollection<Value>(name: string | Falsy): Collection<Value> | null {
  const client = useWholeClient();
  return useMemo(
    () => (client && name ? (client.collection(name) as Collection<Value>) : null),
    [client, name],
  );
}

/**
 * Watch a collection while the component is shown, and return what `selector` takes of it, with this client's predictions.
 *
 * Renders again only when that is no longer equal. Components that watch the same share one watch.
 *
 * @param name Falsy: watch nothing.
 * @param selector The whole view if not given.
 * @param isEqual `Object.is` if not given; `shallowEqual` for selectors that return a new list or object each time.
 * @param selection Which entries; all if not given. Needed where there are partitions.
 */
export function useCollection<Value = unknown, Selection = CollectionView<Value>>(
  name: string | Falsy,
  selector?: Selector<CollectionView<Value>, Selection>,
  isEqual?: Equality<Selection>,
  selection: WatchSelection = ALL,
): Selection {
  const collection = useNamedCollection<Value>(name);
  const word = JSON.stringify(selection);
  const store = useMemo(() => collection && viewOf(collection, word), [collection, word]);
  return useStore(store, name ? LOADING : IDLE, selector, isEqual);
}

/**
 * Watch one entry while the component is shown, and return its value; null where there is none, undefined until that is known.
 *
 * In a list, take the entries of `useCollection`: each entity is a watch of its own.
 *
 * @param name Falsy: watch nothing.
 * @param key Falsy: watch nothing.
 */
export function useEntity<Value = unknown>(
  name: string | Falsy,
  key: string | Falsy,
): Value | null | undefined {
  const collection = useNamedCollection<Value>(name);
  const store = useMemo(() => (collection && key ? entityOf(collection, key) : null), [collection, key]);
  return useStore<Value | null | undefined>(store, undefined);
}

function entityOf<Value>(collection: Collection<Value>, key: string): Store<Value | null | undefined> {
  const selection = { keys: [key] };
  return {
    subscribe: (changed) => collection.watch(selection, changed),
    get: () => {
      const entry = collection.entry(key);
      if (entry !== undefined) return entry.value;
      const status = collection.status(selection);
      return status === "current" || status === "stale" ? null : undefined;
    },
  };
}

/**
 * Return the ids of the pending mutations that change an entry, oldest first; the same array until they change.
 *
 * Watches nothing itself: what is pending is known of entries that some component watches.
 */
export function usePending(name: string | Falsy, key: string | Falsy): readonly number[] {
  const collection = useNamedCollection(name);
  const store = useMemo(
    () =>
      collection && key
        ? {
            subscribe: (changed: () => void) => collection.subscribe(changed),
            get: () => collection.pending(key),
          }
        : null,
    [collection, key],
  );
  return useStore<readonly number[]>(store, NONE);
}

/** Return whether two lists or objects have the same items; for selectors that make new ones. */
export function shallowEqual(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  if (!isObject(one) || !isObject(other)) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(other).length &&
    names.every((name) => Object.hasOwn(other, name) && Object.is(one[name], other[name]))
  );
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}
