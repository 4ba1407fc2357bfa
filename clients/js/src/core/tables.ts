/** States of a connection and of a subscription, and every step between them, as tables. Nothing here does anything. */

/**
 * What a client's one connection is doing.
 *
 * - `idle`: made, not started.
 * - `connecting`: dialling, or waiting for `welcome`.
 * - `connected`: a session is there.
 * - `offline`: waiting to dial again, or suspended.
 * - `needs-auth`: waiting for a token from the application.
 * - `failed`: the server said stop. Final.
 * - `closed`: the application closed it. Final.
 */
export type ConnectionState =
  | "idle"
  | "connecting"
  | "connected"
  | "offline"
  | "needs-auth"
  | "failed"
  | "closed";

/**
 * What can happen to a connection.
 *
 * - `start`: the application connects for the first time.
 * - `welcomed`: the server accepted the session.
 * - `lost`: ended with leave to come back.
 * - `stopped`: ended for good, by the server's word.
 * - `denied`: a token is needed first: there is none, or the last one was not accepted.
 * - `timer`: the wait before the next dial is over.
 * - `timer-without-token`: the same, but a token must be asked for first.
 * - `token`: the application has a token.
 * - `no-token-now`: the application could not get a token; it may later.
 * - `no-token`: the application has no token until it says otherwise: the user is logged out.
 * - `suspend`: the application, or the page that goes away, wants no connection for now.
 * - `close`: the application is done.
 */
export type ConnectionInput =
  | "start"
  | "welcomed"
  | "lost"
  | "stopped"
  | "denied"
  | "timer"
  | "timer-without-token"
  | "token"
  | "no-token-now"
  | "no-token"
  | "suspend"
  | "close";

/** By state, what inputs lead to; any other input changes nothing there. */
type Table<State extends string, Input extends string> = Readonly<
  Record<State, Readonly<Partial<Record<Input, State>>>>
>;

const UP = {
  lost: "offline",
  stopped: "failed",
  denied: "needs-auth",
  suspend: "offline",
  close: "closed",
} as const;

/** State and input to the next state. */
export const CONNECTION_TABLE: Table<ConnectionState, ConnectionInput> = {
  idle: { start: "connecting", denied: "needs-auth", close: "closed" },
  connecting: { ...UP, welcomed: "connected" },
  connected: UP,
  offline: { timer: "connecting", "timer-without-token": "needs-auth", suspend: "offline", close: "closed" },
  "needs-auth": {
    token: "connecting",
    "no-token-now": "offline",
    "no-token": "needs-auth",
    suspend: "offline",
    close: "closed",
  },
  failed: {},
  closed: {},
};

/** Whether nothing comes after a state. */
export function isFinal(state: ConnectionState): boolean {
  return state === "failed" || state === "closed";
}

/**
 * What one subscription is doing on the present connection.
 *
 * - `unsubscribed`: the server has not been asked: offline, or waiting to ask again.
 * - `subscribing`: asked; whatever comes before the answer belongs to an older subscription and is ignored.
 * - `subscribed`: the server carries it.
 * - `ended`: final.
 */
export type SubscriptionState = "unsubscribed" | "subscribing" | "subscribed" | "ended";

/**
 * What can happen to a subscription.
 *
 * - `ask`: a connection is there and nothing stands in the way.
 * - `answered`: the server carries it, or carries it anew.
 * - `gap`: something is missing: `prev` does not fit, the server said `lagged` or `reset`.
 * - `postponed`: the server refused for now.
 * - `offline`: the connection is gone.
 * - `restart`: the application wants something else of it.
 * - `end`: it is over.
 */
export type SubscriptionInput = "ask" | "answered" | "gap" | "postponed" | "offline" | "restart" | "end";

const ANY = { offline: "unsubscribed", restart: "unsubscribed", end: "ended" } as const;

/** State and input to the next state. */
export const SUBSCRIPTION_TABLE: Table<SubscriptionState, SubscriptionInput> = {
  unsubscribed: { ...ANY, ask: "subscribing" },
  subscribing: { ...ANY, answered: "subscribed", postponed: "unsubscribed" },
  subscribed: { ...ANY, answered: "subscribed", gap: "unsubscribed" },
  ended: {},
};
