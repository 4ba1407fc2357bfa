/** What an application imports from `syncd-client/channels`: channels without collections and mutations, in half of the code. */

import { ChannelsClient } from "../channels-client.js";
import { openNoEntries } from "../core/entries.js";
import type { ChannelsClientOptions } from "../options.js";
import { completeEnvironment } from "../shell/environment.js";

export {
  Channel,
  type ChannelListeners,
  ChannelPresence,
  type HistoryOptions,
  type PublishOptions,
  type SubscribeOptions,
} from "../channel.js";
export { ChannelsClient } from "../channels-client.js";
export { ClientClosed, ClientError, ConnectionStopped, RequestFailed } from "../core/errors.js";
export type { HistoryPage, Reset, ResetCause, SubscriptionChanged } from "../core/facts.js";
export { type ConnectionState, isFinal, type SubscriptionState } from "../core/tables.js";
export type { ChannelsClientOptions, ConnectionStatus } from "../options.js";
export type { Environment, Signal, SocketLike, SocketMaker } from "../shell/environment.js";
export type { TokenSource } from "../shell/tokens.js";
export type { CloseCode, ErrorCode, Reason } from "../wire/codes.js";
export type { ChannelEvent, Member, MemberState } from "../wire/frames.js";
export type { Position } from "../wire/messages.js";

/**
 * Make a client that has channels alone. Nothing happens before `client.connect()`: subscriptions and requests may be made
 * before and wait.
 *
 * @throws TypeError the platform has no WebSocket and none is given.
 */
export function createClient(options: ChannelsClientOptions): ChannelsClient {
  return new ChannelsClient(options, completeEnvironment(options.environment), openNoEntries);
}
