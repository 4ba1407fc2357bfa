/**
 * What the watches show: predictions over confirmed entries, kept so that what did not change keeps its identity. Pure.
 *
 * Owned by `StateRoom`. Invariant: after `renew`, `#values` holds every entry that is there, as predicted, and nothing else.
 */

import { found } from "../maps.js";
import type { ViewChange } from "./facts.js";
import type { Predicted, Predictions } from "./pending.js";
import { type Changed, type Place, partsOf, placeOf, type Reading } from "./tx.js";
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
  #channels(collection: string, key: string): WatchedChannel[] {
    const slash = key.indexOf("/");
    const part = slash < 0 ? undefined : this.#watching.channels.get(`${collection}/${key.slice(0, slash)}`);
    const whole = this.#watching.channels.get(collection);
    return [part, whole].filter((channel) => channel?.collection === collection) as WatchedChannel[];
  }

  /** Return an entry's confirmed value, its version, and whether that is known. */
  confirmed(collection: string, key: string): Reading {
    let isKnown = false;
    for (const { shown, watches } of this.#channels(collection, key)) {
      const value = shown?.value(key);
      if (shown && value !== undefined) return { value, version: shown.version(key), isKnown: true };
      for (const watch of watches) isKnown ||= watch.isShown && watch.extent.covers(key);
    }
    return { value: undefined, version: 0, isKnown };
  }

  /** Return whether what is confirmed and shown of an entry holds what became of a mutation. */
  holds(place: Place, client: string, mid: number): boolean {
    const [collection, key] = partsOf(place);
    return this.#channels(collection, key).some(({ shown }) => shown?.holds(key, client, mid));
  }

  /** Return what is shown of an entry; undefined: nothing. */
  get(collection: string, key: string): unknown {
    return this.#values.get(collection)?.get(key);
  }

  /** Return the keys of everything a watch shows, in no order. */
  *keys({ isShown, extent }: Watch): Generator<string> {
    const values = this.#values.get(extent.collection);
    if (!isShown || !values) return;
    for (const key of extent.keys ?? values.keys()) {
      if (extent.covers(key) && values.has(key)) yield key;
    }
  }

  // ------------------------------------------------------------------------------- renewing

  /** Show what has changed; return, for each watch that shows something else now, the keys. */
  renew(changed: Changed): ViewChange[] {
    const told: ViewChange[] = [];
    for (const [collection, keys] of changed) {
      const values = found(this.#values, collection, () => new Map<string, unknown>());
      for (const key of keys) this.#renewOne(values, collection, key);
    }
    for (const watch of this.#watching.watches.values()) {
      if (!watch.isShown) continue;
      const { extent, isLive } = watch;
      let keys: ReadonlySet<string> = changed.get(extent.collection) ?? NO_KEYS;
      if (watch.wasLive === null) keys = new Set([...keys, ...this.keys(watch)]);
      if (extent.channel !== extent.collection) {
        keys = new Set([...keys].filter((key) => extent.covers(key)));
      }
      if (keys.size === 0 && watch.wasLive === isLive) continue;
      watch.wasLive = isLive;
      told.push([watch, keys]);
    }
    return told;
  }

  #renewOne(values: Map<string, unknown>, collection: string, key: string): void {
    const { value } = this.#predicted(collection, key) ?? this.confirmed(collection, key);
    if (value === undefined) values.delete(key);
    else if (!isSame(values.get(key), value)) values.set(key, value);
  }

  #predicted(collection: string, key: string): Predicted | undefined {
    const { overlay } = this.#predictions;
    return overlay.size === 0 ? undefined : overlay.get(placeOf(collection, key));
  }

  /** Return the ids of the pending mutations that change an entry, oldest first; the same array until they change. */
  pendingOf(collection: string, key: string): readonly number[] {
    return this.#predicted(collection, key)?.ids ?? NONE;
  }
}

const NONE: readonly number[] = [];
const NO_KEYS: ReadonlySet<string> = new Set();
