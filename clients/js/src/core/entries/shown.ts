/**
 * What the watches show: predictions over confirmed entries, kept so that what did not change keeps its identity. Pure.
 *
 * Owned by `StateRoom`. Invariant: after `renew`, `#values` holds every entry that is there, as predicted, and nothing else.
 */

import type { ViewChange } from "./facts.js";
import type { Predictions } from "./pending.js";
import { type Place, partsOf, placeOf, type Reading } from "./tx.js";
import { isSame } from "./values.js";
import type { Watch, WatchedChannel } from "./watch.js";
import type { WatchTable } from "./watching.js";

/** Values by collection and key. */
export class Shown {
  readonly #watching: WatchTable;
  readonly #predictions: Predictions;
  readonly #values = new Map<string, Map<string, unknown>>();

  constructor(watching: WatchTable, predictions: Predictions) {
    this.#watching = watching;
    this.#predictions = predictions;
  }

  // ------------------------------------------------------------------------------- looking

  /** The channels that may hold an entry. */
  #channels([collection, key]: [collection: string, key: string]): WatchedChannel[] {
    const slash = key.indexOf("/");
    const names = slash < 0 ? [collection] : [`${collection}/${key.slice(0, slash)}`, collection];
    const channels = names.map((name) => this.#watching.channels.get(name));
    return channels.filter((channel) => channel?.collection === collection) as WatchedChannel[];
  }

  /** Return an entry's confirmed value, its version, and whether that is known. */
  confirmed(place: Place): Reading {
    const parts = partsOf(place);
    const [, key] = parts;
    let isKnown = false;
    for (const { shown, watches } of this.#channels(parts)) {
      const value = shown?.value(key);
      if (shown && value !== undefined) return { value, version: shown.version(key), isKnown: true };
      for (const watch of watches) isKnown ||= watch.isShown && watch.selection.covers(key);
    }
    return { value: undefined, version: 0, isKnown };
  }

  /** Return whether what is confirmed and shown of an entry holds what became of a mutation. */
  holds(place: Place, client: string, mid: number): boolean {
    const parts = partsOf(place);
    return this.#channels(parts).some(({ shown }) => shown?.holds(parts[1], client, mid));
  }

  /** Return what is shown of an entry; undefined: nothing. */
  get(collection: string, key: string): unknown {
    return this.#values.get(collection)?.get(key);
  }

  /** Return the keys of everything a watch shows, in no order. */
  *keys({ isShown, selection }: Watch): Generator<string> {
    const values = this.#values.get(selection.collection);
    if (!isShown || values === undefined) return;
    for (const key of selection.keys ?? values.keys()) {
      if (selection.covers(key) && values.has(key)) yield key;
    }
  }

  // ------------------------------------------------------------------------------- renewing

  /** Show what has changed; return, for each watch that shows something else now, the keys. */
  renew(changed: ReadonlySet<Place>): ViewChange[] {
    const told: ViewChange[] = [];
    const byCollection = new Map<string, string[]>();
    for (const place of changed) {
      const [collection, key] = partsOf(place);
      this.#renewOne(place, collection, key);
      const keys = byCollection.get(collection);
      if (keys === undefined) byCollection.set(collection, [key]);
      else keys.push(key);
    }
    for (const watch of this.#watching.watches.values()) {
      if (!watch.isShown) continue;
      const { selection, isLive } = watch;
      const found = byCollection.get(selection.collection) ?? [];
      const keys = new Set(found.filter((key) => selection.covers(key)));
      if (watch.wasLive === null) for (const key of this.keys(watch)) keys.add(key);
      else if (keys.size === 0 && watch.wasLive === isLive) continue;
      watch.wasLive = isLive;
      told.push([watch, keys]);
    }
    return told;
  }

  #renewOne(place: Place, collection: string, key: string): void {
    let values = this.#values.get(collection);
    if (values === undefined) {
      values = new Map();
      this.#values.set(collection, values);
    }
    const predicted = this.#predictions.overlay.get(place);
    const value = predicted === undefined ? this.confirmed(place).value : predicted.value;
    if (value === undefined) values.delete(key);
    else if (!isSame(values.get(key), value)) values.set(key, value);
  }

  /** Return the ids of the pending mutations that change an entry, oldest first; the same array until they change. */
  pendingOf(collection: string, key: string): readonly number[] {
    return this.#predictions.overlay.get(placeOf(collection, key))?.ids ?? NONE;
  }
}

const NONE: readonly number[] = [];
