/** What a client makes of the reports of rebuilds, in whatever order they come. */

import { beforeEach, expect, it } from "vitest";
import { createClient } from "../src/index.ts";
import { type CacheRebuild, cacheRebuild } from "../src/rebuild/index.ts";
import { createFakeWorld, type FakeWorld } from "../src/testing/index.ts";

let world: FakeWorld;
let rebuild: CacheRebuild;
/** What was told of every change. */
let told: unknown[];

beforeEach(async () => {
  world = createFakeWorld();
  world.server.rebuilds.areOperators = true;
  const client = createClient({ url: "ws://x/ws", environment: world.environment });
  client.connect();
  rebuild = cacheRebuild(client, "orders");
  rebuild.subscribe(() => told.push([rebuild.view.state, rebuild.view.progress?.done]));
  await world.clock.advance(0);
  told = [];
});

const report = (news: object) =>
  world.server.publish("$rebuild:orders", { ...world.server.rebuilds.job("orders"), ...news });

it("a report of a job that is older than one that was heard changes nothing", async () => {
  rebuild.start();
  await world.clock.advance(0);
  const { rebuilds } = world.server;
  rebuilds.tell("orders", { state: "running", done: 10 });
  rebuilds.tell("orders", { state: "running", done: 20 });
  told = [];
  const seq = rebuilds.job("orders")?.seq ?? 0;
  // On its way it was overtaken, or it is told twice: by an answer to a request and by the channel.
  for (const old of [seq - 1, seq]) report({ seq: old, done: 5 });
  expect([told, rebuild.view.progress?.done]).toEqual([[], 20]);
  report({ seq: seq + 1, done: 30 });
  expect(told).toEqual([["running", 30]]);
});

it("a report of the job before the one that was heard changes nothing, however high its number", async () => {
  rebuild.start();
  await world.clock.advance(1_000);
  world.server.rebuilds.tell("orders", { state: "cancelled" });
  const first = { ...world.server.rebuilds.job("orders"), seq: 99, state: "running", done: 7 };
  rebuild.start();
  await world.clock.advance(0);
  expect([rebuild.view.progress?.job, rebuild.view.state]).toEqual(["job-2", "queued"]);
  told = [];
  report(first);
  expect([told, rebuild.view.progress?.job]).toEqual([[], "job-2"]);
});
