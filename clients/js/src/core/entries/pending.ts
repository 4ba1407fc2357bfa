/**
 * Mutations that are not settled, and what they make of the confirmed state. Pure.
 *
 * Owned by `StateRoom`. Invariant: `overlay` is the fold of the pending mutations, in the order they were made, over what is
 * confirmed and shown; nothing else writes it.
 */

import type { Position } from "../../wire/messages.js";
import { MutationFailed } from "../errors.js";
import type { MutationOutcome } from "./facts.js";
import {
  builtIn,
  type Changed,
  changedTo,
  type Mutator,
  MutatorTx,
  type Place,
  partsOf,
  type Reader,
  type Reading,
  Run,
} from "./tx.js";
import { copied, isSame } from "./values.js";

/** One mutation that is not settled. */
export class Pending {
  readonly id: number;
  /** Which client of the session made it. */
  readonly slot: number;
  readonly name: string;
  readonly args: unknown;
  readonly nowMs: number;
  mid = 0;
  /** Another tab made it, which numbers it under this client; null: it has none yet. Undefined: it is our own. */
  foreignClient: string | null | undefined;
  /** It was sent on some connection, perhaps of an earlier page: it may have been decided. */
  isSent = false;
  /** It is decided, and waits for `waits`. */
  outcome: MutationOutcome | null = null;
  /** By number, watches that are to tell its effect before its prediction goes, and how far they have to come. */
  waits: ReadonlyMap<number, Position> = new Map();
  /** What it is predicted to change; undefined: to delete. */
  writes: ReadonlyMap<Place, unknown> = new Map();
  /** What the prediction rests on. */
  touched: ReadonlySet<Place> = new Set();
  /** Of `touched`: where what is shown holds what became of it. It is not predicted there. */
  confirmed: ReadonlySet<Place> = new Set();
  /** What it read where that was not confirmed yet. It reads that for ever: what is there now has its own effect in it. */
  readonly found = new Map<Place, Reading>();

  constructor(id: number, slot: number, name: string, args: unknown, nowMs: number) {
    this.id = id;
    this.slot = slot;
    this.name = name;
    this.args = args;
    this.nowMs = nowMs;
  }
}

/** What pending mutations make of one entry. */
export interface Predicted extends Reading {
  /** The mutations that change it, oldest first. */
  readonly ids: readonly number[];
}

/** Mutators by full name; null: no prediction. */
export type Mutators = ReadonlyMap<string, Mutator<unknown> | null>;

/** Pending mutations in the order they were made, and the fold of them. */
export class Predictions {
  readonly pending = new Map<number, Pending>();
  overlay = new Map<Place, Predicted>();
  readonly #mutators: Mutators;
  readonly #confirmed: Reader;
  readonly #held: (pending: Pending) => ReadonlySet<Place>;
  readonly #report: (message: string) => void;

  /**
   * @param mutators By full name.
   * @param confirmed Looks up what is confirmed.
   * @param held Returns what of that holds what became of a mutation, of the entries that it touches.
   * @param report Told of mutators that fail when they are run again, of which nobody else would know.
   */
  constructor(
    mutators: Mutators,
    confirmed: Reader,
    held: (pending: Pending) => ReadonlySet<Place>,
    report: (message: string) => void,
  ) {
    this.#mutators = mutators;
    this.#confirmed = confirmed;
    this.#held = held;
    this.#report = report;
  }

  /**
   * Predict a new mutation over all others; return what its mutator returned.
   *
   * @throws MutationFailed an own mutator rejected it by what this client knows; or whatever it threw. Nothing was added.
   */
  add(pending: Pending): unknown {
    const { returned, failure, hasGuessed } = this.#run(pending, "optimistic");
    if (failure && this.#mutators.has(pending.name) && !hasGuessed) throw failure.thrown;
    this.pending.set(pending.id, pending);
    this.#lay(pending);
    return returned;
  }

  /** Return whether any prediction reads or changes one of these. */
  restsOn(changed: Changed): boolean {
    for (const { touched } of this.pending.values()) {
      for (const place of touched) {
        const [collection, key] = partsOf(place);
        if (changed.get(collection)?.has(key)) return true;
      }
    }
    return false;
  }

  /** Predict everything anew over what is confirmed now; return the places whose prediction is another one. */
  fold(): Set<Place> {
    const old = this.overlay;
    this.overlay = new Map();
    for (const pending of this.pending.values()) {
      this.#run(pending, "rebase");
      this.#lay(pending);
    }
    return differing(old, this.overlay);
  }

  /**
   * Run the mutator, if there is one. One that fails predicts nothing, unless what is shown holds some of its effect: then it
   * cannot have failed, and its last prediction stands.
   */
  #run(pending: Pending, reason: "optimistic" | "rebase"): Run {
    const { name, nowMs, args, found } = pending;
    const confirmed = this.#held(pending);
    const own = this.#mutators.get(name);
    const mutator = own === undefined ? builtIn(name) : own;
    const run = new Run(name, (place) => {
      const kept = confirmed.has(place) && found.get(place);
      const reading = kept || this.overlay.get(place) || this.#confirmed(place);
      found.set(place, reading);
      return reading;
    });
    try {
      run.returned = mutator?.(new MutatorTx(run, reason, nowMs), copied(args));
    } catch (thrown) {
      // Isolation: the application's code; the server decides what becomes of it.
      run.failure = { thrown };
      run.writes.clear();
      if (reason === "rebase" && !(thrown instanceof MutationFailed)) this.#report(`${name}: ${thrown}`);
    }
    if (!run.failure || confirmed.size === 0) {
      pending.writes = run.writes;
      pending.touched = run.touched;
    }
    pending.confirmed = this.#held(pending);
    return run;
  }

  #lay({ id, writes, confirmed }: Pending): void {
    for (const [place, value] of writes) {
      if (confirmed.has(place)) continue;
      const ids = (this.overlay.get(place)?.ids ?? []).concat(id);
      this.overlay.set(place, { ...changedTo(value), ids });
    }
  }
}

/** Return the places that differ, and keep what is the same, so that it keeps its identity. */
function differing(old: Map<Place, Predicted>, now: Map<Place, Predicted>): Set<Place> {
  const places = new Set(old.keys());
  for (const [place, predicted] of now) {
    places.add(place);
    const before = old.get(place);
    if (!before || !isSame(before.value, predicted.value)) continue;
    if (isSame(before.ids, predicted.ids)) {
      now.set(place, before);
      places.delete(place);
    } else now.set(place, { ...predicted, value: before.value });
  }
  return places;
}
