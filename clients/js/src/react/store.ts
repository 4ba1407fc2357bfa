/** How hooks read what lives outside React. */

import { useInsertionEffect, useMemo, useRef, useSyncExternalStore } from "react";

/** Something that says that it changed, and what it holds: the same object until it changes. */
export interface Store<Value> {
  /** Call `changed` after every change; return the function that ends that. */
  subscribe(changed: () => void): () => void;
  get(): Value;
}

/** What a value says to one component. */
export type Selector<Value, Selection> = (value: Value) => Selection;

/** Whether two selections are the same to one component. */
export type Equality<Selection> = (before: Selection, after: Selection) => boolean;

/** Do nothing. */
export const nothing = (): void => undefined;

const neverChanges = () => nothing;
const itself = (value: unknown): unknown => value;

/**
 * Show what a selector takes of a store, and render again only when that is no longer equal.
 *
 * @param store Null for none: `initial` is shown.
 * @param initial What a server renders, and a browser while it takes over what a server rendered; always the same object.
 */
export function useStore<Value, Selection = Value>(
  store: Store<Value> | null,
  initial: Value,
  selector: Selector<Value, Selection> = itself as Selector<Value, Selection>,
  isEqual: Equality<Selection> = Object.is,
): Selection {
  const shown = useRef<{ readonly selection: Selection } | null>(null);
  const [get, getInitial] = useMemo(() => {
    let last: { readonly value: Value; readonly selection: Selection } | null = null;
    const select = (value: Value): Selection => {
      if (last !== null && Object.is(last.value, value)) return last.selection;
      const fresh = selector(value);
      // A selector written in the call is new in every render: what is shown outlives it.
      const before = last ?? shown.current;
      const selection = before !== null && isEqual(before.selection, fresh) ? before.selection : fresh;
      last = { value, selection };
      return selection;
    };
    return [() => select(store === null ? initial : store.get()), () => select(initial)];
  }, [store, initial, selector, isEqual]);
  const selection = useSyncExternalStore(store?.subscribe ?? neverChanges, get, getInitial);
  useInsertionEffect(() => {
    shown.current = { selection };
  }, [selection]);
  return selection;
}

/** Return a box that holds what the last committed render was given: for callbacks that are called later. */
export function useLatest<Value>(value: Value): { readonly current: Value } {
  const latest = useRef(value);
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
