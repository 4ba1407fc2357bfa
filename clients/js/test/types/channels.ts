/** What must compile of a client that has channels alone, and what must not. */

import { QueryClient } from "@tanstack/query-core";
import {
  type ChannelsClient,
  type ChannelsClientOptions,
  type ConnectionStatus,
  createClient,
  type HistoryPage,
  type Member,
  type Position,
} from "../../src/channels/index.ts";
import { type Client, createClient as createWholeClient } from "../../src/index.ts";
import { cacheRebuild } from "../../src/rebuild/index.ts";
import { durableQueue } from "../../src/storage/index.ts";
import { sharedTabs } from "../../src/tabs/index.ts";
import { invalidateQueries } from "../../src/tanstack-query/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

const url = "/ws";
const options: ChannelsClientOptions = { url, getToken: async () => "token", group: "device" };
const client: ChannelsClient = createClient(options);
createClient({ url, environment: createFakeWorld().environment });
const both: ChannelsClient[] = [client, createWholeClient(options)];
const status: ConnectionStatus = client.status;
const stop: () => void = client.onState(({ retryAt }) => retryAt?.toFixed());
const room = client.channel("a:b");
const answers: [Promise<Position | null>, Promise<HistoryPage>] = [room.publish({ any: 1 }), room.history()];
const others: readonly Member[] = room.presence.others;
const id: string = client.newId();
void [both, status, stop, answers, others, id];

// @ts-expect-error a client needs a URL
createClient({});
// @ts-expect-error it has no mutations
createClient({ url, mutators: { tidy: null } });
// @ts-expect-error nor keeps any
createClient({ url, store: durableQueue({ user: "ann", url }) });
// @ts-expect-error nor shares a connection
createClient({ url, tabs: sharedTabs({ user: "ann" }) });
// @ts-expect-error there is nothing to mutate
client.mutate("orders.ship", {});
// @ts-expect-error there are no collections
client.collection("orders");
// @ts-expect-error nothing is pending
void client.settled();
// @ts-expect-error there is no such state
void (client.state === "open");
// @ts-expect-error a status does not change
client.status.state = "idle";
// @ts-expect-error it is no whole client
const whole: Client = client;
// @ts-expect-error rebuilds are of collections
cacheRebuild(client, "orders");
// @ts-expect-error so are invalidations
invalidateQueries(client, new QueryClient(), { orders: ["orders"] });
// @ts-expect-error there is no such listener
room.subscribe({ onMessage: () => undefined });
void whole;
