/**
 * One watch of the client and one channel that is watched: what they hold, and what is left to be told. Pure.
 *
 * Owned by `WatchTable`, which speaks to the server for them. Invariant: `Watch.position` is an offset up to which the
 * entries of this watch are complete in the channel's entries of that epoch, whatever came after it.
 */

import type { Body } from "../../wire/decode.js";
import { encodeMessage } from "../../wire/encode.js";
import { listOfMaps, listOfStrings, numberOf, textOf } from "../../wire/frames.js";
import type { Position } from "../../wire/messages.js";
import { utf8FromText } from "../../wire/utf8.js";
import { Backoff, type Random } from "../backoff.js";
import { Entries, type Mids } from "./confirmed.js";

/** Versions that one `watch` may name (SPEC section 17). */
const MAX_HAVE = 1000;
/** `have` takes at most this part of what a frame has left beside what to watch. */
const HAVE_SHARE = 2;
/** What a `watch` has besides what to watch, and `have`: some positions. */
const OTHER_BYTES = 500;
/** What a version costs besides the bytes of its key: a head of up to 3, an integer of up to 9. */
const HAVE_ITEM_BYTES = 12;

/**
 * What a watch is doing on the present connection.
 *
 * - `wanted`: the server has not been asked: offline, or waiting to ask again.
 * - `asking`: asked; what it shows is what it showed before.
 * - `loading`: a snapshot is coming in: entries of it count, but it is not complete.
 * - `catching-up`: what was missed follows as events.
 * - `live`: it is complete, and events keep it so.
 * - `ended`: final.
 */
export type WatchState = "wanted" | "asking" | "loading" | "catching-up" | "live" | "ended";

/** What the watches need to know of the mutations. */
export interface Mutations {
  /** Return the positions of channels that answers about this one must reach; nothing for any. */
  wantedAfter(channel: string): Readonly<Record<string, Position>> | undefined;
  /** Those that are not settled. */
  readonly all: ReadonlyMap<number, unknown>;
}

/** No mutations. */
export const NO_MIDS: Mids = new Map();

/** Which entries of a collection a watch is of: some keys, one partition, or, with neither, all. */
export class Selection {
  readonly collection: string;
  readonly keys: ReadonlySet<string> | null;
  readonly partition: string | null;

  constructor(collection: string, keys: Iterable<string> | null = null, partition: string | null = null) {
    this.collection = collection;
    this.keys = keys && new Set(keys);
    this.partition = partition;
  }

  /** The channel it is on; null when only the server can say. */
  get channel(): string | null {
    if (this.partition !== null) return `${this.collection}/${this.partition}`;
    return this.keys ? null : this.collection;
  }

  /** Return whether an entry of this collection belongs to it. */
  covers(key: string): boolean {
    if (this.keys) return this.keys.has(key);
    return this.partition === null || key.startsWith(`${this.partition}/`);
  }

  /** Build the fields of a `watch` that say what to watch. */
  toWire(): object {
    const { collection, keys, partition } = this;
    return {
      collection,
      keys: keys && [...keys].sort(),
      partition,
      all: keys || partition !== null ? null : true,
    };
  }
}

/** A snapshot that is coming in. */
interface Loading {
  /** Where it stands: where it began, carried on by events. */
  position: Position;
  /** Where it began; events after it hold all that it holds. */
  readonly since: number;
  /** Keys of which it, or an event, told. */
  readonly told: Set<string>;
  /** Keys that are gone unless told of. */
  readonly doubtful: readonly string[];
  /** What its first page is as of, in the numbers of our clients, and so all of it at least. */
  decided: Mids;
}

/** One watch. */
export class Watch {
  readonly id: number;
  readonly extent: Selection;
  /** How long its message is at least, and at most without `have`. */
  readonly bytes: number;
  readonly backoff: Backoff;
  state: WatchState = "wanted";
  channel: string | null;
  position: Position | null = null;
  /** Of the `watch` in flight, or answered last. */
  requestId: number | null = null;
  /** The server may tell of its entries on the present connection. */
  isKnownToServer = false;
  /** Nothing it missed is still to come: false after it went on from a position, until a snapshot or a `mark` says so. */
  isSure = false;
  /** Nobody wants it any more; it only waits to learn its channel, to end it there. */
  isLeaving = false;
  /** Something after `position` is missing that events cannot bring. */
  hasHole = false;
  /** It was complete once: it may be shown. */
  isShown = false;
  /** What the application was last told of whether it is live; null: nothing. */
  wasLive: boolean | null = null;
  /** The node did not answer `behind` to the last attempt. */
  mayAskAfter = true;
  /** Of state `loading`. */
  incoming: Loading | null = null;
  /** While catching up: live from here. */
  target = 0;

