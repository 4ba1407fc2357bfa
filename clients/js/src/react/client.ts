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
import type { Client, ConnectionStatus } from "../client.js";
import { useStore } from "./store.js";

/** Undefined where there is no provider. */
const Context = createContext<Client | null | undefined>(undefined);

/** What `SyncProvider` takes. */
export interface SyncProviderProps {
  /**
   * The client of all components below. It is started if nobody has, and never closed: whoever made it closes it. Null on
   * a server, or while nobody is logged in: hooks then show what they show before anything is known.
   */
  readonly client: Client | null;
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
export function useMaybeClient(): Client | null {
  const client = useContext(Context);
  if (client === undefined) throw new Error("There is no <SyncProvider> around this component.");
  return client;
}

/**
 * Return the client of this tree.
 *
 * @throws Error there is no provider, or it was given no client.
 */
export function useClient(): Client {
  const client = useMaybeClient();
  if (client === null) throw new Error("<SyncProvider> was given no client.");
  return client;
}

const IDLE: ConnectionStatus = {
  state: "idle",
  code: null,
  reason: "",
  attempt: 0,
  retryAt: null,
  hasConnected: false,
};

/** Return what the connection is doing and why; the same object until that changes. */
export function useConnection(): ConnectionStatus {
  const client = useMaybeClient();
  const store = useMemo(
    () => client && { subscribe: (changed: () => void) => client.onState(changed), get: () => client.status },
    [client],
  );
  return useStore(store, IDLE);
}
