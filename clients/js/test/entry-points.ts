/** The entry points that make clients: what both have must do the same. */

import {
  type ChannelsClient,
  type ChannelsClientOptions,
  createClient as createChannelsClient,
} from "../src/channels/index.ts";
import { createClient } from "../src/index.ts";

/** An entry point, as far as both are alike. */
export interface EntryPoint {
  readonly entry: string;
  createClient(options: ChannelsClientOptions): ChannelsClient;
}

export const ENTRY_POINTS: readonly EntryPoint[] = [
  { entry: "syncd-client", createClient },
  { entry: "syncd-client/channels", createClient: createChannelsClient },
];