  constructor(id: number, extent: Selection, random: Random) {
    this.id = id;
    this.extent = extent;
    this.channel = extent.channel;
    this.bytes = encodeMessage("watch", extent.toWire()).bytes.length + OTHER_BYTES;
    this.backoff = new Backoff(random);
  }

  /** Whether it is complete, and events keep it so. */
  get isLive(): boolean {
    return this.state === "live";
  }

  /** Whether no snapshot is outstanding. */
  get isSettled(): boolean {
    return this.isLive || this.state === "catching-up";
  }

  /** Return whether its events may come on this channel. */
  mayBeOn(channel: string): boolean {
    if (this.channel) return this.channel === channel;
    const { collection } = this.extent;
    return channel === collection || channel.startsWith(`${collection}/`);
  }

  /** It goes on from its own position: what was missed up to the other one follows. */
  goOn(mine: Position, { offset }: Position): void {
    this.target = offset;
    this.isSure = false;
    this.state = mine.offset >= offset ? "live" : "catching-up";
  }

  /** A snapshot begins at a position; it is as of these mutations. */
  load(position: Position, entries: Entries, decided: Mids): void {
    const { offset: since } = position;
    const doubtful: string[] = [];
    for (const [key, version] of entries.live()) {
      if (version <= since && this.extent.covers(key)) doubtful.push(key);
    }
    this.state = "loading";
    this.incoming = { position, since, told: new Set(), doubtful, decided };
  }

  /** Everything up to there has been told or superseded. */
  moveTo({ epoch, offset }: Position): void {
    const at = this.state === "loading" ? this.incoming : this.isSettled ? this : null;
    if (at?.position?.epoch !== epoch) return;
    if (offset > at.position.offset) at.position = { epoch, offset };
    if (at === this && offset >= this.target) this.state = "live";
  }

  /** Return whether it has told everything up to a position of its channel, or goes on in another epoch. */
  hasTold({ epoch, offset }: Position): boolean {
    const { position } = this;
    return this.isSettled && !!position && (position.epoch !== epoch || position.offset >= offset);
  }
}

/** The channel of a collection, or of one partition, with everything that watches it. */
export class WatchedChannel {
  readonly name: string;
  readonly collection: string;
  readonly watches = new Set<Watch>();
  shown: Entries | null = null;
  /** Of a newer epoch: shown in place of `shown` once all watches are complete in it. */
  next: Entries | null = null;
  /** The epoch of `shown` means nothing any more, even if it comes again. */
  isVoid = false;
  /** Keys that changed by a new epoch taking the place of an old one. */
  readonly #changed = new Set<string>();

  constructor(name: string, collection: string) {
    this.name = name;
    this.collection = collection;
  }

  /** The partition, as `unwatch` names it. */
  get partition(): string | null {
    return this.name.slice(this.collection.length + 1) || null;
  }

