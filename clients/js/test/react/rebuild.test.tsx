// @vitest-environment happy-dom
import { expect, it } from "vitest";
import { type CacheRebuildResult, useCacheRebuild } from "../../src/react/index.ts";
import { type Stage, stage } from "./world.tsx";

let seen: CacheRebuildResult;

function Rebuild({ name = "orders" }: { name?: string | null }) {
  seen = useCacheRebuild(name);
  if (seen.isOperator !== true) return null;
  const { state, progress, error, canStart } = seen;
  return <>{[state, progress?.done ?? "-", progress?.total ?? "-", error ?? "-", canStart].join(" ")}</>;
}

async function shown(areOperators = true): Promise<Stage> {
  const made = await stage();
  made.world.server.rebuilds.areOperators = areOperators;
  made.show(<Rebuild />);
  await made.advance(0);
  return made;
}

it("shows nothing to who is no operator, also when it is asked all the same", async () => {
  const { text, run, advance } = await shown(false);
  expect([text(), seen.isOperator, seen.canStart]).toEqual(["", false, false]);
  await run(() => seen.start());
  await advance(0);
  expect([text(), seen.error]).toEqual(["", "Only operators may."]);
});

it("starts a rebuild, tells how far it is, and that it is done", async () => {
  const { world, text, run, advance } = await shown();
  const { rebuilds } = world.server;
  expect(text()).toBe("idle - - - true");
  await run(() => seen.start());
  await advance(0);
  expect(text()).toBe("queued 0 - - false");
  await run(() => rebuilds.tell("orders", { state: "running", done: 40, total: 100 }));
  expect(text()).toBe("running 40 100 - false");
  await run(() => rebuilds.tell("orders", { state: "done", done: 100, changed: 3 }));
  expect([text(), seen.progress?.changed]).toEqual(["done 100 100 - true", 3]);
});

it("joins what another operator has started, and ends it", async () => {
  const { world, text, run, advance } = await shown();
  await run(() => seen.start());
  await advance(0);
  await run(() => seen.start());
  await advance(0);
  expect(world.server.rebuilds.job("orders")?.job).toBe("job-1");
  await run(() => seen.cancel());
  await advance(0);
  expect(text()).toBe("cancelled 0 - - true");
  await run(() => seen.cancel());
  expect(text()).toBe("cancelled 0 - - true");
});

it("says why a job failed, until another is asked for", async () => {
  const { world, text, run, advance } = await shown();
  await run(() => seen.start());
  await advance(0);
  await run(() => world.server.rebuilds.tell("orders", { state: "failed", error: "The source is away." }));
  expect(text()).toBe("failed 0 - The source is away. true");
  await run(() => seen.start());
  await advance(0);
  expect([text(), seen.progress?.job]).toEqual(["queued 0 - - false", "job-2"]);
});

it("knows at once what is under way, also after the connection was lost", async () => {
  const { world, text, show, run, advance } = await shown();
  await run(() => seen.start());
  await advance(0);
  await run(() => world.server.rebuilds.tell("orders", { state: "running", done: 7 }));
  show(null);
  await advance(100);
  show(<Rebuild />);
  await advance(0);
  expect(text()).toBe("running 7 - - false");
  await run(() => world.server.dropAll());
  await run(() => world.server.rebuilds.tell("orders", { done: 9 }));
  await advance(20_000);
  expect(text()).toBe("running 9 - - false");
});

it("becomes an operator's with another token, and does nothing without a name", async () => {
  const { world, client, text, show, run, advance } = await shown(false);
  world.server.rebuilds.areOperators = true;
  await run(() => client.setToken("another"));
  await run(() => world.server.dropAll());
  await advance(20_000);
  expect(text()).toBe("idle - - - true");
  show(<Rebuild name={null} />);
  await run(() => seen.start());
  expect([text(), seen.isOperator]).toEqual(["", null]);
});
