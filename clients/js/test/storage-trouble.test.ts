import { describe, expect, it } from "vitest";
import { ATTEMPT_MS } from "../src/storage/database.ts";
import {
  idb,
  idsOf,
  loadedBy,
  locks,
  mutation,
  NAME,
  page,
  runOut,
  settle,
  timers,
} from "./storage-pages.ts";

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
