/** What an application imports from `syncd-client`. */

export {
  Channel,
  type ChannelListeners,
  ChannelPresence,
  type HistoryOptions,
  type PublishOptions,
  type SubscribeOptions,
} from "./channel.js";
export type { ChannelsClient } from "./channels-client.js";
export { Client, createClient } from "./client.js";
export {
  Collection,
  type CollectionEntry,
  type Condition,
  type EntryFilter,
  type WatchChange,
  type WatchSelection,
  type WatchStatus,
} from "./collection.js";
export type { Invalidation, MutationOutcome, OutcomeStatus } from "./core/entries/facts.js";
export type { Elsewhere, Mutator, MutatorTx } from "./core/entries/tx.js";
export {
  ClientClosed,
  ClientError,
  ConnectionStopped,
  MutationFailed,
  RequestFailed,
} from "./core/errors.js";
export type {
  EntryRead,
  HistoryPage,
  ReadResult,
  Reset,
  ResetCause,
  SubscriptionChanged,
} from "./core/facts.js";
export { type ConnectionState, isFinal, type SubscriptionState } from "./core/tables.js";
export type { LocalValue, Mutate, Mutation, MutatorMap } from "./mutation.js";
export type { ChannelsClientOptions, ClientOptions, ConnectionStatus } from "./options.js";
export type { Environment, Signal, SocketLike, SocketMaker } from "./shell/environment.js";
export type { PendingStore, StoredMutation } from "./shell/pending-store.js";
export type { TokenSource } from "./shell/tokens.js";
export type { CloseCode, ErrorCode, Reason } from "./wire/codes.js";
export type { ChannelEvent, Member, MemberState } from "./wire/frames.js";
export type { Position } from "./wire/messages.js";
