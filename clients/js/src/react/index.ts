/** What an application imports from `syncd-client/react`. */

export {
  type ChannelView,
  type Falsy,
  type OwnPresence,
  type UseChannelOptions,
  useChannel,
  useOthers,
  usePresence,
} from "./channel.js";
export { SyncProvider, type SyncProviderProps, useClient, useConnection } from "./client.js";
export type { Equality, Selector } from "./store.js";
