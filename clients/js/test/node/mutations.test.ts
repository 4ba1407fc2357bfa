/** Collections and mutations from Node against a real node. SYNCD_SEED sets which connections are lost. */

import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { WebSocket } from "ws";
import { createClient, type MutatorTx, type PendingStore } from "../../src/index.ts";
import { KeptStore } from "../entries/store.ts";
import { seeded } from "../seeded.ts";
import { LossyProxy, Node } from "./server.ts";

const SEED = Number(process.env["SYNCD_SEED"] ?? Date.now() % 1_000_000);

const mutators = {
  counters: { add: (tx: MutatorTx, { key }: { key: string }) => tx.incr(key) },
  orders: {
    ship: (tx: MutatorTx, { order_id, carrier }: { order_id: string; carrier: string }) => {
      tx.patch(order_id, { status: "shipped", carrier });
    },
  },
};

type Shop = ReturnType<typeof connect>;

function connect(url: string, store?: PendingStore) {
  const environment = { WebSocket, random: () => Math.random() * 0.002 };
  const client = createClient({ url, environment, mutators, store });
  client.connect();
  return client;
}

/** Wait until a collection, looked at after every change, is as it should be. */
function until(client: Shop, name: string, condition: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const check = () => {
      if (condition()) resolve();
    };
    client.collection(name).subscribe(check);
    check();
  });
}

describe("mutations against a real node", () => {
  let node: Node;
  const clients: Shop[] = [];
  const open = (url = node.url, store?: PendingStore): Shop => {
    const client = connect(url, store);
    clients.push(client);
    return client;
  };

  beforeAll(async () => {
    node = await Node.start("shop_app.py");
  }, 40_000);

  afterAll(async () => {
    for (const client of clients) client.close();
    await node.dispose();
  });

  it("shows a mutation at once, to others when it is decided, and rolls a rejected one back with its message", async () => {
    const [alice, bob] = [open(), open()];
    const [orders, theirs] = [alice.collection("orders"), bob.collection("orders")];
    orders.watch();
    theirs.watch();
    await until(alice, "orders", () => orders.status() === "current");
    await until(bob, "orders", () => theirs.status() === "current");
    await orders.put("7", { status: "open", total: 30 }).server;
    const seen: unknown[] = [];
    orders.subscribe(() => seen.push((orders.get("7") as { carrier?: string }).carrier));
    const refused = alice.mutate.orders.ship({ order_id: "7", carrier: "pigeon" });
    expect(orders.get("7")).toMatchObject({ status: "shipped", carrier: "pigeon" });
    expect(orders.pending("7")).toEqual([refused.id]);
    await expect(refused.server).rejects.toMatchObject({
      status: "rejected",
      code: "bad_carrier",
      message: "Pigeons do not carry parcels.",
    });
    expect(orders.get("7")).toEqual({ status: "open", total: 30 });
    expect(seen).toEqual(["pigeon", undefined]);
    expect(await alice.mutate.orders.ship({ order_id: "7", carrier: "dhl" }).server).toBe(30);
    expect(orders.entry("7")).toMatchObject({ value: { carrier: "dhl" }, pending: [] });
    await until(bob, "orders", () => (theirs.get("7") as { carrier?: string }).carrier === "dhl");
    const { entries } = await theirs.read(["7", "8"]);
    expect(entries.map(({ key, isDeleted }) => [key, isDeleted])).toEqual([
      ["7", false],
      ["8", true],
    ]);
  }, 20_000);

  it("applies what was pending when the node was killed exactly once, without a flicker", async () => {
    const client = open();
    const counters = client.collection("counters");
    counters.watch({ keys: ["kill"] });
    await until(client, "counters", () => counters.status({ keys: ["kill"] }) === "current");
    let numMade = 0;
    const wrong: unknown[] = [];
    counters.subscribe(() => {
      if (counters.get("kill") !== numMade) wrong.push([counters.get("kill"), numMade]);
    });
    const add = () => {
      numMade += 1;
      return client.mutate.counters.add({ key: "kill" }).server;
    };
    await add();
    const onTheirWay = Array.from({ length: 20 }, add);
    await onTheirWay[4];
    await node.kill();
    const offline = Array.from({ length: 20 }, add);
    expect(counters.get("kill")).toBe(41);
    await node.start();
    const sums = await Promise.all([...onTheirWay, ...offline]);
    expect(sums).toEqual(Array.from({ length: 40 }, (_, place) => place + 2));
    await client.settled();
    expect(wrong).toEqual([]);
    expect((await counters.read(["kill"])).entries[0]?.value).toBe(41);
  }, 60_000);

  it("sends what an earlier client left in its store, each once, in order", async () => {
    const store = new KeptStore();
    const first = open(node.url, store);
    first.collection("counters").watch();
    await first.mutate.counters.add({ key: "left" }).server;
    await node.kill();
    for (let n = 0; n < 5; n++) first.mutate.counters.add({ key: "left" });
    await vi.waitUntil(() => store.kept.size === 5);
    first.close();
    await node.start();
    const second = open(node.url, store);
    const told: unknown[] = [];
    second.onOutcome(({ status, value }) => told.push([status, value]));
    second.collection("counters").watch();
    const own = second.mutate.counters.add({ key: "left" });
    await expect(own.server).resolves.toBe(7);
    await second.settled();
    expect(told).toEqual([2, 3, 4, 5, 6, 7].map((value) => ["ok", value]));
    await vi.waitUntil(() => store.kept.size === 0);
  }, 60_000);

  it(`adds up over lost connections (seed ${SEED})`, async () => {
    const proxy = await LossyProxy.start(node.port);
    const random = seeded(SEED);
    const [one, other] = [open(proxy.url), open(proxy.url)];
    const wrong: unknown[] = [];
    const made = new Map<Shop, number>();
    for (const [client, key] of [
      [one, "one"],
      [other, "other"],
    ] as const) {
      const counters = client.collection("counters");
      counters.watch();
      counters.subscribe(() => {
        if (counters.status() === "loading") return;
        const shown = counters.get(key) ?? 0;
        if (shown !== (made.get(client) ?? 0)) wrong.push([key, shown, made.get(client)]);
      });
    }
    for (let turn = 0; turn < 200; turn++) {
      for (const [client, key] of [
        [one, "one"],
        [other, "other"],
      ] as const) {
        made.set(client, (made.get(client) ?? 0) + 1);
        client.mutate.counters.add({ key });
        client.mutate.counters.add({ key: "both" });
      }
      await new Promise((resolve) => setTimeout(resolve, 10 * random()));
      if (turn % 8 === 0) proxy.dropOne(random());
    }
    await Promise.all([one.settled(), other.settled()]);
    const read = await one.collection("counters").read(["one", "other", "both"]);
    expect(read.entries.map(({ value }) => value)).toEqual([200, 200, 400]);
    expect(wrong).toEqual([]);
    await proxy.dispose();
  }, 60_000);
});
