import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Client, Collection } from "../../src/index.ts";
import { cancelMutation, pendingMutations } from "../../src/mutations/index.ts";
import type { FakeSocket } from "../../src/testing/socket.ts";
import { KeptStore } from "../entries/store.ts";
import { FakeBrowser, FakeChannel, FakeTab } from "./browser.ts";

let browser: FakeBrowser;

beforeEach(() => {
  browser = new FakeBrowser();
});

afterEach(() => {
  expect(browser.complaints).toEqual([]);
});

interface Watching {
  readonly tab: FakeTab;
  readonly orders: Collection;
  /** Every value of entry `a` that was ever shown. */
  readonly shown: unknown[];
}

async function watching(num: number): Promise<Watching[]> {
  const all: Watching[] = [];
  for (let n = 0; n < num; n++) {
    const tab = browser.tab();
    const orders = tab.client.collection("orders");
    const shown: unknown[] = [];
    orders.watch();
    orders.subscribe(() => {
      const value = orders.get("a");
      if (value !== shown.at(-1)) shown.push(value);
    });
    all.push({ tab, orders, shown });
  }
  await browser.pass(1_000);
  return all;
}

function cut(): void {
  browser.world.server.isReachable = false;
  browser.world.server.dropAll();
}

describe("a mutation of one tab", () => {
  it("shows in the others while the network is cut, and then is done once, without a flicker", async () => {
    const all = await watching(3);
    cut();
    await browser.pass(100);
    const [one] = all;
    const { server } = one?.orders.incr("a", 2) ?? {};
    await browser.pass(100);
    for (const { orders } of all) expect([orders.get("a"), orders.pending("a").length]).toEqual([2, 1]);
    browser.world.server.isReachable = true;
    await browser.pass(30_000);
    await server;
    for (const { orders, shown } of all) {
      expect([orders.get("a"), orders.pending("a").length, shown]).toEqual([2, 0, [2]]);
    }
    expect([...browser.world.server.entries.numRuns.values()]).toEqual([1]);
  });

  it("shows in the others before the server has answered, each on top of the others'", async () => {
    const all = await watching(2);
    for (const { tab } of all) for (const end of tab.sockets) end.isMuted = true;
    all[0]?.orders.incr("a", 1);
    all[1]?.orders.incr("a", 10);
    await browser.pass(20);
    for (const { orders } of all) expect(orders.get("a")).toBe(11);
  });

  it("is taken back everywhere when it is rejected", async () => {
    const all = await watching(2);
    browser.world.server.entries.mutators.set("orders.put", (tx) => tx.reject("no", "Not today."));
    const { server } = all[1]?.orders.put("a", 1) ?? {};
    await browser.pass(200);
    await expect(server).rejects.toMatchObject({ code: "no" });
    for (const { orders, shown } of all)
      expect([orders.get("a"), shown.at(-1)]).toEqual([undefined, undefined]);
  });

  it("is not shown anywhere once it is taken back before it was sent, though the network is cut", async () => {
    const all = await watching(3);
    const [one, two] = all;
    cut();
    await browser.pass(100);
    const taken = one?.orders.incr("a", 1);
    one?.orders.incr("a", 10);
    two?.orders.incr("a", 100);
    await browser.pass(100);
    expect(all.map(({ orders }) => orders.get("a"))).toEqual([111, 111, 111]);
    // Only the tab that made it knows its number, and whether it was sent.
    expect(cancelMutation(two?.tab.client as Client, -1)).toBe(false);
    expect(pendingMutations(two?.tab.client as Client)).toHaveLength(1);
    expect(cancelMutation(one?.tab.client as Client, taken?.id ?? 0)).toBe(true);
    await browser.pass(100);
    expect(all.map(({ orders }) => orders.get("a"))).toEqual([110, 110, 110]);
    browser.world.server.isReachable = true;
    await browser.pass(30_000);
    for (const { orders } of all) expect([orders.get("a"), orders.pending("a").length]).toEqual([110, 0]);
    expect([...browser.world.server.entries.numRuns.values()]).toEqual([1, 1]);
  });

  it("is not shown any more once its tab is gone before it was sent", async () => {
    const all = await watching(3);
    cut();
    await browser.pass(100);
    for (const { orders } of all) orders.incr("a", 1);
    await browser.pass(100);
    expect(all.map(({ orders }) => orders.get("a"))).toEqual([3, 3, 3]);
    all[0]?.tab.kill();
    await browser.pass(6_000);
    expect(all.slice(1).map(({ orders }) => orders.get("a"))).toEqual([2, 2]);
    browser.world.server.isReachable = true;
    await browser.pass(30_000);
    expect(browser.world.server.entries.get("orders", "a")).toBe(2);
    expect(all.slice(1).map(({ orders }) => orders.get("a"))).toEqual([2, 2]);
  });

  it("is not shown any more in a tab that was left and came back, once its own is gone", async () => {
    const all = await watching(3);
    const [one, two, three] = all;
    cut();
    one?.orders.incr("a", 1);
    await browser.pass(100);
    two?.tab.signal("pagehide");
    two?.tab.signal("pageshow");
    await browser.pass(100);
    expect(all.map(({ orders }) => orders.get("a"))).toEqual([1, 1, 1]);
    expect(one?.tab.tabs.role).toBe("leader"); // no other tells of its end
    one?.tab.kill();
    await browser.pass(6_000);
    expect([two?.orders.get("a"), three?.orders.get("a")]).toEqual([undefined, undefined]);
  });

  it("is shown to a tab that comes while it is pending", async () => {
    const [one] = await watching(1);
    cut();
    await browser.pass(100);
    one?.orders.put("a", "new");
    const [late] = await watching(1);
    // Nothing is confirmed there yet: it shows once there is a connection.
    browser.world.server.isReachable = true;
    await browser.pass(30_000);
    expect(late?.orders.get("a")).toBe("new");
    expect(late?.tab.client.collection("orders").pending("a")).toEqual([]);
  });

  it("reaches the server once and in order, whichever leader is killed meanwhile", async () => {
    const all = await watching(3);
    const done: Promise<unknown>[] = [];
    const [, , third] = all;
    for (let n = 0; n < 10; n++) {
      done.push(third?.orders.put(`k${n}`, n).server ?? Promise.reject());
      done.push(third?.orders.incr("a", 1).server ?? Promise.reject());
      await browser.pass(60);
      if (n === 3) all.find(({ tab }) => tab.tabs.role === "leader" && tab !== third?.tab)?.tab.kill();
    }
    await browser.pass(10_000);
    await Promise.all(done);
    expect(browser.world.server.entries.get("orders", "a")).toBe(10);
    expect([...browser.world.server.entries.numRuns.values()]).toEqual(Array(20).fill(1));
    for (const { tab, orders } of all) if (!tab.isDead) expect(orders.get("a")).toBe(10);
  });

  it("is told to the others without the secret of its client", async () => {
    const [first] = await watching(1);
    const name = browser.locks.held.find((held) => held.endsWith(" lead"))?.slice(0, -" lead".length) ?? "";
    const told: string[] = [];
    const ear = new FakeChannel(browser, new FakeTab(browser), name);
    ear.onmessage = ({ data }: { data: { say: string } }) => {
      if (data.say === "made" || data.say === "undone") told.push(JSON.stringify(data));
    };
    const store = new KeptStore();
    const claim = { client: "old", secret: "secret-of-old" };
    browser.world.server.issue(claim);
    const left = { name: "orders.put", args: { key: "left", value: 1 }, madeAtMs: 0 };
    store.kept.set("left", { id: "left", claim, mid: 1, ...left });
    browser.world.server.entries.isDeciding = false;
    const second = browser.tab({ client: () => ({ store }) });
    await browser.pass(1_000);
    for (const { client } of [first?.tab, second].filter((tab) => tab !== undefined)) {
      client.collection("orders").put("a", client.clientId);
    }
    await browser.pass(1_000);
    // Whoever comes later is told everything once more.
    await watching(1);
    const secrets = [...store.kept.values()].map((kept) => kept.claim?.secret);
    expect(secrets).toEqual(["secret-of-old", "secret-of-old"]);
    browser.world.server.entries.decideAll();
    await browser.pass(1_000);
    expect(told.filter((word) => word.includes('"old"')).length).toBeGreaterThan(2);
    expect(told.filter((word) => word.includes("undone")).length).toBeGreaterThan(1);
    expect(told.filter((word) => word.includes("secret"))).toEqual([]);
  });

  /** Every tab was told that a frame was too big, and each gave up the longest that it had. */
  it.each([0, 1])(
    "is not given up when a proxy lets one of another tab not through (tab %i's)",
    async (guilty) => {
      const all = await watching(2);
      cut();
      await browser.pass(100);
      browser.line = {
        carry: (socket, way, frame, run) => {
          const isTooBig = way === "up" && (frame?.length ?? 0) > 10_000;
          if (isTooBig) void Promise.resolve().then(() => (socket as FakeSocket).end.close(1009));
          else run();
        },
      };
      const large = all[guilty]?.orders.put("large", "x".repeat(15_000)).server;
      const fits = all[1 - guilty]?.orders.put("a", "y".repeat(9_000)).server;
      const refused = expect(large).rejects.toMatchObject({ status: "rejected", code: "too_large" });
      browser.world.server.isReachable = true;
      await browser.pass(60_000);
      await refused;
      await fits;
      expect(browser.world.server.entries.get("orders", "a")).toHaveLength(9_000);
      all[1 - guilty]?.orders.put("b", "z".repeat(9_500));
      await browser.pass(100);
      expect(browser.world.server.entries.get("orders", "b")).toHaveLength(9_500);
    },
  );

  it("does not keep another tab from being settled", async () => {
    const all = await watching(2);
    cut();
    await browser.pass(100);
    all[0]?.orders.put("a", 1);
    await browser.pass(100);
    await all[1]?.tab.client.settled();
    expect(all[1]?.orders.get("a")).toBe(1);
  });
});

