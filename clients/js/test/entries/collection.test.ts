import { describe, expect, it } from "vitest";
import { createClient, type MutatorTx, type WatchChange } from "../../src/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";
import type { Message } from "../../src/wire/decode.ts";
import { encodeMessage } from "../../src/wire/encode.ts";
import { KeptStore } from "./store.ts";

const mutators = {
  orders: {
    ship: (tx: MutatorTx, { id }: { id: string }) => {
      const order = tx.get(id);
      if (order === null) tx.reject("unknown_order", "There is no such order.");
      if (order.status === "gone") throw new Error("no such step");
      tx.patch(id, { status: "shipped" });
      return order.status as string;
    },
    silent: null,
  },
  now: (tx: MutatorTx) => tx.put("t", tx.nowMs, { collection: "orders" }),
};

function made(options: { store?: KeptStore } = {}) {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment, mutators, ...options });
  const orders = client.collection<{ status: string }>("orders");
  return { world, server: world.server.entries, client, orders };
}

/** The types of the messages that the server gets from now on. */
function record({ server }: FakeWorld): string[] {
  const sent: string[] = [];
  const { last } = server;
  const take = last.onMessage;
  last.onMessage = (kind, body) => {
    sent.push(kind);
    take?.(kind, body);
  };
  return sent;
}

/** Have the server take nothing until the returned function is called. */
function hold({ server }: FakeWorld): () => void {
  const held: Message[] = [];
  const { last } = server;
  const take = last.onMessage;
  last.onMessage = (kind, body) => held.push([kind, body]);
  return () => {
    last.onMessage = take;
    for (const message of held) take?.(...message);
  };
}

function eventOf(offset: number, key: string, status: string) {
  return { channel: "orders", epoch: "state-1", offset, key, data: { value: { status } }, at_ms: 0 };
}

async function watched() {
  const all = made();
  for (const key of ["3", "1", "2"]) all.server.write("orders", key, { status: "open" });
  all.client.connect();
  const stop = all.orders.watch();
  await all.world.clock.advance(0);
  return { ...all, stop };
}

