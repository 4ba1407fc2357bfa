/** Channels in components: their events, and who is present. */

import { useEffect, useMemo, useState } from "react";
import type { Channel, ChannelListeners, ChannelPresence } from "../channel.js";
import type { SubscriptionState } from "../core/tables.js";
import type { Member } from "../wire/frames.js";
import { useMaybeClient } from "./client.js";
import { type Equality, nothing, type Selector, type Store, useLatest, useStore } from "./store.js";

/** What is not there: the hook does nothing and shows what it shows before anything is known. */
export type Falsy = null | undefined | false | "";

/** How a component listens to a channel. The listeners of the last render are called. */
export interface UseChannelOptions extends ChannelListeners {
  /** False: do not subscribe. */
  readonly enabled?: boolean | undefined;
}

/** How a component's subscription stands. */
export interface ChannelView {
  readonly state: SubscriptionState;
  /** Nothing was missed at the last recovery; null before one. */
  readonly recovered: boolean | null;
  /** `ended` only: the code of the server. */
  readonly code: string | null;
  /** For people; may be empty. */
  readonly reason: string;
}

const UNSUBSCRIBED: ChannelView = { state: "unsubscribed", recovered: null, code: null, reason: "" };

function useNamedChannel(name: string | Falsy): Channel | null {
  const client = useMaybeClient();
  return useMemo(() => (client && name ? client.channel(name) : null), [client, name]);
}

/**
 * Listen to a channel while the component is shown, and return how the subscription stands.
 *
 * Events go to `onEvent` and do not render. All listeners of a channel share one subscription. After `ended` the component
 * listens again when its name or `enabled` changes, or when it is mounted anew.
 *
 * @param name Falsy: do nothing.
 */
export function useChannel(name: string | Falsy, options: UseChannelOptions = {}): ChannelView {
  const channel = useNamedChannel(options.enabled === false ? null : name);
  const latest = useLatest(options);
  const store = useMemo(() => channel && viewOf(channel, latest), [channel, latest]);
  return useStore(store, UNSUBSCRIBED);
}

/** A view of the subscription that one component has of a channel. */
function viewOf(channel: Channel, latest: { readonly current: UseChannelOptions }): Store<ChannelView> {
  let view = UNSUBSCRIBED;
  return {
    subscribe: (changed) => {
      // Whoever comes back begins a new subscription, whatever ended the last.
      if (view.state === "ended") view = UNSUBSCRIBED;
      return channel.subscribe({
        onEvent: (event) => latest.current.onEvent?.(event),
        onReset: (reset) => latest.current.onReset?.(reset),
        onState: (change) => {
          const { state, code, reason } = change;
          const recovered = change.wasRecovering ? change.recovered : view.recovered;
          view = { state, recovered, code, reason };
          changed();
          latest.current.onState?.(change);
        },
      });
    },
    get: () => {
      // Whoever joins a subscription is not told how it stands.
      if (view.state !== "ended" && view.state !== channel.state) view = { ...view, state: channel.state };
      return view;
    },
  };
}

// ------------------------------------------------------------------------------- presence

const NOBODY: readonly Member[] = [];

/**
 * Return everybody in a channel but this client's own user, or what `selector` takes of them.
 *
 * Renders again only when that is no longer equal. Nobody is there until they are known; offline, those known last are, which
 * `useConnection` tells apart. Who is left out is known only while this client is announced itself (`usePresence`).
 *
 * @param name Falsy: nobody is asked for.
 * @param isEqual `Object.is` if not given.
 */
export function useOthers<Selection = readonly Member[]>(
  name: string | Falsy,
  selector?: Selector<readonly Member[], Selection>,
  isEqual?: Equality<Selection>,
): Selection {
  const presence = useNamedChannel(name)?.presence ?? null;
  const store = useMemo(
    () =>
      presence && {
        subscribe: (changed: () => void) => presence.subscribe(changed),
        get: () => presence.others,
      },
    [presence],
  );
  return useStore(store, NOBODY, selector, isEqual);
}

/** How many components announce a presence. */
const numHolders = new WeakMap<ChannelPresence, number>();

/** Keep an announcement; it is taken back a turn after the last one lets go, unless somebody holds it again by then. */
function hold(presence: ChannelPresence): () => void {
  numHolders.set(presence, (numHolders.get(presence) ?? 0) + 1);
  return () => {
    numHolders.set(presence, (numHolders.get(presence) ?? 1) - 1);
    void Promise.resolve().then(() => {
      if (numHolders.get(presence) === 0 && numHolders.delete(presence)) presence.leave().catch(nothing);
    });
  };
}

/** What this client announces, how to change it, and why the server refused the last; null if it did not. */
export type OwnPresence<State> = readonly [
  state: State,
  set: (state: State | ((before: State) => State)) => void,
  error: Error | null,
];

/**
 * Announce this client in a channel while the component is shown; works like `useState`.
 *
 * Offline the state is what will be announced, and the error stays what it was. The server tells changes every 100 ms: what moves
 * faster, such as a pointer, is best announced no more often.
 *
 * @param name Falsy: announce nothing.
 * @param initial At most 4 KiB.
 */
export function usePresence<State>(name: string | Falsy, initial: State | (() => State)): OwnPresence<State> {
  const presence = useNamedChannel(name)?.presence ?? null;
  const [state, setState] = useState(initial);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => (presence === null ? undefined : hold(presence)), [presence]);
  useEffect(() => {
    let isLast = true;
    const settle = (reason: Error | null) => {
      if (isLast) setError(reason);
    };
    presence?.set(state).then(() => settle(null), settle);
    return () => {
      isLast = false;
    };
  }, [presence, state]);
  return [state, setState, error];
}
