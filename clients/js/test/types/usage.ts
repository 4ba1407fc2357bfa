/** What must compile, and what must not: read by `tsc -p tsconfig.types.json`, with the browser's types. */

import { WebSocket as NodeWebSocket } from "ws";
import {
  type Client,
  type CollectionEntry,
  type ConnectionState,
  createClient,
  type Member,
  type Mutation,
  type MutatorTx,
  type Position,
} from "../../src/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

const client: Client = createClient({ url: "/ws" });
createClient({ url: "/ws", getToken: () => "token", group: "device" });
createClient({ url: "/ws", getToken: async () => null });
createClient({ url: "/ws", environment: { WebSocket } });
createClient({ url: "/ws", environment: { WebSocket: NodeWebSocket } });
createClient({ url: "/ws", environment: createFakeWorld().environment });

const state: ConnectionState = client.state;
const stop: () => void = client.channel("a:b").subscribe({ onEvent: (event) => event.position?.offset });
const position: Promise<Position | null> = client.channel("a:b").publish({ any: "thing" });
const others: readonly Member[] = client.channel("a:b").presence.others;
void [state, stop, position, others];

// @ts-expect-error a client needs a URL
createClient({});
// @ts-expect-error a token is a string
createClient({ url: "/ws", getToken: () => 3 });
// @ts-expect-error there is no such state
const wrong: ConnectionState = "open";
void wrong;
client.channel("a:b").subscribe({
  onEvent: (event) => {
    // @ts-expect-error what was published may be anything: look before you use it
    event.data.id;
    // @ts-expect-error an event does not change
    event.data = 1;
  },
});
// @ts-expect-error there is no such listener
client.channel("a:b").subscribe({ onMessage: () => undefined });
// @ts-expect-error a limit is a number
client.channel("a:b").history({ limit: "10" });
// @ts-expect-error members do not change
client.channel("a:b").presence.others.push();

interface Order {
  status: string;
}
const shop = createClient({
  url: "/ws",
  mutators: {
    orders: { ship: (tx: MutatorTx, args: { id: string }) => tx.delete(args.id), silent: null },
    "stock.count": (tx: MutatorTx, { by }: { by: number }) => tx.incr("all", by),
    tidy: (tx: MutatorTx) => tx.delete("x", { collection: "orders" }),
  },
});
const plain: Client = shop;
const shipped: Mutation<boolean> = shop.mutate.orders.ship({ id: "7" });
const counted: number | undefined = shop.mutate["stock.count"]({ by: 2 }).local;
void [
  plain,
  shipped,
  counted,
  shop.mutate.tidy(),
  shop.mutate.orders.silent({ any: 1 }),
  shop.mutate("x.y", {}),
];
const orders = shop.collection<Order>("orders");
const list: readonly CollectionEntry<Order>[] = orders.list((order, key) => order.status === key);
const status: string | undefined = orders.get("7")?.status;
void [list, status, orders.watch({ keys: ["7"] }), orders.put("7", { status: "new" }, { ifVersion: 0 })];
createClient({
  url: "/ws",
  mutators: {
    // @ts-expect-error what it wrote behind an await would be lost
    late: async (tx: MutatorTx) => tx.delete("x", { collection: "orders" }),
    orders: { list: (tx: MutatorTx) => [tx.get("7")], find: (tx: MutatorTx): Order => tx.get("7") },
  },
});
createClient({
  url: "/ws",
  // @ts-expect-error the same in a collection
  mutators: { orders: { late: async (tx: MutatorTx) => void tx.delete("x") } },
});
// @ts-expect-error an argument is missing
shop.mutate.orders.ship({});
// @ts-expect-error an argument is of another type
shop.mutate["stock.count"]({ by: "2" });
// @ts-expect-error there is no such mutator
shop.mutate.orders.lose({});
// @ts-expect-error an order has a status
orders.put("7", {});
// @ts-expect-error entries do not change
orders.list()[0].value = { status: "x" };
// @ts-expect-error watch what?
orders.watch({});
// @ts-expect-error keys or a partition, not both
orders.watch({ keys: ["a/7"], partition: "a" });
// @ts-expect-error a partition is a string
orders.watch({ partition: 3 });
