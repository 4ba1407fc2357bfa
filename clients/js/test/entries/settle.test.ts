/** What an application sees in which order when mutations end, and what of it is kept until then. */

import { describe, expect, it } from "vitest";
import { createClient, type MutationOutcome, type MutatorTx } from "../../src/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";
import type { Body } from "../../src/wire/decode.ts";
import { encodeMessage } from "../../src/wire/encode.ts";
import { KeptStore } from "./store.ts";

const mutators = {
  /** Changes two collections at once. */
  both: (tx: MutatorTx, value: unknown) => {
    tx.put("a", value, { collection: "orders" });
    tx.put("a", value, { collection: "stock" });
  },
  /** Rests on two entries, and changes a third. */
  add: (tx: MutatorTx) => {
    const sum = tx.get("a", { collection: "orders" }) + tx.get("a", { collection: "stock" });
    tx.put("sum", sum, { collection: "totals" });
  },
};

async function connected(store?: KeptStore) {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment, mutators, store });
  const [orders, stock, totals] = (["orders", "stock", "totals"] as const).map((name) =>
    client.collection<unknown>(name),
  ) as [Orders, Orders, Orders];
  type Orders = ReturnType<typeof client.collection<unknown>>;
  client.connect();
  await world.clock.advance(0);
  return { world, server: world.server.entries, client, orders, stock, totals };
}

/** One frame with these messages. */
function frameOf(...messages: (readonly [kind: string, body: Body])[]): Uint8Array {
  return new Uint8Array(Buffer.concat(messages.map(([kind, body]) => encodeMessage(kind, body).bytes)));
}

const eventOf = (channel: string, epoch: string, offset: number, value: unknown, by?: Body) =>
  ["event", { channel, epoch, offset, key: "a", data: { value }, at_ms: 0, by }] as const;

describe("the end of a mutation", () => {
  it.each(["ok", "rejected"] as const)("%s: is told once what is shown has changed", async (status) => {
    const { world, server, client, orders } = await connected();
    server.write("orders", "a", "before");
    orders.watch();
    await world.clock.advance(0);
    server.isDeciding = false;
    const { server: decided } = client.mutate("orders.put", { key: "a", value: "guess" });
    decided.catch(() => undefined);
    await world.clock.advance(0);
    const told: unknown[] = [];
    const look = (what: string) => () => told.push([what, orders.get("a"), orders.pending("a").length]);
    orders.subscribe(look("view"));
    client.onOutcome(look("outcome"));
    const by = { client: client.clientId, mid: 1 };
    const position = { epoch: "state-1", offset: 2 };
    // The server makes something else of it; event and outcome are one step.
    const answer =
      status === "ok"
        ? frameOf(eventOf("orders", "state-1", 2, "truth", by), [
            "outcome",
            { ...by, status, positions: { orders: position } },
          ])
        : frameOf(["outcome", { ...by, status, positions: {}, error: { code: "no", message: "" } }]);
    world.server.last.sendFrame(answer);
    const shown = status === "ok" ? "truth" : "before";
    expect(told).toEqual([
      ["view", shown, 0],
      ["outcome", shown, 0],
    ]);
  });

  it("is unknown for what was sent under a client that the server forgets, and nothing stays pending", async () => {
    const store = new KeptStore();
    const { world, server, client, orders } = await connected(store);
    server.write("orders", "a", "before");
    orders.watch();
    await world.clock.advance(0);
    server.isDeciding = false;
    const outcomes: MutationOutcome[] = [];
    client.onOutcome((outcome) => outcomes.push(outcome));
    const sent = orders.put("a", "sent");
    await world.clock.advance(0);
    let open: () => void = () => undefined;
    store.gate = new Promise((resolve) => {
      open = resolve;
    });
    const unsent = orders.put("b", "not sent yet");
    await world.clock.advance(0);
    const forgotten = client.clientId;
    const reset = { scope: "client", code: "client_unknown" } as const;
    world.server.last.send("reset", { ...reset, client: "another's" });
    expect([client.numPending, client.clientId]).toEqual([2, forgotten]);
    world.server.last.send("reset", { ...reset, client: forgotten ?? "" });
    expect(outcomes.map(({ id, status }) => [id, status])).toEqual([[sent.id, "unknown"]]);
    expect([orders.get("a"), orders.get("b"), client.numPending]).toEqual(["before", "not sent yet", 1]);
    await expect(sent.server).rejects.toMatchObject({ name: "MutationFailed", status: "unknown" });
    // What was never sent goes to the server by the client that the next session is given.
    server.isDeciding = true;
    open();
    await world.clock.advance(20_000);
    await unsent.server;
    expect(client.clientId).not.toBe(forgotten);
    expect([server.get("orders", "b"), client.numPending]).toEqual(["not sent yet", 0]);
    await world.clock.advance(0);
    expect(store.kept.size).toBe(0);
  });
});

describe("a step that changes two collections", () => {
  it.each(["call", "frame"] as const)("by one %s: is told when both are as it leaves them", async (what) => {
    const { world, server, client, orders, stock } = await connected();
    for (const name of ["orders", "stock"]) server.write(name, "a", 1);
    for (const collection of [orders, stock]) collection.watch();
    await world.clock.advance(0);
    const seen: unknown[] = [];
    for (const one of [orders, stock]) {
      one.watch({ all: true }, () => seen.push([one.name, "watch", orders.get("a"), stock.get("a")]));
      one.subscribe(() => seen.push([one.name, "subscribe", orders.get("a"), stock.get("a")]));
    }
    if (what === "call") client.mutate.both(2);
    else {
      const [first, second] = [eventOf("orders", "state-1", 2, 2), eventOf("stock", "state-2", 2, 2)];
      world.server.last.sendFrame(frameOf(first, second));
    }
    expect(seen.slice(0, 4)).toEqual([
      ["orders", "watch", 2, 2],
      ["orders", "subscribe", 2, 2],
      ["stock", "watch", 2, 2],
      ["stock", "subscribe", 2, 2],
    ]);
  });
});

describe("entries that nobody watches any more", () => {
  it("stay as long as a prediction rests on them, and go with it", async () => {
    const { world, server, client, orders, stock, totals } = await connected();
    for (const name of ["orders", "stock"]) server.write(name, "a", 2);
    server.write("orders", "b", 1);
    const stops = [orders.watch(), stock.watch()];
    orders.watch({ keys: ["b"] });
    totals.watch();
    await world.clock.advance(0);
    server.isDeciding = false;
    client.mutate.add();
    for (const stop of stops) stop();
    await world.clock.advance(0);
    expect([orders.get("a"), stock.get("a")]).toEqual([undefined, undefined]);
    // Whatever has it predicted anew finds what it rests on.
    client.mutate("totals.put", { key: "other", value: 1 });
    server.write("totals", "sum", 0);
    await world.clock.advance(0);
    expect([totals.get("sum"), totals.pending("sum").length]).toEqual([4, 1]);
    server.mutators.set("add", mutators.add);
    server.isDeciding = true;
    server.decideAll();
    await world.clock.advance(0);
    expect([totals.get("sum"), client.numPending]).toEqual([4, 0]);
    // Nothing of them is left that a new watch could go on from.
    const asked: Body[] = [];
    const { last } = world.server;
    const take = last.onMessage;
    last.onMessage = (kind, body) => {
      if (kind === "watch") asked.push(body);
      take?.(kind, body);
    };
    stock.watch();
    orders.watch();
    await world.clock.advance(0);
    expect(asked.map(({ have }) => have ?? null)).toEqual([
      null,
      { epoch: "state-1", versions: { b: expect.any(Number) } },
    ]);
  });
});
