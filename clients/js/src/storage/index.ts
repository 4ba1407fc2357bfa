/** What an application imports from `syncd-client/storage`. */

import type { IndexedDbLike, LocksLike } from "./platform.js";
import { DurableQueue, type QueueEnvironment, type QueueOptions } from "./queue.js";

export { joinStore } from "./keeping.js";
export {
  DurableQueue,
  type ExportedMutation,
  type QueueEnvironment,
  type QueueOptions,
  type StorageStatus,
} from "./queue.js";

interface Platform {
  indexedDB?: IndexedDbLike;
  navigator?: { locks?: LocksLike };
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array };
  setTimeout(run: () => void, afterMs: number): unknown;
  clearTimeout(timer: unknown): void;
}

/**
 * Make a queue of mutations that survives reloads and restarts of the browser: give it to `createClient`.
 *
 * Without IndexedDB or Web Locks it works in memory, and `status` says so.
 */
export function durableQueue(options: QueueOptions): DurableQueue {
  const platform = globalThis as unknown as Platform;
  return new DurableQueue(options, { ...defaultsOf(platform), ...options.environment });
}

function defaultsOf(platform: Platform): QueueEnvironment {
  return {
    // A page that may store nothing (sandboxed, `data:`) throws when it is only asked.
    indexedDB: orNull(() => platform.indexedDB),
    locks: orNull(() => platform.navigator?.locks),
    randomName: () =>
      [...platform.crypto.getRandomValues(new Uint8Array(12))]
        .map((byte) => byte.toString(16).padStart(2, "0"))
        .join(""),
    setTimeout: (run, afterMs) => platform.setTimeout(run, afterMs),
    clearTimeout: (timer) => platform.clearTimeout(timer),
  };
}

function orNull<Thing>(look: () => Thing | undefined): Thing | null {
  try {
    return look() ?? null;
  } catch {
    return null;
  }
}
