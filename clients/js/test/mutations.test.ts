/** The list of what is not confirmed, and what is taken back. */

import { beforeEach, describe, expect, it } from "vitest";
import { type Client, type Collection, createClient, type MutatorTx } from "../src/index.ts";
import {
  cancelMutation,
  onMutationsChange,
  type PendingMutation,
  pendingMutations,
} from "../src/mutations/index.ts";
import { createFakeWorld, type FakeWorld } from "../src/testing/index.ts";
import { KeptStore } from "./entries/store.ts";

let world: FakeWorld;
let store: KeptStore;
let client: Client;
let orders: Collection;

async function open(keeps = true): Promise<void> {
  const { environment } = world;
  client = createClient({ url: "ws://x/ws", environment, ...(keeps ? { store } : {}) }) as unknown as Client;
  orders = client.collection("orders");
  orders.watch();
  client.connect();
  await world.clock.advance(0);
}

beforeEach(async () => {
  world = createFakeWorld();
  store = new KeptStore();
  await open();
});

/** The network is gone until `mend`. */
async function cut(): Promise<void> {
  world.server.isReachable = false;
  world.server.dropAll();
  await world.clock.advance(0);
}

async function mend(): Promise<void> {
  world.server.isReachable = true;
  await world.clock.advance(30_000);
}

/** The page ends, and another one of the user opens. */
async function reload(): Promise<void> {
  await world.clock.advance(0);
  client.disconnect();
  await open();
}

const statuses = (): string[] => pendingMutations(client).map(({ name, status }) => `${name} ${status}`);
const midsKept = (): number[] => [...store.kept.values()].map(({ mid }) => mid);

describe("the list of mutations", () => {
  it("names what is pending, oldest first, and how far each is", async () => {
    await cut();
    const { id } = orders.put("a", { n: 1 });
    orders.incr("b");
    expect(pendingMutations(client)[0]).toEqual({
      id,
      name: "orders.put",
      args: { key: "a", value: { n: 1 } },
      status: "queued",
      madeAtMs: expect.any(Number),
    });
    expect(statuses()).toEqual(["orders.put queued", "orders.incr queued"]);
    world.server.isReachable = true;
    world.server.entries.isDeciding = false;
    await world.clock.advance(30_000);
    expect(statuses()).toEqual(["orders.put sent", "orders.incr sent"]);
    world.server.entries.isDeciding = true;
    world.server.entries.decideAll();
    await world.clock.advance(0);
    expect(statuses()).toEqual([]);
  });

  it("is the same array, of the same objects, until one of them changes", async () => {
    await cut();
    const first = pendingMutations(client);
    expect(pendingMutations(client)).toBe(first);
    orders.put("a", 1);
    const second = pendingMutations(client);
    client.wake();
    expect([pendingMutations(client) === second, second === first]).toEqual([true, false]);
    orders.put("b", 1);
    expect(pendingMutations(client)[0]).toBe(second[0]);
    expect(pendingMutations(client)).not.toBe(second);
  });

  it("is told of in a microtask, behind the view, once for all that changed", async () => {
    const told: unknown[] = [];
    const stop = onMutationsChange(client, () => told.push([statuses(), orders.get("a")]));
    world.server.entries.isDeciding = false;
    await cut();
    orders.put("a", 1);
    orders.put("b", 1);
    expect(told).toEqual([]);
    await Promise.resolve();
    expect(told).toEqual([[["orders.put queued", "orders.put queued"], 1]]);
    await mend();
    expect(told.slice(1)).toEqual([[["orders.put sent", "orders.put sent"], 1]]);
    stop();
    world.server.entries.decideAll();
    await world.clock.advance(0);
    expect(told).toHaveLength(2);
  });

  it("is told of when one takes another's place, which the number does not show", async () => {
    world.server.entries.isDeciding = false;
    let numTold = 0;
    onMutationsChange(client, () => {
      numTold += 1;
    });
    client.onOutcome(({ name }) => name === "orders.put" && orders.incr("b"));
    orders.put("a", 1);
    await world.clock.advance(0);
    numTold = 0;
    world.server.entries.decideAll();
    await world.clock.advance(0);
    expect([statuses(), numTold > 0]).toEqual([["orders.incr sent"], true]);
  });

  it("shares nothing with what is sent", async () => {
    await cut();
    orders.put("a", { n: 1 });
    ((pendingMutations(client)[0] as PendingMutation).args as { value: { n: number } }).value.n = 2;
    await mend();
    expect(world.server.entries.get("orders", "a")).toEqual({ n: 1 });
  });

  it("says when a mutation was made, by this machine's clock before a server has told its own", async () => {
    const seen: number[] = [];
    const { environment, clock } = world;
    const put = (tx: MutatorTx) => void seen.push(tx.nowMs);
    client = createClient({ url: "ws://x/ws", environment, mutators: { put } }) as unknown as Client;
    await clock.advance(5_000);
    client.mutate("put");
    const madeAt = environment.wallNow();
    expect([madeAt > 1e12, pendingMutations(client)[0]?.madeAtMs, seen]).toEqual([true, madeAt, [madeAt]]);
  });

  it("has what an earlier page left, as sent where that page had numbered it", async () => {
    await cut();
    orders.put("a", 1);
    await reload();
    expect(statuses()).toEqual(["orders.put sent"]);
    await mend();
    expect(statuses()).toEqual([]);
  });
});

