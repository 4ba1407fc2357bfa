import { beforeEach, describe, expect, it } from "vitest";
import type { StoredMutation } from "../src/shell/pending-store.ts";
import { ATTEMPT_MS } from "../src/storage/database.ts";
import {
  durableQueue,
  type ExportedMutation,
  type QueueOptions,
  type StorageStatus,
} from "../src/storage/index.ts";
import type { DurableQueue } from "../src/storage/queue.ts";
import { Trouble } from "./database.ts";
import { FakeLocks, type FakePageLocks } from "./locks.ts";

const NAME = 'syncd ["wss://host/ws","ann"]';

interface Page {
  readonly queue: DurableQueue;
  readonly locks: FakePageLocks;
  readonly statuses: StorageStatus[];
}

let idb: Trouble;
let locks: FakeLocks;
let numPages = 0;
/** Timers of the attempts, to run out at once. */
let timers: Set<() => void>;

beforeEach(() => {
  idb = new Trouble();
  locks = new FakeLocks();
  timers = new Set();
});

function page(options: Partial<QueueOptions> = {}): Page {
  numPages += 1;
  const owner = `page-${numPages}`;
  const own = locks.page();
  const environment = {
    indexedDB: idb,
    locks: own,
    randomName: () => owner,
    setTimeout: (run: () => void) => {
      timers.add(run);
      return run;
    },
    clearTimeout: (timer: unknown) => timers.delete(timer as () => void),
    ...options.environment,
  };
  const queue = durableQueue({ user: "ann", url: "wss://host/ws", ...options, environment });
  const statuses: StorageStatus[] = [];
  queue.onStatus((status) => statuses.push(status));
  return { queue, locks: own, statuses };
}

function mutation(
  id: string,
  mid = 0,
  client: string | null = null,
  more: Partial<StoredMutation> = {},
): StoredMutation {
  const claim = client === null ? null : { client, secret: `${client}!` };
  return { id, claim, mid, name: "orders.put", args: { key: id }, madeAtMs: 1, ...more };
}

const idsOf = (mutations: readonly StoredMutation[]): string[] => mutations.map(({ id }) => id);

/** Let the database's own tasks run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Let an attempt run out of time. */
async function runOut(): Promise<void> {
  await settle();
  for (const timer of [...timers]) {
    timers.delete(timer);
    timer();
  }
  await settle();
}

async function loadedBy(options: Partial<QueueOptions> = {}): Promise<StoredMutation[]> {
  return [...(await page(options).queue.load())];
}

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
});

