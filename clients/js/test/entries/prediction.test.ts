/** What a mutator of the application is given, run for run, and what it cannot do. */

import { describe, expect, it } from "vitest";
import { createClient, type MutatorMap, type MutatorTx } from "../../src/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";
import type { Body } from "../../src/wire/decode.ts";

interface Order {
  readonly lines: readonly string[];
}

async function watched<const Own extends MutatorMap>(mutators: Own) {
  const world = createFakeWorld();
  const { entries: server } = world.server;
  const client = createClient({ url: "ws://x/ws", environment: world.environment, mutators });
  const orders = client.collection<Order>("orders");
  server.write("orders", "a", { lines: ["first"] });
  client.connect();
  orders.watch();
  await world.clock.advance(0);
  server.isDeciding = false;
  /** Somebody else changes the entry, and what is pending is predicted anew. */
  const rebase = async (lines: string[]) => {
    server.write("orders", "a", { lines });
    await world.clock.advance(0);
  };
  return { world, server, client, orders, rebase };
}

describe("a mutator", () => {
  it("is told which run is the first, and the same time at each", async () => {
    const told: unknown[] = [];
    const { world, client, rebase } = await watched({
      orders: {
        note: (tx: MutatorTx) => {
          told.push([tx.reason, tx.nowMs]);
          tx.patch("a", { at: tx.nowMs });
        },
      },
    });
    const nowMs = world.clock.wallNow();
    client.mutate.orders.note();
    await world.clock.advance(1_000);
    await rebase(["other"]);
    client.mutate.orders.note();
    await rebase(["another"]);
    expect(told).toEqual([
      ["optimistic", nowMs],
      ["rebase", nowMs],
      ["optimistic", nowMs + 1_000],
      ["rebase", nowMs],
      ["rebase", nowMs + 1_000],
    ]);
  });

  it("gets arguments of its own at every run, whatever it did to them, and they are sent as they were given", async () => {
    const given: unknown[] = [];
    const { world, server, client, orders, rebase } = await watched({
      orders: {
        add: (tx: MutatorTx, args: { lines: string[] }) => {
          given.push(structuredClone(args.lines));
          args.lines.push("by the mutator");
          tx.put("a", { lines: [...tx.get("a").lines, ...args.lines] });
        },
      },
    });
    const sent: unknown[] = [];
    const { last } = world.server;
    const take = last.onMessage;
    last.onMessage = (kind: string, body: Body) => {
      if (kind === "mutate") sent.push(body["args"]);
      take?.(kind, body);
    };
    const args = { lines: ["mine"] };
    client.mutate.orders.add(args);
    // What the application does with its own afterwards is its business.
    args.lines.push("later");
    await rebase(["second"]);
    expect([given, sent]).toEqual([[["mine"], ["mine"]], [{ lines: ["mine"] }]]);
    expect(orders.get("a")?.lines).toEqual(["second", "mine", "by the mutator"]);
    server.mutators.set("orders.add", (tx) => tx.reject("no"));
    server.decideAll();
  });

  it("changes nothing by what it does to an entry that it got", async () => {
    const { world, client, orders, rebase } = await watched({
      orders: {
        spoil: (tx: MutatorTx, key: string) => {
          const order = tx.get("a");
          order.lines.push("spoiled");
          order.total = 1;
          tx.put(key, { lines: [] });
          tx.get(key).lines.push("spoiled");
        },
      },
    });
    const before = orders.get("a");
    client.mutate.orders.spoil("b");
    expect([orders.get("a"), orders.get("b")]).toEqual([{ lines: ["first"] }, { lines: [] }]);
    expect(orders.get("a")).toBe(before);
    await rebase(["second"]);
    client.mutate.orders.spoil("c");
    await world.clock.advance(0);
    expect(orders.list().map(({ value }) => value.lines)).toEqual([["second"], [], []]);
  });

  it("is not run once 900 mutations are pending: the call is refused, and nothing is queued", async () => {
    let numRuns = 0;
    const args = { key: "b", value: { lines: [] } };
    const { world, server, client, orders } = await watched({
      orders: {
        put: (tx: MutatorTx, { key, value }: { key: string; value: Order }) => {
          numRuns += 1;
          tx.put(key, value);
        },
        silent: null,
      },
    });
    server.mutators.set("orders.silent", () => undefined);
    world.server.dropAll();
    await world.clock.advance(0);
    for (let n = 0; n < 900; n++) client.mutate.orders.silent();
    expect(() => client.mutate.orders.put(args)).toThrow(
      expect.objectContaining({ name: "RequestFailed", code: "overloaded", retryable: true }),
    );
    expect([numRuns, client.numPending, orders.get("b")]).toEqual([0, 900, undefined]);
    server.isDeciding = true;
    await world.clock.advance(20_000);
    await client.settled();
    await client.mutate.orders.put(args).server;
    expect([server.numRuns.size, server.get("orders", "b")]).toEqual([901, args.value]);
  });
});
