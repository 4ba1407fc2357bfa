/**
 * What the server confirmed of one channel of a collection: entries, their versions, and what is told of them. Pure.
 *
 * Owned by `WatchTable`. Invariant: an entry's version never goes back within one epoch, whatever comes in whatever order;
 * local writes never touch it.
 */

import type { Body } from "../../wire/decode.js";
import { found } from "../maps.js";
import { applyPatch } from "./values.js";

/** Patches kept for entries whose page of a snapshot is still to come. Policy: past it, what is missing is asked for again. */
const MAX_WAITING_PATCHES = 1000;

/** Clients of ours to their mutations. */
export type Mids = ReadonlyMap<string, number>;

/** What an event does to one entry. */
export interface Change {
  readonly key: string;
  readonly version: number;
  /** The new value; undefined: deleted, unless there is a patch. */
  readonly value?: unknown;
  readonly patch?: Body;
  /** Version that `patch` applies to. */
  readonly base?: number;
  /** The mutation of one of our clients that caused it. */
  readonly by: Mids | null;
}

/** One entry as the server confirmed it; a value of undefined is a tombstone, kept while a snapshot is incomplete. */
interface Confirmed {
  readonly version: number;
  readonly value: unknown;
}

/** The entries of one channel in one epoch. */
export class Entries {
  readonly epoch: string;
  /** Keys that changed since somebody looked and replaced it. */
  touched = new Set<string>();
  /** It holds what became of further mutations, since somebody looked and cleared it. */
  hasNews = false;
  readonly #knownUpto: (key: string) => number;
  readonly #entries = new Map<string, Confirmed>();
  /** What an entry, there or not, is as of: the last mutation of each of our clients that it holds what became of. */
  readonly #seen = new Map<string, Mids>();
  /** The same of all entries of a snapshot, those that are not there included. */
  #seenAll: (readonly [covers: (key: string) => boolean, mids: Mids])[] = [];
  /** Patches whose base is still to come, ascending. */
  readonly #waiting = new Map<string, Change[]>();
  #numWaiting = 0;

  /**
   * @param epoch Of all versions.
   * @param knownUpto Returns the offset up to which a key is known to be as it is here, even where it is not: 0 for keys
   *   of which nothing is known.
   */
  constructor(epoch: string, knownUpto: (key: string) => number) {
    this.epoch = epoch;
    this.#knownUpto = knownUpto;
  }

  /** Return an entry's value. */
  value(key: string): unknown {
    return this.#entries.get(key)?.value;
  }

  /** Return the version of an entry, 0 if there is none. */
  version(key: string): number {
    const { version = 0, value } = this.#entries.get(key) ?? {};
    return value === undefined ? 0 : version;
  }

  /** Yield the key and version of every entry there is. */
  *live(): Generator<[key: string, version: number]> {
    for (const [key, { version, value }] of this.#entries) if (value !== undefined) yield [key, version];
  }

  /**
   * Take what an event says of an entry.
   *
   * @param mayWait A page that may bring the base of a patch is still to come.
   * @returns False: a patch has no base here. What is missing must be asked for again.
   */
  take(change: Change, mayWait: boolean): boolean {
    const { key, version, patch } = change;
    if (!this.has(change)) {
      let { value } = change;
      if (patch) {
        const entry = this.#entries.get(key);
        if (entry?.version !== change.base || entry?.value === undefined) {
          if (!mayWait || this.#numWaiting >= MAX_WAITING_PATCHES) return false;
          found(this.#waiting, key, () => [] as Change[]).push(change);
          this.#numWaiting += 1;
          return true;
        }
        value = applyPatch(entry.value, patch);
      }
      this.#set(key, version, value);
    }
    if (change.by) this.see(key, change.by);
    return true;
  }

  /** Take an entry of a snapshot, and apply the patches that waited for it, as far as they fit; undefined: it is not there. */
  takeTold(key: string, version: number, value: unknown): void {
    if (version > this.#known(key)) this.#set(key, version, value);
    this.release(key);
  }

  /** Return whether a change is in, and not waiting for its base. */
  has({ key, version }: Change): boolean {
    return version <= this.#known(key);
  }

  /** What is there of an entry holds what became of these mutations, and of all before them. */
  see(key: string, mids: Mids): void {
    const seen = this.#seen.get(key);
    this.#seen.set(key, seen && seen !== mids ? newerOf(seen, mids) : mids);
    this.hasNews = true;
  }

  /** A snapshot is complete: what it says of these entries, there or not, is as of these mutations at least. */
  seeAll(covers: (key: string) => boolean, mids: Mids): void {
    if (mids.size === 0) return;
    this.#seenAll.push([covers, mids]);
    this.hasNews = true;
  }

  /** Return whether what is there of an entry holds what became of a mutation. */
  holds(key: string, client: string, mid: number): boolean {
    const holds = (mids: Mids | undefined) => (mids?.get(client) ?? 0) >= mid;
    return holds(this.#seen.get(key)) || this.#seenAll.some(([covers, mids]) => holds(mids) && covers(key));
  }

  /** What it is as of is not asked for any more. */
  forgetSeen(): void {
    this.#seen.clear();
    this.#seenAll = [];
  }

  /** Apply the patches that waited for this entry, as far as they fit what is there now. */
  release(key: string): void {
    const waiting = this.#waiting.get(key);
    if (!waiting) return;
    this.#waiting.delete(key);
    this.#numWaiting -= waiting.length;
    for (const change of waiting) this.take(change, true);
  }

  /** Apply every patch that waited, as far as they fit; return whether none waits any more. */
  releaseAll(): boolean {
    for (const key of [...this.#waiting.keys()]) this.release(key);
    return this.#waiting.size === 0;
  }

  /** The offset up to which it is known what became of a key. */
  #known(key: string): number {
    const { version = 0, value } = this.#entries.get(key) ?? {};
    return value === undefined ? Math.max(version, this.#knownUpto(key)) : version;
  }

  #set(key: string, version: number, value: unknown): void {
    this.#entries.set(key, { version, value });
    this.touched.add(key);
  }

  /** Forget an entry that is gone, or that nobody watches any more. */
  drop(key: string): void {
    if (this.#entries.delete(key)) this.touched.add(key);
  }

  /** Every snapshot is complete: forget tombstones and whatever still waits. */
  settle(): void {
    for (const [key, { value }] of this.#entries) if (value === undefined) this.#entries.delete(key);
    this.#waiting.clear();
    this.#numWaiting = 0;
  }
}

function newerOf(seen: Mids, mids: Mids): Mids {
  const newer = new Map(seen);
  for (const [client, mid] of mids) newer.set(client, Math.max(mid, seen.get(client) ?? 0));
  return newer;
}
