import { describe, expect, it } from "vitest";
import type { ExportedMutation } from "../src/storage/index.ts";
import {
  idsOf,
  loadedBy,
  locks,
  mutation,
  NAME,
  numPages,
  page,
  runOut,
  settle,
  timers,
} from "./storage-pages.ts";

describe("the durable queue", () => {
  it("gives the next page what the last one left, as it was and in order", async () => {
    const first = page();
    const bytes = { key: "é", value: [1, null, { deep: new Uint8Array([1, 2]) }] };
    const made = [mutation("b", 1, "c1"), mutation("a", 2, "c1", { args: bytes }), mutation("c")];
    await first.queue.append(made.slice(0, 1));
    await first.queue.append(made.slice(1));
    first.locks.kill();
    expect(await loadedBy()).toEqual(made);
    expect(first.statuses).toEqual([]);
  });

  it("keeps the place of one that was appended again under another number", async () => {
    const first = page();
    await first.queue.append([mutation("a"), mutation("b")]);
    await first.queue.append([mutation("a", 7, "c1")]);
    first.locks.kill();
    expect(await loadedBy()).toEqual([mutation("a", 7, "c1"), mutation("b")]);
  });

  it("forgets what was removed, and ids that it never knew", async () => {
    const first = page();
    await first.queue.append([mutation("a"), mutation("b")]);
    await first.queue.remove(["a", "nobody"]);
    first.locks.kill();
    expect(idsOf(await loadedBy())).toEqual(["b"]);
  });

  it("never gives away what a living page speaks for", async () => {
    const first = page();
    await first.queue.append([mutation("a", 1, "c1")]);
    const second = page();
    expect(await second.queue.load()).toEqual([]);
    await second.queue.remove(["a"]);
    first.locks.kill();
    expect(idsOf(await second.queue.load())).toEqual(["a"]);
    expect(await second.queue.load()).toEqual([]);
  });

  it("gives what was left behind to one of two pages that ask at once", async () => {
    const first = page();
    await first.queue.append([mutation("a"), mutation("b")]);
    first.locks.kill();
    const loads = await Promise.all([page().queue.load(), page().queue.load(), page().queue.load()]);
    expect(idsOf(loads.flat())).toEqual(["a", "b"]);
    expect(loads.filter((loaded) => loaded.length > 0)).toHaveLength(1);
  });

  it("keeps users and servers apart", async () => {
    const first = page();
    await first.queue.append([mutation("a")]);
    first.locks.kill();
    expect(await loadedBy({ user: "bob" })).toEqual([]);
    expect(await loadedBy({ url: "wss://other/ws" })).toEqual([]);
    expect(idsOf(await loadedBy())).toEqual(["a"]);
  });

  /** It stayed in the database, and another page took it over, and with it the client of one that lives. */
  it("stores nothing that is decided while the lock is waited for", async () => {
    const first = page();
    const arriving: (() => void)[] = [];
    first.locks.arrive = (run) => arriving.push(run);
    const appended = first.queue.append([mutation("a", 1, "c1")]);
    await first.queue.remove(["a"]);
    for (const run of arriving) run();
    await appended;
    expect(await first.queue.exported()).toEqual([]);
    expect(await loadedBy()).toEqual([]);
  });

  it("holds no lock while it has nothing to speak for", async () => {
    const first = page();
    expect(await first.queue.load()).toEqual([]);
    expect(locks.held).toEqual([]);
    await first.queue.append([mutation("a")]);
    expect(locks.held).toEqual([`${NAME} page-${numPages}`]);
    await first.queue.remove(["a"]);
    await settle();
    expect(locks.held).toEqual([]);
    await first.queue.append([mutation("b")]);
    expect(locks.held).toHaveLength(1);
    first.queue.close();
    expect(idsOf(await loadedBy())).toEqual(["b"]);
  });
});

describe("pages that end while others live", () => {
  it("leave what they had to one of these, which is told", async () => {
    const first = page();
    await first.queue.append([mutation("a", 1, "c1"), mutation("b", 2, "c1")]);
    const found: string[][] = [];
    const second = page();
    const stop = second.queue.onLeft((left) => found.push(idsOf(left)));
    await runOut();
    expect(found).toEqual([]);
    first.locks.kill();
    await runOut();
    expect(found).toEqual([["a", "b"]]);
    await second.queue.remove(["a", "b"]);
    expect(await second.queue.exported()).toEqual([]);
    stop();
    expect(timers.size).toBe(0);
  });

  it("leave it to one page alone, even if that has nothing of its own any more meanwhile", async () => {
    const [gone, heir, third] = [page(), page(), page()];
    await gone.queue.append([mutation("a")]);
    await heir.queue.append([mutation("b", 1, "c1")]);
    gone.locks.kill();
    const [loaded] = await Promise.all([heir.queue.load(), heir.queue.remove(["b"])]);
    expect(idsOf(loaded)).toEqual(["a"]);
    expect(idsOf(await third.queue.load())).toEqual([]);
  });
});

describe("a lock that is taken away", () => {
  const lockOf = (): string => `${NAME} page-${numPages}`;

  it("is taken again, and the page goes on", async () => {
    const { queue, statuses } = page();
    await queue.append([mutation("a")]);
    locks.takeAway(lockOf())();
    await settle();
    expect(locks.held).toEqual([lockOf()]);
    expect(await page().queue.load()).toEqual([]);
    expect(statuses).toEqual([]);
  });

  it("makes the page say that another one took over what it had stored, and store no more", async () => {
    const first = page();
    await first.queue.append([mutation("a", 1, "c1")]);
    const thaw = locks.takeAway(lockOf());
    const second = page();
    expect(idsOf(await second.queue.load())).toEqual(["a"]);
    thaw();
    await settle();
    expect(first.statuses.map(({ mode, reason }) => [mode, reason])).toEqual([
      ["memory", "Another page took over the mutations of this one."],
    ]);
    await first.queue.append([mutation("b", 2, "c1")]);
    second.locks.kill();
    expect(idsOf(await loadedBy())).toEqual(["a"]);
  });
});

describe("mutations made for another version of the application", () => {
  const shown = (exported: readonly ExportedMutation[]): unknown[] =>
    exported.map(({ id, schema, canBeSent }) => [id, schema, canBeSent]);

  it("are kept, told and not sent, until they are discarded", async () => {
    const first = page({ schema: 1 });
    await first.queue.append([mutation("a", 1, "c1"), mutation("b", 2, "c1")]);
    const { queue } = page({ schema: 2 });
    await queue.load();
    expect(shown(await queue.exported())).toEqual([
      ["a", 1, true],
      ["b", 1, true],
    ]);
    first.locks.kill();
    expect(await queue.load()).toEqual([]);
    await queue.append([mutation("new", 1, "c2")]);
    expect(shown(await queue.exported())).toEqual([
      ["a", 1, false],
      ["b", 1, false],
      ["new", 2, true],
    ]);
    await queue.discard(["a", "new"]);
    expect(idsOf(await queue.exported())).toEqual(["b", "new"]);
  });

  it("are sent by a page of their version, should one come", async () => {
    const first = page({ schema: 1 });
    await first.queue.append([mutation("a", 1, "c1")]);
    first.locks.kill();
    expect(await loadedBy({ schema: 2 })).toEqual([]);
    expect(idsOf(await loadedBy({ schema: 1 }))).toEqual(["a"]);
  });
});