describe("a collection", () => {
  it("is empty and idle until it is watched, then loads, sorted by key", async () => {
    const { world, client, orders, server } = made();
    server.write("orders", "b", { status: "open" });
    server.write("orders", "a", { status: "open" });
    expect([orders.status(), orders.list()]).toEqual(["idle", []]);
    const changes: WatchChange[] = [];
    orders.watch({ all: true }, (change) => changes.push(change));
    expect(orders.status()).toBe("loading");
    client.connect();
    await world.clock.advance(0);
    expect(orders.list().map(({ key }) => key)).toEqual(["a", "b"]);
    expect(changes).toEqual([{ status: "current", keys: new Set(["a", "b"]), code: null, message: "" }]);
    world.server.dropAll();
    await world.clock.advance(0);
    expect(orders.status()).toBe("stale");
    expect(client.collection("orders")).toBe(orders);
  });

  it("keeps what does not change: entries, lists, filtered lists", async () => {
    const { world, server, orders } = await watched();
    const isOpen = ({ status }: { status: string }) => status === "open";
    const [list, open] = [orders.list(), orders.list(isOpen)];
    expect([orders.list(), orders.list(isOpen)].map((one, at) => one === [list, open][at])).toEqual([
      true,
      true,
    ]);
    server.write("orders", "2", { status: "shipped" });
    await world.clock.advance(0);
    expect(orders.list()).not.toBe(list);
    expect(orders.list().map((entry, at) => entry === list[at])).toEqual([true, false, true]);
    expect(orders.list(isOpen).map(({ key }) => key)).toEqual(["1", "3"]);
    const filtered = orders.list(isOpen);
    server.write("orders", "2", { status: "gone" });
    await world.clock.advance(0);
    expect(orders.list(isOpen)).toBe(filtered);
    server.write("orders", "0", { status: "new" });
    server.write("orders", "3", undefined);
    await world.clock.advance(0);
    expect(orders.list().map(({ key }) => key)).toEqual(["0", "1", "2"]);
  });

  it.each([100, 101, 250])("lists what it shows when %i entries change at once", async (num) => {
    const { world, orders } = await watched();
    const keys = Array.from({ length: num }, (_, n) => `1-${String(n).padStart(3, "0")}`);
    const isNew = ({ status }: { status: string }) => status === "new";
    let offset = 3;
    const changed = async (data: object) => {
      const frames = keys.map((key) => {
        offset += 1;
        return encodeMessage("event", { ...eventOf(offset, key, ""), data }).bytes;
      });
      world.server.last.sendFrame(new Uint8Array(Buffer.concat(frames)));
      await world.clock.advance(0);
      return [orders.list().map(({ key, value }) => `${key} ${value.status}`), orders.list(isNew).length];
    };
    const listOf = (status: string) => [
      "1 open",
      ...keys.map((key) => `${key} ${status}`),
      "2 open",
      "3 open",
    ];
    expect([orders.list().length, orders.list(isNew).length]).toEqual([3, 0]);
    expect(await changed({ value: { status: "new" } })).toEqual([listOf("new"), num]);
    expect(await changed({ value: { status: "old" } })).toEqual([listOf("old"), 0]);
    expect(await changed({ deleted: true })).toEqual([["1 open", "2 open", "3 open"], 0]);
  });

  it("tells once what one frame, or one call, changed in several entries", async () => {
    const { world, orders } = await watched();
    let numTold = 0;
    orders.subscribe(() => {
      numTold += 1;
      expect(orders.get("1")).toEqual(orders.get("2"));
    });
    const events = ["1", "2"].map((key, place) => encodeMessage("event", eventOf(4 + place, key, "x")).bytes);
    world.server.last.sendFrame(new Uint8Array(Buffer.concat(events)));
    await world.clock.advance(0);
    expect(numTold).toBe(1);
  });

  it("shows a prediction at once and settles it in the notification that shows the effect", async () => {
    const { world, client, orders } = await watched();
    const told: unknown[] = [];
    orders.subscribe(() => told.push([orders.get("1")?.status, orders.pending("1").length]));
    const release = hold(world);
    const { id, local, server } = client.mutate.orders.ship({ id: "1" });
    expect([local, orders.get("1"), orders.pending("1")]).toEqual(["open", { status: "shipped" }, [id]]);
    expect(orders.entry("1")?.pending).toBe(orders.pending("1"));
    void server.then(
      () => told.push("server"),
      () => told.push("refused"),
    );
    release();
    await world.clock.advance(0);
    // The fake server does not know the mutator.
    expect(told).toEqual([["shipped", 1], ["open", 0], "refused"]);
  });

  it("refuses before anything is queued: what the mutator rejects or throws, what is too large, what has no form", async () => {
    const { client, orders, server, world } = await watched();
    expect(() => client.mutate.orders.ship({ id: "9" })).toThrow(
      expect.objectContaining({ name: "MutationFailed", status: "rejected", code: "unknown_order" }),
    );
    server.write("orders", "1", { status: "gone" });
    await world.clock.advance(0);
    expect(() => client.mutate.orders.ship({ id: "1" })).toThrow("no such step");
    expect(() => orders.put("1", { status: "x".repeat(70_000) })).toThrow(
      expect.objectContaining({ code: "too_large" }),
    );
    expect(() => client.mutate("orders.put", { key: "1", value: () => 1 })).toThrow(TypeError);
    await client.settled();
    await world.clock.advance(0);
    expect(server.numRuns.size).toBe(0);
  });

  it("sends a mutation whose prediction throws on rebase, and predicts nothing", async () => {
    const { client, orders, world } = await watched();
    const sent: string[] = [];
    world.server.last.onMessage = (kind) => sent.push(kind);
    client.mutate.orders.ship({ id: "1" });
    expect(orders.get("1")?.status).toBe("shipped");
    world.server.last.send("event", eventOf(4, "1", "gone"));
    await world.clock.advance(0);
    expect([orders.get("1"), orders.pending("1"), sent]).toEqual([{ status: "gone" }, [], ["mutate"]]);
    expect(world.errors).toEqual([]);
    expect(world.logs).toEqual(["syncd: mutator_failed: orders.ship: Error: no such step"]);
  });

  it("mutates as built in, alone or on a condition, and by registered names", async () => {
    const { client, orders, server, world } = await watched();
    const release = hold(world);
    void orders.put("4", { status: "new" });
    void orders.patch("4", { by: "me" });
    void client.collection("counts").incr("n", 2);
    void orders.delete("2");
    void orders.put("1", { status: "never" }, { ifVersion: 99 }).server.catch(() => undefined);
    void client.mutate.now().server.catch(() => undefined);
    expect(orders.list().map(({ key, value }) => [key, value])).toEqual([
      ["1", { status: "open" }],
      ["3", { status: "open" }],
      ["4", { status: "new", by: "me" }],
      ["t", world.clock.wallNow()],
    ]);
    release();
    await client.settled();
    expect(server.all("orders")).toEqual({
      "1": { status: "open" },
      "3": { status: "open" },
      "4": { status: "new", by: "me" },
    });
    expect(server.get("counts", "n")).toBe(2);
  });

  it("shares the watch of one selection, and leaves it a turn after its last listener", async () => {
    const { world, orders, stop } = await watched();
    const sent = record(world);
    const again = orders.watch();
    stop();
    await world.clock.advance(0);
    expect([sent, orders.list().length]).toEqual([[], 3]);
    again();
    const back = orders.watch();
    await world.clock.advance(0);
    expect([sent, orders.list().length]).toEqual([[], 3]);
    orders.watch({ keys: ["1", "9"] });
    await world.clock.advance(0);
    back();
    await world.clock.advance(0);
    expect(orders.list().map(({ key }) => key)).toEqual(["1"]);
    expect(sent).toEqual(["watch", "unwatch", "watch"]);
    expect(() => orders.watch({ all: true, partition: "x" } as never)).toThrow(TypeError);
  });

  it("tells invalidations, and a watch that the server ended", async () => {
    const { world, client, orders, server } = await watched();
    const told: unknown[] = [];
    client.onInvalidate(({ collection, tags }) => told.push([collection, tags]));
    orders.watch({ all: true }, ({ status, code }) => told.push([status, code]));
    server.invalidate("orders", { tags: ["eu"] });
    world.server.last.send("unsubscribed", { channel: "orders", code: "permission_denied", reason: "" });
    await world.clock.advance(0);
    expect(told).toEqual([
      ["orders", ["eu"]],
      ["idle", "permission_denied"],
    ]);
    expect([orders.status(), orders.list()]).toEqual(["idle", []]);
  });

  it("rejects what is pending when it is closed, and takes nothing more", async () => {
    const { client, orders, world } = await watched();
    world.server.dropAll();
    await world.clock.advance(0);
    const { server } = orders.put("1", { status: "late" });
    client.close();
    await expect(server).rejects.toMatchObject({ status: "unsent" });
    await client.settled();
    expect(() => orders.put("1", { status: "later" })).toThrow("closed");
  });

  it("reads once, and makes names that nobody else makes", async () => {
    const { world, client, orders } = await watched();
    const read = orders.read(["1", "9"]);
    await world.clock.advance(0);
    expect((await read).entries.map(({ key, isDeleted }) => [key, isDeleted])).toEqual([
      ["1", false],
      ["9", true],
    ]);
    expect(client.newId()).toMatch(/^[0-9a-f]{32}$/);
    expect(client.newId()).not.toBe(client.newId());
  });
});

