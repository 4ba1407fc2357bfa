/** What a client is made with, and what it tells of its connection. */

import type { StateRoom } from "./core/entries/room.js";
import type { ConnectionState } from "./core/tables.js";
import type { MutatorMap } from "./mutation.js";
import type { Environment } from "./shell/environment.js";
import type { PendingStore } from "./shell/pending-store.js";
import type { TokenSource } from "./shell/tokens.js";

/** What a client that has channels alone is made with. */
export interface ChannelsClientOptions {
  /** `wss://host/ws`; in a page also a path, `/ws`. */
  readonly url: string;
  /**
   * Returns a fresh JWT: asked before the first connection, before the present token runs out, and when the server refuses
   * it. Null means that the user is logged out: the client waits in `needs-auth` until `setToken` or `connect`. Without
   * it the client is anonymous.
   */
  readonly getToken?: TokenSource | undefined;
  /** Name of this user's clients on this device. */
  readonly group?: string | undefined;
  /** What is outside, in place of the platform's: for tests, and `WebSocket` where the platform has none. */
  readonly environment?: Partial<Environment> | undefined;
}

/** What a client is made with. */
export interface ClientOptions<Own extends MutatorMap = Record<never, never>> extends ChannelsClientOptions {
  /** What predicts mutations, by full name or by collection and name. The built-in ones need none. */
  readonly mutators?: Own | undefined;
  /** Keeps mutations before they are sent, so that they survive this page; without it they live in memory. */
  readonly store?: PendingStore | undefined;
  /** `sharedTabs({ user })` of `syncd-client/tabs`: one connection for all tabs of this user. Without it each has its own. */
  readonly tabs?: Tabs | undefined;
}

/** Lets clients of other tabs take part: `SharedTabs` of `syncd-client/tabs`. */
export interface Tabs {
  /** Return the environment with a WebSocket that all tabs share. Called first, once. */
  share(environment: Environment, url: string): Environment;
  /** Return a store that tells other tabs what it keeps. Called after `share`, once. */
  keep(store: PendingStore | undefined): PendingStore | undefined;
  /** Have what they keep predicted in this room, by what is done within `run`. Called after `keep`, once. */
  join(room: StateRoom, run: (act: () => void) => void): void;
}

/** What the connection is doing and why. Never changed: a new one takes its place. */
export interface ConnectionStatus {
  readonly state: ConnectionState;
  /** Close code that led here; null when none did. */
  readonly code: number | null;
  /** For people; may be empty. */
  readonly reason: string;
  /** Which dial this is, or was, since a connection was last stable: 1 for the first; 0 before any. */
  readonly attempt: number;
  /** Wall clock, ms since 1970, of the next dial; null when none is due. */
  readonly retryAt: number | null;
  /** Whether there ever was a session. */
  readonly hasConnected: boolean;
}