describe("a mutation that is taken back", () => {
  it("is gone from what is shown, from the list and from the store, and never sent", async () => {
    await cut();
    const before = orders.incr("a", 1);
    const { id, server } = orders.incr("a", 10);
    const after = orders.incr("a", 100);
    await world.clock.advance(0);
    expect([orders.get("a"), midsKept()]).toEqual([111, [1, 2, 3]]);
    expect(cancelMutation(client, id)).toBe(true);
    expect([orders.get("a"), client.numPending, pendingMutations(client).length]).toEqual([101, 2, 2]);
    await expect(server).rejects.toMatchObject({ name: "MutationFailed", status: "unsent", code: null });
    await world.clock.advance(0);
    expect(midsKept()).toEqual([1, 2]);
    await mend();
    expect([await before.server, await after.server]).toEqual([1, 101]);
    expect([world.server.entries.get("orders", "a"), orders.get("a"), store.kept.size]).toEqual([
      101, 101, 0,
    ]);
    expect([...world.server.entries.numRuns.values()]).toEqual([1, 1]);
  });

  it("does not come back after a reload, and what followed it does", async () => {
    await orders.incr("a", 1).server;
    await cut();
    const { id } = orders.incr("a", 10);
    orders.incr("a", 100);
    await world.clock.advance(0);
    expect(cancelMutation(client, id)).toBe(true);
    await reload();
    await mend();
    expect([world.server.entries.get("orders", "a"), client.numPending, store.kept.size]).toEqual([
      101, 0, 0,
    ]);
  });

  it("is told as an outcome, and ends `settled`", async () => {
    await cut();
    const outcomes: unknown[] = [];
    client.onOutcome(({ name, status }) => outcomes.push([name, status, orders.get("a")]));
    const { id } = orders.put("a", 1);
    const settled = client.settled();
    cancelMutation(client, id);
    await settled;
    expect(outcomes).toEqual([["orders.put", "unsent", undefined]]);
  });

  it("may still be on its way to the store, which then holds nothing of it", async () => {
    let keep = (): void => undefined;
    store.gate = new Promise((resolve) => {
      keep = resolve;
    });
    const { id } = orders.incr("a", 1);
    const second = orders.incr("a", 10);
    await world.clock.advance(0);
    expect(statuses()).toEqual(["orders.incr queued", "orders.incr queued"]);
    expect(cancelMutation(client, id)).toBe(true);
    keep();
    await world.clock.advance(0);
    expect([await second.server, store.kept.size]).toEqual([10, 0]);
  });

  /** A hundred that were taken back one after the other had the store keep 5,000. */
  it("has the store keep what follows once, however many are taken back at once", async () => {
    await cut();
    const values = Array.from({ length: 20 }, (_, place) => place);
    const ids = values.map((value) => orders.put(`k${value}`, value).id);
    await world.clock.advance(0);
    let numKept = 0;
    const append = store.append.bind(store);
    store.append = (mutations) => {
      numKept += mutations.length;
      return append(mutations);
    };
    for (const id of ids.slice(0, 15)) cancelMutation(client, id);
    await mend();
    await client.settled();
    // Each that was taken back may be kept once more, under the number that it had last.
    expect(numKept).toBeLessThan(ids.length);
    expect(values.map((value) => world.server.entries.get("orders", `k${value}`))).toEqual(
      values.map((value) => (value < 15 ? undefined : value)),
    );
    await world.clock.advance(0);
    expect(store.kept.size).toBe(0);
  });

  it("needs no store", async () => {
    await open(false);
    expect(await orders.incr("a", 1).server).toBe(1);
    await cut();
    const { id } = orders.incr("a", 10);
    const last = orders.incr("a", 100);
    expect(cancelMutation(client, id)).toBe(true);
    await mend();
    expect(await last.server).toBe(101);
  });
});

describe("a mutation that cannot be taken back", () => {
  it("was sent, whether or not the connection is still there", async () => {
    world.server.entries.isDeciding = false;
    const { id, server } = orders.incr("a", 1);
    await world.clock.advance(0);
    expect(cancelMutation(client, id)).toBe(false);
    await cut();
    expect([cancelMutation(client, id), orders.get("a")]).toEqual([false, 1]);
    world.server.entries.isDeciding = true;
    await mend();
    expect(await server).toBe(1);
    expect(cancelMutation(client, id)).toBe(false);
  });

  it("may have been sent by an earlier page", async () => {
    await cut();
    orders.incr("a", 1);
    await reload();
    const [left] = pendingMutations(client);
    expect(cancelMutation(client, left?.id ?? 0)).toBe(false);
    await mend();
    expect(world.server.entries.get("orders", "a")).toBe(1);
  });

  it("was taken back already, was never made, or ended with its client", async () => {
    await cut();
    const { id } = orders.put("a", 1);
    const last = orders.put("b", 1);
    cancelMutation(client, id);
    expect([cancelMutation(client, id), cancelMutation(client, 99), cancelMutation(client, -1)]).toEqual([
      false,
      false,
      false,
    ]);
    client.close();
    expect([cancelMutation(client, last.id), pendingMutations(client)]).toEqual([false, []]);
  });
});
