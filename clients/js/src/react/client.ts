/** Which client a tree of components uses, and how its connection is. */

import {
  createContext,
  createElement,
  type ReactElement,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
} from "react";
import { type ChannelsClient, IDLE } from "../channels-client.js";
import type { Client } from "../client.js";
import type { MutatorMap } from "../mutation.js";
import type { ConnectionStatus } from "../options.js";
import { type Equality, type Selector, useStore } from "./store.js";

/** Undefined where there is no provider. */
const Context = createContext<ChannelsClient | null | undefined>(undefined);

/** What `SyncProvider` takes. */
export interface SyncProviderProps {
  /**
   * The client of all components below. It is started if nobody has, and never closed: whoever made it closes it. Null on
   * a server, or while nobody is logged in: hooks then show what they show before anything is known. One of
   * `syncd-client/channels` serves the hooks of channels, presence and the connection; the others throw.
   */
  readonly client: ChannelsClient | null;
  readonly children?: ReactNode;
}

/** Give a client to the components below, and connect it once they are shown. */
export function SyncProvider({ client, children }: SyncProviderProps): ReactElement {
  useEffect(() => {
    if (client?.state === "idle") client.connect();
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/**
 * Return the client, or null where the provider was given none.
 *
 * @throws Error there is no provider.
 */
export function useMaybeClient(): ChannelsClient | null {
  const client = useContext(Context);
  if (client === undefined) throw new Error("There is no <SyncProvider> around this component.");
  return client;
}

/**
 * Return the client with its collections and mutations, or null where the provider was given none.
 *
 * @throws Error there is no provider, or its client has channels alone.
 */
export function useWholeClient(): Client | null {
  const client = useMaybeClient();
  if (client && !("mutate" in client))
    throw new Error("<SyncProvider> was given a client of channels alone.");
  return client as Client | null;
}

/**
 * Return the client of this tree. `useClient<typeof mutators>()` knows its mutators, too; `useClient<ChannelsClient>()` is
 * for a client of `syncd-client/channels`.
 *
 * @throws Error there is no provider, or it was given no client.
 */
export function useClient<
  Own extends MutatorMap | ChannelsClient = Record<never, never>,
>(): Own extends MutatorMap ? Client<Own> : Own {
  const client = useMaybeClient();
  if (client === null) throw new Error("<SyncProvider> was given no client.");
  return client as ReturnType<typeof useClient<Own>>;
}

/**
 * Return what the connection is doing and why, or what `selector` takes of that.
 *
 * Renders again only when that is no longer equal.
 *
 * @param isEqual `Object.is` if not given.
 */
export function useConnection<Selection = ConnectionStatus>(
  selector?: Selector<ConnectionStatus, Selection>,
  isEqual?: Equality<Selection>,
): Selection {
  const client = useMaybeClient();
  const store = useMemo(
    () => client && { subscribe: (changed: () => void) => client.onState(changed), get: () => client.status },
    [client],
  );
  return useStore(store, IDLE, selector, isEqual);
}

/** Whether everything that was changed here is decided. */
export interface SyncStatus {
  /** `synchronizing`: mutations are pending, whether there is a connection or not. */
  readonly status: "synchronized" | "synchronizing";
  /** How many, those that earlier pages left included. */
  readonly numPending: number;
}

/** Return whether mutations are pending, and how many; for "saved" and "do not close this page". */
export function useSyncStatus(): SyncStatus {
  const client = useWholeClient();
  const store = useMemo(
    () =>
      client && {
        subscribe: (changed: () => void) => client.onPending(changed),
        get: () => client.numPending,
      },
    [client],
  );
  const numPending = useStore(store, 0);
  return { status: numPending === 0 ? "synchronized" : "synchronizing", numPending };
}
