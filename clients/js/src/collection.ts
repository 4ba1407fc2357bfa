/** What an application holds of one collection: its entries with this client's predictions in them. */

import type { EntriesNews, ViewChange } from "./core/entries/facts.js";
import type { StateRoom } from "./core/entries/room.js";
import { Selection, type Watch } from "./core/entries/watch.js";
import type { ReadResult } from "./core/facts.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import type { Mutation } from "./mutation.js";
import type { Engine, Host } from "./shell/engine.js";
import type { Position } from "./wire/messages.js";

/** Past so many changed entries at once a list is sorted anew instead of amended. */
const MAX_AMENDED = 100;

/** Which entries to watch: some keys (at most 1,000, all of one partition), one partition, or all. */
export type WatchSelection = Readonly<
  | { keys: readonly string[]; partition?: undefined; all?: undefined }
  | { partition: string; keys?: undefined; all?: undefined }
  | { all: true; keys?: undefined; partition?: undefined }
>;

/**
 * What a watch is doing.
 *
 * - `idle`: nobody watches this.
 * - `loading`: it was never complete.
 * - `current`: it is complete and live.
 * - `stale`: it is as it was when it last was, with the predictions of now.
 */
export type WatchStatus = "idle" | "loading" | "current" | "stale";

/** What a listener of a watch is told: at most once for all that came together. */
export interface WatchChange {
  /** `idle`: the server refused or ended the watch, see `code`; watch again to try again. */
  readonly status: WatchStatus;
  /** Entries whose value, presence or pending mutations changed. */
  readonly keys: ReadonlySet<string>;
  /** Why the server ended it; null: it did not. */
  readonly code: string | null;
  /** For people; may be empty. */
  readonly message: string;
}

/** One entry. Not to be changed; the same object until its value or its pending mutations change. */
export interface CollectionEntry<Value = unknown> {
  readonly key: string;
  readonly value: Value;
  /** The mutations that what is shown is a prediction of, oldest first; empty: it is confirmed. */
  readonly pending: readonly number[];
}

/** Says which entries a list is of; the same function gets the same list until it has other entries. */
export type EntryFilter<Value> = (value: Value, key: string) => boolean;

/** How a built-in mutator is called. */
export interface Condition {
  /** Only if the entry is of this version; else `version_mismatch`. 0: only if there is none. */
  readonly ifVersion?: number | undefined;
}

/** What a collection needs of its client. */
export interface CollectionHost extends Host {
  readonly engine: Engine<StateRoom>;
  mutate(name: string, args: unknown): Mutation;
}

type WatchEnded = Extract<EntriesNews, { readonly kind: "ended" }>;

interface Shared {
  readonly watch: Watch;
  readonly listeners: Listeners<WatchChange>;
}

/**
 * One collection. `client.collection(name)` returns the same object for the same name.
 *
 * It shows what its watches cover. Watches of the same selection are shared; a release is put off by one turn of the event
 * loop, so that whoever leaves and comes back at once (React's strict mode) does not ask twice.
 */
export class Collection<Value = unknown> {
  readonly name: string;
  readonly #host: CollectionHost;
  readonly #room: StateRoom;
  readonly #shared = new Map<string, Shared>();
  readonly #listeners: Listeners<void> = new Set();
  readonly #entries = new Map<string, CollectionEntry<Value>>();
  #list: readonly CollectionEntry<Value>[] | null = [];
  #filtered = new WeakMap<
    EntryFilter<Value>,
    { of: readonly CollectionEntry<Value>[]; list: readonly CollectionEntry<Value>[] }
  >();

  /** Made by `client.collection`. */
  constructor(name: string, host: CollectionHost) {
    this.name = name;
    this.#host = host;
    this.#room = host.engine.core.entries;
  }

  // ------------------------------------------------------------------------------- watching