describe("watches of several tabs", () => {
  it("end for one and not for the others", async () => {
    const [one, two] = await watching(2);
    const stop = two?.tab.client.collection("other").watch({ keys: ["x", "y"] });
    one?.tab.client.collection("other").watch({ keys: ["x"] });
    await browser.pass(100);
    stop?.();
    await browser.pass(100);
    browser.world.server.entries.write("other", "x", 1);
    await browser.pass(100);
    expect(one?.tab.client.collection("other").get("x")).toBe(1);
    expect(two?.tab.client.collection("other").get("x")).toBe(undefined);
  });

  it.each(["all", "keys"] as const)("of %s outlive those of keys", async (what) => {
    const [one, two] = await watching(2);
    const keys = { keys: ["x"] };
    const stop = two?.tab.client.collection("other").watch(keys);
    await browser.pass(100);
    one?.tab.client.collection("other").watch(what === "all" ? undefined : { keys: ["x", "y"] });
    await browser.pass(100);
    stop?.();
    await browser.pass(100);
    browser.world.server.entries.write("other", "x", 1);
    await browser.pass(100);
    expect(one?.tab.client.collection("other").get("x")).toBe(1);
  });

  it("hear invalidations, all of them", async () => {
    const all = await watching(3);
    const told: string[] = [];
    for (const { tab } of all) tab.client.onInvalidate(({ collection }) => told.push(collection));
    browser.world.server.entries.invalidate("orders");
    await browser.pass(100);
    expect(told).toEqual(["orders", "orders", "orders"]);
  });
});
