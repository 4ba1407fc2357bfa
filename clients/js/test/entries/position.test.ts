import { expect, it } from "vitest";
import { createClient } from "../../src/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

it("tells of each watch up to where everything is shown, and nothing before it is complete", async () => {
  const { environment, clock, server } = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment });
  const orders = client.collection("orders");
  expect(orders.position()).toBeNull();
  server.entries.write("orders", "1", { n: 1 });
  const told: unknown[] = [];
  orders.watch({ all: true }, () => told.push(orders.position()?.offset));
  expect(orders.position()).toBeNull();
  client.connect();
  await clock.advance(0);
  server.entries.write("orders", "2", { n: 2 });
  expect(told).toEqual([1, 2]);
  server.dropAll();
  server.entries.write("orders", "3", { n: 3 });
  expect(orders.position()?.offset).toBe(2);
  await clock.advance(20_000);
  expect(told).toEqual([1, 2, 2, 3]);
  expect(orders.position({ keys: ["1"] })).toBeNull();
});