  /**
   * Watch entries, all if nothing is said, and be told their changes; return the function that ends that.
   *
   * @throws TypeError not exactly one of keys, partition and all is given.
   */
  watch(
    selection: WatchSelection = { all: true },
    listener: (change: WatchChange) => void = () => undefined,
  ): () => void {
    const word = wordOf(selection);
    const { engine } = this.#host;
    let shared = this.#shared.get(word);
    if (!shared) {
      const { keys = null, partition = null } = selection;
      const wanted = new Selection(this.name, keys, partition);
      shared = { watch: engine.run(() => this.#room.watching.watch(wanted)), listeners: new Set() };
      this.#shared.set(word, shared);
    }
    const { listeners, watch } = shared;
    const stop = listen(listeners, listener);
    return () => {
      stop();
      engine.outside.setTimeout(() => {
        if (listeners.size > 0 || this.#shared.get(word)?.watch !== watch) return;
        this.#shared.delete(word);
        engine.run(() => this.#room.watching.unwatch(watch.id));
        this.#prune();
      }, 0);
    };
  }

  /** What the watch of a selection is doing. */
  status(selection: WatchSelection = { all: true }): WatchStatus {
    const watch = this.#shared.get(wordOf(selection))?.watch;
    return watch ? statusOf(watch) : "idle";
  }

  /** Up to where the watch of a selection was told everything the server confirmed; null until it is complete. */
  position(selection: WatchSelection = { all: true }): Position | null {
    return this.#shared.get(wordOf(selection))?.watch.position ?? null;
  }

  /** Be called after every change of what is shown, once for all that came together; return the function that ends that. */
  subscribe(listener: () => void): () => void {
    return listen(this.#listeners, listener);
  }

  // ------------------------------------------------------------------------------- looking

  /** Return an entry's value; undefined where there is none or it is not watched. Not to be changed. */
  get(key: string): Value | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Return an entry with what is pending of it; the same object until it changes. */
  entry(key: string): CollectionEntry<Value> | undefined {
    return this.#entries.get(key);
  }

  /** Return all entries that are watched, sorted by key; the same array until one of them changes. Not to be changed. */
  list(filter?: EntryFilter<Value>): readonly CollectionEntry<Value>[] {
    this.#list ??= [...this.#entries.values()].sort((one, other) => (one.key < other.key ? -1 : 1));
    const all = this.#list;
    if (!filter) return all;
    const known = this.#filtered.get(filter);
    if (known?.of === all) return known.list;
    let list: readonly CollectionEntry<Value>[] = all.filter(({ key, value }) => filter(value, key));
    if (known?.list.length === list.length && known.list.every((entry, at) => entry === list[at])) {
      list = known.list;
    }
    this.#filtered.set(filter, { of: all, list });
    return list;
  }

  /** Return the ids of the pending mutations that change an entry, oldest first; the same array until they change. */
  pending(key: string): readonly number[] {
    return this.#room.shown.pendingOf(this.name, key);
  }

  /**
   * Return entries as the server has them, one a key, in the order asked; `after` (channel to position): at least that new.
   * They are at least as new as this client's own mutations that are done, whatever node it is connected to.
   *
   * @throws RequestFailed the server refuses it.
   */
  read(keys: readonly string[], after?: Record<string, Position>): Promise<ReadResult> {
    const body = this.#room.readBody(this.name, keys, after);
    return this.#host.call("read", body) as Promise<ReadResult>;
  }

  // ------------------------------------------------------------------------------- changing

  /** Set an entry with the built-in mutator; like all four, see `client.mutate`. */
  put(key: string, value: Value, condition: Condition = {}): Mutation {
    return this.#mutate("put", { key, value, if_version: condition.ifVersion });
  }

  /** Merge a patch into an entry (RFC 7386) with the built-in mutator. */
  patch(key: string, patch: object, condition: Condition = {}): Mutation {
    return this.#mutate("patch", { key, patch, if_version: condition.ifVersion });
  }

  /** Remove an entry with the built-in mutator. */
  delete(key: string, condition: Condition = {}): Mutation {
    return this.#mutate("delete", { key, if_version: condition.ifVersion });
  }

  /** Add to a number, or to one field of an entry, with the built-in mutator; `server` is the sum. */
  incr(
    key: string,
    by = 1,
    { field, ifVersion }: Condition & { readonly field?: string | undefined } = {},
  ): Mutation {
    return this.#mutate("incr", { key, by, field, if_version: ifVersion });
  }

  #mutate(word: string, args: object): Mutation {
    return this.#host.mutate(`${this.name}.${word}`, args);
  }

  // ------------------------------------------------------------------------------- for the client

  /** @internal Take what a step changed, and tell nobody yet. */
  take(changed: readonly ViewChange[]): void {
    const keys = changed.length === 1 ? changed[0]?.[1] : new Set(changed.flatMap(([, own]) => [...own]));
    const renewed = [...(keys ?? [])].filter((key) => this.#renew(key));
    if (renewed.length === 0 || !this.#list) return;
    this.#list = renewed.length > MAX_AMENDED ? null : this.#amended(this.#list, renewed);
  }

  /** @internal Tell everybody what was taken. */
  tell(changed: readonly ViewChange[]): void {
    for (const [watch, keys] of changed) {
      const shared = [...this.#shared.values()].find((one) => one.watch === watch);
      const change = { status: statusOf(watch), keys, code: null, message: "" };
      if (shared) callAll(shared.listeners, change, this.#host.engine);
    }
    callAll(this.#listeners, undefined, this.#host.engine);
  }

  /** @internal The server ended or refused a watch. */
  ended({ watch: id, code, message }: WatchEnded): void {
    for (const [word, { watch, listeners }] of this.#shared) {
      if (watch.id !== id) continue;
      this.#shared.delete(word);
      this.#prune();
      callAll(listeners, { status: "idle", keys: new Set<string>(), code, message }, this.#host.engine);
    }
  }

  /** Forget what nobody watches any more. */
  #prune(): void {
    const watches = [...this.#shared.values()].map(({ watch }) => watch);
    for (const key of this.#entries.keys()) {
      if (watches.some(({ isShown, extent }) => isShown && extent.covers(key))) continue;
      this.#entries.delete(key);
      this.#list = null;
    }
    callAll(this.#listeners, undefined, this.#host.engine);
  }

  /** Show an entry as it is now; return whether it is another one. */
  #renew(key: string): boolean {
    const value = this.#room.shown.get(this.name, key) as Value | undefined;
    const pending = this.pending(key);
    const before = this.#entries.get(key);
    if (before?.value === value && (value === undefined || before?.pending === pending)) return false;
    if (value === undefined) this.#entries.delete(key);
    else this.#entries.set(key, { key, value, pending });
    return true;
  }

  #amended(list: readonly CollectionEntry<Value>[], keys: readonly string[]): CollectionEntry<Value>[] {
    const amended = [...list];
    for (const key of keys) {
      let [low, high] = [0, amended.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((amended[middle]?.key ?? "") < key) low = middle + 1;
        else high = middle;
      }
      const entry = this.#entries.get(key);
      amended.splice(low, amended[low]?.key === key ? 1 : 0, ...(entry ? [entry] : []));
    }
    return amended;
  }
}

function statusOf({ isShown, isLive, state }: Watch): WatchStatus {
  if (state === "ended") return "idle";
  if (!isShown) return "loading";
  return isLive ? "current" : "stale";
}

function wordOf({ keys, partition, all }: WatchSelection): string {
  if ([keys, partition, all].filter((given) => given !== undefined).length !== 1) {
    throw new TypeError("Watch by keys, by partition, or all.");
  }
  return keys === undefined ? `${partition ?? ""}/` : `\n${[...keys].sort().join("\n")}`;
}
