/** The fake server's collections, seen by a client: what applications test against must behave like a server. */

import { beforeEach, describe, expect, it } from "vitest";
import { type Client, createClient, type Invalidation, MutationFailed } from "../../src/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";

let world: FakeWorld;
let client: Client;

beforeEach(async () => {
  world = createFakeWorld();
  client = createClient({ url: "ws://x/ws", environment: world.environment });
  client.connect();
  await world.clock.advance(0);
});

const list = (name = "orders") =>
  client
    .collection(name)
    .list()
    .map(({ key, value }) => [key, value]);

describe("the fake server's collections", () => {
  it("are watched whole, by keys and by partition, and tell no more once they are left", async () => {
    const { entries } = world.server;
    entries.partitioned.add("stock");
    for (const key of ["eu/1", "us/1", "us/2"]) entries.write("stock", key, 1);
    entries.write("orders", "a", 1);
    const stops = [
      client.collection("orders").watch({ keys: ["a", "b"] }),
      client.collection("stock").watch({ partition: "us" }),
    ];
    await world.clock.advance(0);
    expect([list(), list("stock")]).toEqual([
      [["a", 1]],
      [
        ["us/1", 1],
        ["us/2", 1],
      ],
    ]);
    entries.write("orders", "b", 2);
    entries.write("orders", "c", 3);
    entries.write("stock", "eu/2", 2);
    entries.write("stock", "us/1", undefined);
    expect([list(), list("stock")]).toEqual([
      [
        ["a", 1],
        ["b", 2],
      ],
      [["us/2", 1]],
    ]);
    for (const stop of stops) stop();
    await world.clock.advance(1);
    entries.write("orders", "a", 4);
    expect(client.collection("orders").get("a")).toBe(undefined);
    client.collection("orders").watch();
    await world.clock.advance(0);
    expect(list()).toEqual([
      ["a", 4],
      ["b", 2],
      ["c", 3],
    ]);
  });

  it("tell after a reconnect what was missed, invalidations included", async () => {
    const { entries } = world.server;
    const heard: Invalidation[] = [];
    client.onInvalidate((invalidation) => heard.push(invalidation));
    client.collection("orders").watch();
    await world.clock.advance(0);
    world.server.dropAll();
    entries.write("orders", "a", 1);
    entries.invalidate("orders", { tags: ["t"], cause: "why" });
    await world.clock.advance(20_000);
    expect(list()).toEqual([["a", 1]]);
    expect(heard).toEqual([expect.objectContaining({ tags: ["t"], keys: [], isAll: false, cause: "why" })]);
  });

  it("decide mutations once and in order, also when the connection is lost before the answer", async () => {
    const { entries } = world.server;
    client.collection("orders").watch();
    entries.isDeciding = false;
    const sums = [1, 2, 3].map((by) => client.mutate("orders.incr", { key: "a", by }).server);
    await world.clock.advance(0);
    world.server.last.isMuted = true;
    entries.decideAll();
    world.server.dropAll();
    entries.isDeciding = true;
    await world.clock.advance(20_000);
    expect(await Promise.all(sums)).toEqual([1, 3, 6]);
    expect([entries.get("orders", "a"), list()]).toEqual([6, [["a", 6]]]);
  });

  it("reject what a mutator rejects, throws or does not know, and change nothing", async () => {
    const { entries } = world.server;
    entries.mutators.set("orders.refuse", (tx) => {
      tx.put("a", 1);
      tx.reject("never", "Never.");
    });
    entries.mutators.set("orders.fail", () => {
      throw new Error("broken");
    });
    const failed = async (name: string) => {
      const error = await client.mutate(name).server.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(MutationFailed);
      const { status, code, message } = error as MutationFailed;
      return [status, code, message];
    };
    expect(await failed("orders.refuse")).toEqual(["rejected", "never", "Never."]);
    expect(await failed("orders.fail")).toEqual(["rejected", "mutator_failed", "broken"]);
    expect((await failed("orders.none"))[1]).toBe("unknown_mutator");
    expect(entries.get("orders", "a")).toBe(undefined);
  });
});

describe("numPending", () => {
  it("counts mutations until they are settled, and tells each change once", async () => {
    const told: number[] = [];
    const stop = client.onPending((numPending) => told.push(numPending));
    client.mutate("orders.put", { key: "a", value: 1 }); // decided within the call
    expect(told).toEqual([]);
    world.server.entries.isDeciding = false;
    client.mutate("orders.put", { key: "a", value: 1 });
    client.mutate("orders.put", { key: "b", value: 1 });
    expect(client.numPending).toBe(2);
    world.server.entries.decideAll();
    expect([client.numPending, told]).toEqual([0, [1, 2, 1, 0]]);
    stop();
    client.mutate("orders.put", { key: "c", value: 1 });
    expect(told).toHaveLength(4);
  });

  it("tells the end of what was never sent", () => {
    const told: number[] = [];
    client.disconnect();
    client.onPending((numPending) => told.push(numPending));
    client.mutate("orders.put", { key: "a", value: 1 });
    client.close();
    expect([client.numPending, told]).toEqual([0, [1, 0]]);
  });
});
