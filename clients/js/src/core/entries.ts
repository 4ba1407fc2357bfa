/**
 * The seam at which collections and mutations join the core.
 *
 * A room is opened with what it may use of the core and is told everything that happens. It is the counterpart of
 * `StateCore` in the Python client. A client without one ignores what the server says about entries.
 */

import type { Body } from "../wire/decode.js";
import type { Encoded } from "../wire/encode.js";
import { NEVER, type Random } from "./backoff.js";
import type { ConnectionCore } from "./connection.js";
import type { RequestFailed } from "./errors.js";
import type { Output } from "./facts.js";

/** Takes a message of one type. Throws `BadServerMessage` for one that is malformed. */
export type Handler = (body: Body, now: number) => void;

/** What a room may use of the core. */
export interface Speech {
  /** Source of jitter. */
  readonly random: Random;
  /** Send a message under a fresh id, and return the id; its answer comes to the room alone. Only while connected. */
  request(kind: string, body: object): number;
  /** Send one message without an id. Only while connected; what is sent in one step goes out together. */
  send(message: Encoded): void;
  /** Tell a fact, behind everything told before. */
  tell(output: Output): void;
  /** Says whether there is a session, and what the server takes; `hangUp` where only a new session gives what is needed. */
  readonly connection: ConnectionCore;
}

/** What the core tells a room. */
export interface EntriesRoom {
  /**
   * Messages of these types concern it: `watched`, `snapshot`, `outcome`, `out_of_order`, `invalidate`, and, as they do
   * channels, which come first, `event`, `mark`, `lagged`, `unsubscribed`.
   */
  readonly handlers: Readonly<Record<string, Handler>>;
  /** Whether it can only go on with what a new session gives: client ids, or where the server stands. */
  readonly needsSession: boolean;
  /** A session is there; called before channels and requests send anything. `body` is the `welcome`. */
  greeted(body: Body, now: number): void;
  /** The session is gone. */
  wentOffline(): void;
  /** How long the messages are that are to be sent until they have an answer. */
  readonly sizes: readonly number[];
  /** The client is over. */
  endAll(error: Error): void;
  /** Finish the step: fold and tell what changed, send what waited. Called before outputs are taken. */
  flush(): void;
  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number;
  /** Do what is due. Only while connected. */
  tick(now: number): void;
  /** Take an error with an id; return whether it answered one of this room's requests. */
  refused(requestId: number, error: RequestFailed, now: number): boolean;
  /** Take an error that names a mutation in place of an id. */
  mutationFailed(body: Body, error: RequestFailed, now: number): void;
  /** The server no longer knows this client; null: any of them. */
  forgetClient(client: string | null): void;
  /** Positions of this channel mean nothing any more; null: of all. */
  reset(channel: string | null, now: number): void;
}

/** Opens a room over the core that it belongs to. */
export type OpenEntries<Room extends EntriesRoom> = (speech: Speech) => Room;

/** The room of a client that has no collections. */
export function openNoEntries(): EntriesRoom {
  const nothing = () => undefined;
  return {
    handlers: {},
    needsSession: false,
    greeted: nothing,
    wentOffline: nothing,
    sizes: [],
    endAll: nothing,
    flush: nothing,
    nextDeadline: () => NEVER,
    tick: nothing,
    refused: () => false,
    mutationFailed: nothing,
    forgetClient: nothing,
    reset: nothing,
  };
}