  /** The entries that the server's answers are compared with. */
  get #newest(): Entries | null {
    return this.next ?? (this.isVoid ? null : this.shown);
  }

  get #both(): Entries[] {
    return [this.shown, this.next].filter((entries) => entries !== null);
  }

  /** Return the entries of an epoch. */
  entriesOf(epoch: string): Entries | null {
    if (this.next?.epoch === epoch) return this.next;
    return this.shown?.epoch === epoch && !this.isVoid ? this.shown : null;
  }

  /** Return the entries of an epoch, begun if it is new. */
  entriesFor(epoch: string): Entries {
    const found = this.entriesOf(epoch);
    if (found) {
      if (found === this.shown) this.next = null;
      return found;
    }
    const begun = new Entries(epoch, (key) => this.#knownUpto(epoch, key));
    if (this.shown) this.next = begun;
    else this.shown = begun;
    return begun;
  }

  #knownUpto(epoch: string, key: string): number {
    let known = 0;
    for (const { position, extent } of this.watches) {
      if (position?.epoch === epoch && position.offset > known && extent.covers(key)) known = position.offset;
    }
    return known;
  }

  /** Build `have`: versions of what is there of a watch, as many as fit. */
  have({ extent, bytes }: Watch, maxBytes: number): object | null {
    const entries = this.#newest;
    const versions = new Map<string, number>();
    let budget = (maxBytes - bytes) / HAVE_SHARE;
    for (const [key, version] of entries?.live() ?? []) {
      if (!extent.covers(key)) continue;
      budget -= utf8FromText(key).length + HAVE_ITEM_BYTES;
      if (budget < 0 || versions.size === MAX_HAVE) break;
      versions.set(key, version);
    }
    return versions.size > 0 ? { epoch: entries?.epoch, versions } : null;
  }

  /** Return from where a watch may go on. */
  positionOf({ position, hasHole }: Watch): Position | null {
    return !hasHole && position?.epoch === this.#newest?.epoch ? position : null;
  }

  /**
   * Take entries of a snapshot, which are as of these mutations.
   *
   * @returns False: it is all there, and a patch still misses its base.
   */
  takePage(watch: Watch, body: Body, decided: Mids): boolean {
    const { incoming: loading } = watch;
    if (!loading) return true;
    this.#takeEntries(this.entriesFor(loading.position.epoch), body, decided, loading.told);
    return body["more"] === true || this.#completed(watch, loading);
  }

  /** Take a page for a watch that is not there any more: what comes behind it rests on it, for the others as well. */
  overhear(body: Body, position: Position | null, decided: Mids): void {
    const entries = position ? this.entriesOf(position.epoch) : this.next ? null : this.shown;
    if (entries) this.#takeEntries(entries, body, decided);
  }

  #takeEntries(entries: Entries, body: Body, decided: Mids, told?: Set<string>): void {
    const tell = (key: string) => {
      if (decided.size > 0) entries.see(key, decided);
      told?.add(key);
    };
    for (const entry of listOfMaps(body, "entries")) {
      const key = textOf(entry, "key");
      const value = entry["deleted"] === true ? undefined : (entry["value"] ?? null);
      entries.takeTold(key, numberOf(entry, "version"), value);
      tell(key);
    }
    for (const key of listOfStrings(body, "unchanged")) {
      entries.release(key);
      tell(key);
    }
  }

  /** The snapshot of a watch is all there; return false if a patch still misses its base. */
  #completed(watch: Watch, { position, told, doubtful, decided }: Loading): boolean {
    const { extent } = watch;
    const entries = this.entriesFor(position.epoch);
    const isWhole = entries.releaseAll();
    if (!extent.keys) for (const key of doubtful) if (!told.has(key)) entries.drop(key);
    watch.position = position;
    watch.incoming = null;
    watch.state = "live";
    watch.hasHole = false;
    watch.isShown = watch.isSure = true;
    entries.seeAll((key) => extent.covers(key), decided);
    this.turn();
    return isWhole;
  }

  /** Show the newer epoch if it is complete, and forget tombstones if no snapshot needs them. */
  turn(): void {
    for (const watch of this.watches) if (!watch.isSettled) return;
    if (this.next) {
      this.#changeAll();
      this.shown = this.next;
      this.next = null;
      this.isVoid = false;
      this.shown.hasNews = true;
      this.#changeAll();
    }
    this.shown?.settle();
  }

  #changeAll(): void {
    for (const [key] of this.shown?.live() ?? []) this.#changed.add(key);
  }

  /** Return and forget the keys whose confirmed value is another one now. */
  takeChanged(): Set<string> {
    const changed = this.shown?.touched ?? new Set();
    if (this.shown) this.shown.touched = new Set();
    for (const key of this.#changed) changed.add(key);
    this.#changed.clear();
    return changed;
  }

  /** Forget entries that nobody watches. */
  prune(): void {
    for (const entries of this.#both) {
      for (const [key] of entries.live()) if (!this.isWatched(key)) entries.drop(key);
    }
  }

  /** Return whether any watch covers a key. */
  isWatched(key: string): boolean {
    return [...this.watches].some(({ extent }) => extent.covers(key));
  }

  /** Nothing is pending, or what is has other numbers now. */
  forgetSeen(): void {
    for (const entries of this.#both) entries.forgetSeen();
    for (const { incoming } of this.watches) if (incoming) incoming.decided = NO_MIDS;
  }
}
