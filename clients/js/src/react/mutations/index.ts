/**
 * What an application imports from `syncd-client/react/mutations`: what is pending, in components. Apart from the other hooks, as
 * most applications show no list.
 */

"use client"; // frameworks with server components render what uses this in the browser, too

import { useMemo } from "react";
import { onMutationsChange, type PendingMutation, pendingMutations } from "../../mutations/index.js";
import { useWholeClient } from "../client.js";
import { type Equality, type Selector, useStore } from "../store.js";

const NONE: readonly PendingMutation[] = [];

/**
 * Return the mutations of this client that are not confirmed, oldest first, or what `selector` takes of them.
 *
 * Renders again only when that is no longer equal. A server renders an empty list.
 *
 * @param selector The whole list if not given.
 * @param isEqual `Object.is` if not given; `shallowEqual` for selectors that return a new list each time, as a filter does.
 */
export function useMutations<Selection = readonly PendingMutation[]>(
  selector?: Selector<readonly PendingMutation[], Selection>,
  isEqual?: Equality<Selection>,
): Selection {
  const client = useWholeClient();
  const store = useMemo(
    () =>
      client && {
        subscribe: (changed: () => void) => onMutationsChange(client, changed),
        get: () => pendingMutations(client),
      },
    [client],
  );
  return useStore(store, NONE, selector, isEqual);
}