describe("a database in trouble", () => {
  it("is opened again when the browser has ended the handle", async () => {
    const { queue, statuses, locks: own } = page();
    await queue.append([mutation("a")]);
    idb.handles.at(-1)?.close();
    await queue.append([mutation("b")]);
    idb.handles.at(-1)?.onclose?.({} as never);
    await queue.append([mutation("c")]);
    expect([idb.numOpened, statuses]).toEqual([3, []]);
    own.kill();
    expect(idsOf(await loadedBy())).toEqual(["a", "b", "c"]);
  });

  it("lets go when somebody else wants to delete it, and goes on in a new one", async () => {
    const { queue, statuses } = page();
    await queue.append([mutation("a")]);
    await new Promise<void>((resolve, reject) => {
      const request = idb.real.deleteDatabase(NAME);
      request.onsuccess = () => resolve();
      request.onblocked = () => reject(new Error("It holds on to the database."));
    });
    await queue.append([mutation("b")]);
    expect(statuses).toEqual([]);
    expect(idsOf(await queue.exported())).toEqual(["b", "a"]);
  });

  it("is tried a second time, and nobody notices", async () => {
    const { queue, statuses, locks: own } = page();
    idb.faults.push("abort");
    await queue.append([mutation("a")]);
    expect(statuses).toEqual([]);
    own.kill();
    expect(idsOf(await loadedBy())).toEqual(["a"]);
  });

  it("is given up after the second time: the status says so, and what is lost by that", async () => {
    const { queue, statuses, locks: own } = page();
    idb.faults.push("abort", "abort");
    await queue.append([mutation("a")]);
    expect(statuses.map(({ mode }) => mode)).toEqual(["memory"]);
    expect(queue.status.reason).not.toBe("");
    expect(idsOf(await queue.exported())).toEqual(["a"]);
    own.kill();
    expect(await loadedBy()).toEqual([]);
  });

  it("gets everything as soon as it works again, without anybody waiting for it", async () => {
    const { queue, statuses, locks: own } = page();
    await queue.append([mutation("kept"), mutation("gone")]);
    idb.faults.push("abort", "abort");
    await queue.append([mutation("a")]);
    await queue.remove(["gone"]);
    await settle();
    expect(statuses.map(({ mode }) => mode)).toEqual(["memory", "disk"]);
    own.kill();
    expect(idsOf(await loadedBy())).toEqual(["kept", "a"]);
  });

  it.each(["not", "blocked", "never"] as const)("falls to memory when it opens %s", async (opens) => {
    idb.opens = opens;
    const { queue, statuses } = page();
    let isDone = false;
    const appended = queue.append([mutation("a")]).then(() => {
      isDone = true;
    });
    if (opens === "never") {
      await settle();
      expect([isDone, statuses]).toEqual([false, []]);
      await runOut();
      await runOut();
    }
    await appended;
    expect(statuses.map(({ mode }) => mode)).toEqual(["memory"]);
    await queue.append([mutation("b")]);
    await runOut();
    const exported = queue.exported();
    await runOut();
    expect(idsOf(await exported)).toEqual(["a", "b"]);
    expect(timers.size).toBe(0);
  });

  it("holds nobody up for longer than two attempts when it never answers", async () => {
    const { queue, statuses } = page();
    idb.faults.push("never", "never");
    const appended = queue.append([mutation("a")]);
    await runOut();
    await runOut();
    await appended;
    expect(statuses.map(({ mode }) => mode)).toEqual(["memory"]);
    expect(ATTEMPT_MS).toBeLessThanOrEqual(3000);
    expect(timers.size).toBe(0);
  });

  it("does not double what was stored by an attempt that seemed to fail", async () => {
    const { queue, locks: own } = page();
    idb.faults.push("committed-late");
    const appended = queue.append([mutation("a", 1, "c1")]);
    await runOut();
    await appended;
    own.kill();
    expect(idsOf(await loadedBy())).toEqual(["a"]);
  });

  it("does not lose what was taken over by an attempt that seemed to fail", async () => {
    const first = page();
    await first.queue.append([mutation("a", 1, "c1"), mutation("b", 2, "c1")]);
    first.locks.kill();
    idb.faults.push("committed-late");
    const loaded = page().queue.load();
    await runOut();
    expect(idsOf(await loaded)).toEqual(["a", "b"]);
  });

  it.each([
    ["lies there as never sent", async () => undefined],
    [
      "may lie there as never sent",
      async () => {
        // As for a machine that sleeps: the page that stored it hears nothing, and goes on without the database.
        idb.faults.push("committed-late", "committed-late");
      },
    ],
  ])("holds back what %s, until it lies there as it is sent", async (_what, prepare) => {
    const { queue, statuses, locks: own } = page();
    await prepare();
    const stored = queue.append([mutation("a")]);
    await runOut();
    await runOut();
    await stored;
    idb.opens = "not";
    idb.handles.at(-1)?.onclose?.({} as never);
    let isDone = false;
    const appended = queue.append([mutation("a", 1, "c1")]).then(() => {
      isDone = true;
    });
    await runOut();
    expect([isDone, statuses.map(({ mode }) => mode)]).toEqual([false, ["memory"]]);
    idb.opens = "well";
    await runOut();
    await appended;
    expect([queue.status.mode, timers.size]).toEqual(["disk", 0]);
    own.kill();
    expect(await loadedBy()).toEqual([mutation("a", 1, "c1")]);
  });

  it("holds nothing back that is sure not to lie there", async () => {
    const { queue } = page();
    idb.faults.push("abort", "abort");
    await queue.append([mutation("a")]);
    idb.opens = "not";
    idb.handles.at(-1)?.onclose?.({} as never);
    await queue.append([mutation("a", 1, "c1")]);
    expect(queue.status.mode).toBe("memory");
  });

  it("begins nothing that was given up before it opened", async () => {
    const late: (() => void)[] = [];
    const slow = {
      open: (name: string, version: number) => {
        const request = idb.open(name, version);
        let told: ((event: never) => void) | null = null;
        Object.defineProperty(request, "onsuccess", {
          set: (handler) => {
            told = handler;
          },
        });
        const isOpen = () => late.push(() => told?.({} as never));
        (request as unknown as EventTarget).addEventListener("success", isOpen);
        return request;
      },
    };
    const { queue, locks: own } = page({ environment: { indexedDB: slow } });
    const appended = queue.append([mutation("a")]);
    await runOut();
    await runOut();
    await appended;
    for (const open of late) open();
    await settle();
    own.kill();
    expect(await loadedBy()).toEqual([]);
  });

  it("does not bring back what was removed while it failed", async () => {
    const { queue, locks: own } = page();
    await queue.append([mutation("a")]);
    idb.faults.push("abort", "abort");
    await queue.remove(["a"]);
    expect(idsOf(await queue.exported())).toEqual([]);
    expect(locks.held).toHaveLength(1);
    await queue.append([mutation("b")]);
    await settle();
    own.kill();
    expect(idsOf(await loadedBy())).toEqual(["b"]);
  });

  it.each(["indexedDB", "locks"] as const)(
    "works in memory and says so where there is no %s",
    async (missing) => {
      const { queue, statuses } = page({ environment: { [missing]: null } });
      expect(queue.status.mode).toBe("memory");
      expect(await queue.load()).toEqual([]);
      await queue.append([mutation("a")]);
      expect(idsOf(await queue.exported())).toEqual(["a"]);
      await queue.remove(["a"]);
      expect(await queue.exported()).toEqual([]);
      expect(statuses).toEqual([]);
    },
  );
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
