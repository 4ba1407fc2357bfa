/** Pages that share one database and its locks, both new for each test: for tests of the durable queue. */

import { beforeEach } from "vitest";
import type { StoredMutation } from "../src/shell/pending-store.ts";
import { durableQueue, type QueueOptions, type StorageStatus } from "../src/storage/index.ts";
import type { DurableQueue } from "../src/storage/queue.ts";
import { Trouble } from "./database.ts";
import { FakeLocks, type FakePageLocks } from "./locks.ts";

export const NAME = 'syncd ["wss://host/ws","ann"]';

export interface Page {
  readonly queue: DurableQueue;
  readonly locks: FakePageLocks;
  readonly statuses: StorageStatus[];
}

export let idb: Trouble;
export let locks: FakeLocks;
export let numPages = 0;
/** Timers of the attempts, to run out at once. */
export let timers: Set<() => void>;

beforeEach(() => {
  idb = new Trouble();
  locks = new FakeLocks();
  timers = new Set();
});

/** A queue of a page of its own, and what it was told. */
export function page(options: Partial<QueueOptions> = {}): Page {
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

/** A mutation as it is stored. */
export function mutation(
  id: string,
  mid = 0,
  client: string | null = null,
  more: Partial<StoredMutation> = {},
): StoredMutation {
  const claim = client === null ? null : { client, secret: `${client}!` };
  return { id, claim, mid, name: "orders.put", args: { key: id }, madeAtMs: 1, ...more };
}

export const idsOf = (mutations: readonly StoredMutation[]): string[] => mutations.map(({ id }) => id);

/** Let the database's own tasks run. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 30; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Let an attempt run out of time. */
export async function runOut(): Promise<void> {
  await settle();
  for (const timer of [...timers]) {
    timers.delete(timer);
    timer();
  }
  await settle();
}

export async function loadedBy(options: Partial<QueueOptions> = {}): Promise<StoredMutation[]> {
  return [...(await page(options).queue.load())];
}
