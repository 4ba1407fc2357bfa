/** What must compile of the parts that not everybody imports, and what must not. */

import { IDBFactory } from "fake-indexeddb";
import { createClient, type PendingStore } from "../../src/index.ts";
import {
  cancelMutation,
  type MutationStatus,
  onMutationsChange,
  type PendingMutation,
  pendingMutations,
} from "../../src/mutations/index.ts";
import { type CacheRebuild, cacheRebuild, type RebuildView } from "../../src/rebuild/index.ts";
import {
  type DurableQueue,
  durableQueue,
  type ExportedMutation,
  joinStore,
  type StorageStatus,
} from "../../src/storage/index.ts";
import { type SharedTabs, sharedTabs } from "../../src/tabs/index.ts";

const url = "/ws";

// ---------------------------------------------------------------------------------- ./storage

const queue: DurableQueue = durableQueue({ user: "ann", url, schema: 2 });
durableQueue({ user: "ann", url, environment: { indexedDB: null } });
durableQueue({ user: "ann", url, environment: { indexedDB, locks: navigator.locks } });
durableQueue({ user: "ann", url, environment: { indexedDB: new IDBFactory(), randomName: () => "page" } });
createClient({ url, store: queue });
const status: StorageStatus = queue.status;
const stopStatus: () => void = queue.onStatus(({ mode, reason }) => [mode === "memory", reason.length]);
const kept: Promise<ExportedMutation[]> = queue.exported();
void kept.then((all) => queue.discard(all.filter(({ canBeSent }) => !canBeSent).map(({ id }) => id)));
const own: PendingStore = {
  load: async () => [],
  append: async (mutations) => void mutations.map(({ id, claim }) => [id, claim?.secret]),
  remove: async () => undefined,
  join: joinStore,
};
createClient({ url, store: own });
void [status, stopStatus];

// @ts-expect-error what is kept is of a user: nobody else sends it
durableQueue({ url });
// @ts-expect-error a schema is a number
durableQueue({ user: "ann", url, schema: "2" });
// @ts-expect-error there are two places where it may be
void (queue.status.mode === "cookie");
// @ts-expect-error a status does not change
queue.status.mode = "memory";
// @ts-expect-error a store says how a client uses it
createClient({ url, store: { load: async () => [], append: async () => undefined, remove: async () => {} } });

// ---------------------------------------------------------------------------------- ./tabs

const tabs: SharedTabs = sharedTabs({ user: "ann" });
createClient({ url, tabs });
createClient({ url, tabs, store: queue });
sharedTabs({ user: "ann", environment: { locks: navigator.locks, kept: localStorage } });
sharedTabs({ user: "ann", environment: { openChannel: (name) => new BroadcastChannel(name), kept: null } });
const role: "leader" | "follower" | "solo" = tabs.role;
void role;

// @ts-expect-error tabs are of a user: those of others are strangers
sharedTabs({});
// @ts-expect-error tabs are found by what `sharedTabs` returns, not by a word
createClient({ url, tabs: "shared" });
// @ts-expect-error there is no such role
void (tabs.role === "boss");
// @ts-expect-error a channel is opened by its name
sharedTabs({ user: "ann", environment: { openChannel: (name: number) => new BroadcastChannel(`${name}`) } });

// ---------------------------------------------------------------------------------- ./rebuild

const client = createClient({ url, mutators: { tidy: null } });
const rebuild: CacheRebuild = cacheRebuild(client, "orders");
const view: RebuildView = rebuild.view;
const stopRebuild: () => void = rebuild.subscribe(() => view.progress?.etaMs);
rebuild.start();
rebuild.start({ mode: "keys", keys: ["a"], keepMissing: true, maxRowsPerS: 100 });
rebuild.cancel();
void [view.state === "swapping", view.canStart && view.error, stopRebuild];

// @ts-expect-error a rebuild is of a collection
cacheRebuild(client);
// @ts-expect-error there is no such mode
rebuild.start({ mode: "half" });
// @ts-expect-error keys are a list
rebuild.start({ mode: "keys", keys: "a" });
// @ts-expect-error there is no such state
void (rebuild.view.state === "paused");
// @ts-expect-error it may not be known how many rows there are
const total: number = rebuild.view.progress?.total;
// @ts-expect-error what is known changes by what is heard alone
rebuild.view.canStart = true;
void total;

// ---------------------------------------------------------------------------------- ./mutations

const list: readonly PendingMutation[] = pendingMutations(client);
const stopMutations: () => void = onMutationsChange(client, () => undefined);
const isCancelled: boolean = cancelMutation(client, client.mutate("orders.put", null).id);
const word: MutationStatus | undefined = list[0]?.status;
void [stopMutations, isCancelled, word === "queued", list.map(({ name, madeAtMs }) => [name, madeAtMs * 2])];

// @ts-expect-error a mutation is cancelled by its number, which is of a client
cancelMutation(client.mutate("orders.put", null).id);
// @ts-expect-error its name is not enough
cancelMutation(client, "orders.put");
// @ts-expect-error what is decided for good is not in the list
void (word === "ok");
// @ts-expect-error the list changes by what happens alone
list.pop();
// @ts-expect-error so do the mutations in it
(list[0] as PendingMutation).status = "sent";
// @ts-expect-error arguments are of any kind
void list[0]?.args.key;