describe("a client with a store", () => {
  it("sends nothing before it is kept under the number it is sent with", async () => {
    const store = new KeptStore();
    const { world, client, orders } = made({ store });
    client.connect();
    await world.clock.advance(0);
    let open: () => void = () => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    orders.put("1", { status: "new" });
    orders.put("2", { status: "new" });
    const sent = record(world);
    await world.clock.advance(10);
    expect([sent, store.kept.size]).toEqual([[], 0]);
    open();
    await world.clock.advance(0);
    expect(sent).toEqual(["mutate", "mutate"]);
    await client.settled();
    await world.clock.advance(0);
    expect(store.kept.size).toBe(0);
  });

  it("keeps what is made before the first connection, and again under its client's name", async () => {
    const store = new KeptStore();
    const { world, client, orders, server } = made({ store });
    orders.put("1", { status: "new" });
    await world.clock.advance(0);
    expect([...store.kept.values()].map(({ claim }) => claim)).toEqual([null]);
    world.server.isReachable = true;
    client.connect();
    await world.clock.advance(0);
    await client.settled();
    expect(store.calls).toEqual(["load", "append", "append", "remove"]);
    expect(server.get("orders", "1")).toEqual({ status: "new" });
  });

  it("goes on in memory when the store fails, and reports it", async () => {
    const store = new KeptStore();
    store.failure = new Error("no disk");
    const { world, client, orders, server } = made({ store });
    client.connect();
    await world.clock.advance(0);
    store.failure = new Error("disk full");
    orders.put("1", { status: "new" });
    await world.clock.advance(0);
    expect(server.get("orders", "1")).toEqual({ status: "new" });
    expect(world.errors.map(String)).toEqual(["Error: no disk", "Error: disk full"]);
  });

  it("speaks for no more clients of earlier pages than its first frame has room for, and leaves the others", async () => {
    const store = new KeptStore();
    const { world, client, server } = made({ store });
    for (let n = 1; n <= 20; n++) {
      const args = { key: `k${n}`, value: n };
      // As long as SPEC lets them be would be fewer still; these are as long as a node's.
      const claim = { client: `${n}`.padStart(32, "c"), secret: "s".repeat(43) };
      world.server.issue(claim);
      store.kept.set(`id-${n}`, { id: `id-${n}`, claim, mid: 1, name: "orders.put", args, madeAtMs: 0 });
    }
    client.setToken("t".repeat(2_000));
    client.connect();
    await world.clock.advance(0);
    await client.settled();
    // One removal after the other: more turns than one look at the clock takes.
    for (let turn = 0; turn < 64; turn++) await world.clock.advance(0);
    expect(Object.keys(server.all("orders"))).toHaveLength(16);
    expect([...store.kept.keys()]).toEqual([17, 18, 19, 20].map((n) => `id-${n}`));
  });

  it("keeps what an earlier page left in its place when it numbers it anew, so that it is never there twice", async () => {
    const store = new KeptStore();
    const { world, client, server } = made({ store });
    const claim = { client: "old", secret: "s" };
    world.server.issue(claim);
    const put = (key: string) => ({ name: "orders.put", args: { key, value: 1 }, madeAtMs: 0 });
    store.kept.set("a", { id: "a", claim, mid: 1, ...put("a") });
    store.kept.set("b", { id: "b", claim: null, mid: 1, ...put("b") });
    server.isDeciding = false;
    client.connect();
    await world.clock.advance(0);
    const kept = [...store.kept.values()].map(({ id, claim, mid }) => [id, claim?.client, mid]);
    expect(kept).toEqual([
      ["a", "old", 1],
      ["b", "old", 2],
    ]);
    server.decideAll();
    await world.clock.advance(0);
    expect([store.kept.size, client.numPending]).toEqual([0, 0]);
  });

  it("that is disconnected before it has loaded stays so until it is to connect", async () => {
    const { world, client } = made({ store: new KeptStore() });
    client.connect();
    client.disconnect();
    await world.clock.advance(60_000);
    expect([client.state, world.server.ends.length]).toEqual(["idle", 0]);
    client.connect();
    client.disconnect();
    client.connect();
    await world.clock.advance(0);
    expect([client.state, world.server.ends.length]).toEqual(["connected", 1]);
  });

  it("that is closed before it has loaded leaves everything where it is", async () => {
    const store = new KeptStore();
    const args = { key: "1", value: 1 };
    store.kept.set("a", { id: "a", claim: null, mid: 1, name: "orders.put", args, madeAtMs: 0 });
    const { world, client } = made({ store });
    client.connect();
    client.close();
    await world.clock.advance(60_000);
    await client.settled();
    expect([store.kept.size, world.server.ends.length]).toEqual([1, 0]);
  });
});
