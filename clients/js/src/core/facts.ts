/** What the core says: actions for the shell to perform, and facts for the application to know. */

import type { ChannelEvent, Member } from "../wire/frames.js";
import type { Position } from "../wire/messages.js";
import type { EntriesNews } from "./entries/facts.js";
import type { ConnectionState, SubscriptionState } from "./tables.js";

/** What the shell performs. */
export type Action =
  /** Open a connection; answer with `connectSucceeded` and later `closed`, or with `closed` alone. */
  | { readonly do: "dial" }
  /** Send one binary frame. */
  | { readonly do: "send"; readonly data: Uint8Array }
  /** End the connection, or the attempt; answer with `closed`. */
  | { readonly do: "hangup"; readonly code: number; readonly reason: string }
  /** Get a token; answer with `tokenSupplied`, `tokenMissing` or `tokenUnavailable`. */
  | { readonly do: "ask-token" };

/** The connection went from one state to another, or why it is in its state has changed. */
export interface StateChanged {
  readonly kind: "state";
  /** What it is now. */
  readonly state: ConnectionState;
  /** Close code that led here; null when none did. */
  readonly code: number | null;
  /** For people; may be empty. */
  readonly reason: string;
  /** Which dial this is, or was, since a connection was last stable: 1 for the first; 0 before any. */
  readonly attempt: number;
  /** When it dials, or asks for a token, by itself, on the shell's clock; null when it does not. */
  readonly retryAt: number | null;
}

/** Where a subscription stands with the server. */
export interface SubscriptionChanged {
  readonly kind: "subscription";
  readonly channel: string;
  /** Which subscription of the channel this is: one that was made later has a higher one. */
  readonly generation: number;
  /** What it is doing now. */
  readonly state: SubscriptionState;
  /** `subscribed` only: where the server stands; null on ephemeral channels. */
  readonly position: Position | null;
  /** `subscribed` only: a position was given. */
  readonly wasRecovering: boolean;
  /** `subscribed` only: nothing was missed since that position. */
  readonly recovered: boolean;
  /** `ended` by the server only: an error code or reason of `protocol/codes.toml`. */
  readonly code: string | null;
  /** For people; may be empty. */
  readonly reason: string;
}

/**
 * Why the events between two positions cannot be had.
 *
 * - `epoch-changed`: the channel's history was lost or replaced.
 * - `out-of-retention`: the position is older than what the server keeps.
 * - `not-kept`: the channel keeps no history, and the connection was away.
 */
export type ResetCause = "epoch-changed" | "out-of-retention" | "not-kept";

/** An event for the application; the position was advanced before. */
export interface Received {
  readonly kind: "event";
  readonly channel: string;
  readonly generation: number;
  readonly event: ChannelEvent;
}

/** Everything up to here was received or superseded. */
export interface Marked {
  readonly kind: "mark";
  readonly channel: string;
  readonly generation: number;
  readonly position: Position;
}

/** Events may have been missed: what was built from this channel must be fetched anew. */
export interface Reset {
  readonly kind: "reset";
  readonly channel: string;
  readonly generation: number;
  /** Where the next event follows; null on ephemeral channels. */
  readonly position: Position | null;
  readonly cause: ResetCause;
}

/** The members of a channel, whole, in order of arrival. */
export interface PresenceChanged {
  readonly kind: "presence";
  readonly channel: string;
  readonly generation: number;
  readonly members: readonly Member[];
}

/** Answer to a history request. */
export interface HistoryPage {
  /** In the order asked for. */
  readonly events: readonly ChannelEvent[];
  /** The channel's top. */
  readonly position: Position | null;
}

/** One entry of an answer to a read. */
export interface EntryRead {
  readonly key: string;
  /** Offset of its last change; of one that is not there, the offset up to which that is known. */
  readonly version: number;
  /** Null when deleted. */
  readonly value: unknown;
  /** There is no such entry. */
  readonly isDeleted: boolean;
}

/** Answer to a read: one entry a key, in the order asked. */
export interface ReadResult {
  readonly position: Position | null;
  readonly entries: readonly EntryRead[];
}

/** The answer to an operator's request. */
export interface JobResult {
  /** How the job stands; absent or null for none. */
  readonly job: unknown;
}

/** What a request may be answered with. */
export type RequestResult = Position | HistoryPage | ReadResult | JobResult | null;

/** A request has its answer: a result, or an error. */
export interface Settled {
  readonly kind: "settled";
  readonly requestId: number;
  readonly result: RequestResult;
  readonly error: Error | null;
}

/** The server reported an error that belongs to no request. For the log. */
export interface Complaint {
  readonly kind: "complaint";
  readonly code: string;
  readonly message: string;
}

/** What the application may know of a subscription. */
export type ChannelFact = SubscriptionChanged | Received | Marked | Reset | PresenceChanged;

/** What the application may know. */
export type Fact = StateChanged | ChannelFact | Settled | Complaint | EntriesNews;

/** An action or a fact, in the order in which they came about. */
export type Output = Action | Fact;
