/**
 * What a mutator is given at the client: the same words as at the server, over what this client knows. Pure.
 *
 * A local run is a prediction. It may read entries that this client does not know; `hasGuessed` says so.
 */

import { isMap, mapOf } from "../../wire/frames.js";
import { MutationFailed } from "../errors.js";
import { found } from "../maps.js";
import { applyPatch, asSent, copied } from "./values.js";

/** Collection and key in one string: keys have no control characters. */
export type Place = string;

/** Return the place of an entry. */
export function placeOf(collection: string, key: string): Place {
  return `${collection}\n${key}`;
}

/** Return the collection and key of a place. */
export function partsOf(place: Place): [collection: string, key: string] {
  const at = place.indexOf("\n");
  return [place.slice(0, at), place.slice(at + 1)];
}

/** Keys of entries by collection. */
export type Changed = Map<string, Set<string>>;

/** Add keys of one collection; the set is given away. */
export function addAll(changed: Changed, collection: string, keys: Set<string>): void {
  const known = found(changed, collection, () => keys);
  if (known !== keys) for (const key of keys) known.add(key);
}

/** What is known of an entry. */
export interface Reading {
  /** Undefined: there is none. */
  readonly value: unknown;
  /** 0 if there is none, null if a pending mutation changes it. */
  readonly version: number | null;
  /** Some watch covers it, or a pending mutation changes it. */
  readonly isKnown: boolean;
}

/** Return what is known of an entry that a pending mutation changes. */
export function changedTo(value: unknown): Reading {
  return { value, version: value === undefined ? 0 : null, isKnown: true };
}

/** Looks an entry up. */
export type Reader = (place: Place) => Reading;

/** Which collection is meant; the mutator's own if not given. */
export interface Elsewhere {
  readonly collection?: string | undefined;
}

/**
 * Predicts a mutation: a plain function that decides by nothing but `tx` and its arguments, because it runs again whenever
 * what it rests on has changed. What it returns is `local` of the mutation.
 */
export type Mutator<Args = never, Local = unknown> = (tx: MutatorTx, args: Args) => Local;

/** One run of one mutator. Methods act on the mutator's collection unless told otherwise. */
export class MutatorTx {
  /** `optimistic` at the first run, `rebase` at later ones: side effects belong to the first alone. */
  readonly reason: "optimistic" | "rebase";
  /** The server's wall clock as known when the mutation was made; the same at every run. */
  readonly nowMs: number;
  /** Null: the client does not know whom the server takes it for. */
  readonly identity = null;
  readonly #run: Run;

  /** Made by the client. */
  constructor(run: Run, reason: "optimistic" | "rebase", nowMs: number) {
    this.#run = run;
    this.reason = reason;
    this.nowMs = nowMs;
  }

  /** Return a copy of an entry's value as it is predicted; null where there is none, and where it is not watched. */
  // biome-ignore lint/suspicious/noExplicitAny: what an entry holds is known to the application alone
  get(key: string, options?: Elsewhere): any {
    return copied(this.#run.read(key, options).value ?? null);
  }

  /** Return an entry's version, 0 if there is none, or null if a pending mutation changes it. */
  version(key: string, options?: Elsewhere): number | null {
    return this.#run.read(key, options).version;
  }

  /** Set an entry. */
  put(key: string, value: unknown, options?: Elsewhere): void {
    this.#run.write(key, options, asSent(value));
  }

  /** Merge `changes` into an entry (RFC 7386); without an entry, into an empty map. */
  patch(key: string, changes: object, options?: Elsewhere): void {
    this.#run.write(key, options, applyPatch(this.#run.read(key, options).value, asSent(changes)));
  }

  /** Remove an entry; return whether there was one. */
  delete(key: string, options?: Elsewhere): boolean {
    const wasThere = this.#run.read(key, options).value !== undefined;
    this.#run.write(key, options, undefined);
    return wasThere;
  }

  /** Add to the number that an entry is, or to one field of it, and return the sum. What is not there counts as 0. */
  incr(key: string, by = 1, options?: Elsewhere & { readonly field?: string | null | undefined }): number {
    const field = options?.field ?? null;
    const entry = this.#run.read(key, options).value ?? null;
    const isHolder = field !== null && (entry === null || isMap(entry));
    const number = (isHolder ? mapOf(entry)[field] : entry) ?? 0;
    if (typeof number !== "number" || (field !== null && !isHolder)) this.reject("not_a_number");
    const total = number + by;
    if (!Number.isFinite(total)) this.reject("out_of_range");
    this.#run.write(key, options, isHolder ? applyPatch(entry, asSent({ [field]: total })) : total);
    return total;
  }

  /** Refuse the mutation. */
  reject(code: string, message = ""): never {
    throw new MutationFailed("rejected", code, message);
  }

  /** Do nothing: the server publishes when the mutation takes effect. */
  publish(_channel: string, _data: unknown, _options?: object): void {}

  /** Do nothing: the server knows the source. */
  invalidate(_what: object): void {}
}

/** What one run reads and writes, and what came of it. */
export class Run {
  /** What it changed; undefined: deleted. */
  readonly writes = new Map<Place, unknown>();
  /** What it read or changed. */
  readonly touched = new Set<Place>();
  /** It read an entry of which this client does not know whether it is there. */
  hasGuessed = false;
  /** What the mutator returned. */
  returned: unknown;
  failure: { readonly thrown: unknown } | null = null;
  readonly #collection: string;
  readonly #read: Reader;

  /**
   * @param name Full name of the mutator, whose collection it works on.
   * @param read Looks up what is below.
   */
  constructor(name: string, read: Reader) {
    this.#collection = name.slice(0, Math.max(name.lastIndexOf("."), 0));
    this.#read = read;
  }

  #place(key: string, options: Elsewhere | undefined): Place {
    const collection = options?.collection || this.#collection;
    if (!collection) throw new Error("Name the collection.");
    const place = placeOf(collection, key);
    this.touched.add(place);
    return place;
  }

  read(key: string, options: Elsewhere | undefined): Reading {
    const place = this.#place(key, options);
    const reading = this.writes.has(place) ? changedTo(this.writes.get(place)) : this.#read(place);
    this.hasGuessed ||= !reading.isKnown;
    return reading;
  }

  write(key: string, options: Elsewhere | undefined, value: unknown): void {
    this.writes.set(this.#place(key, options), value);
  }
}

/** Arguments of the built-in mutators. */
export interface BuiltInArgs {
  readonly key: string;
  readonly value?: unknown;
  readonly patch?: object;
  readonly by?: number;
  readonly field?: string | null;
  readonly if_version?: number | null;
}

type BuiltIn = readonly [run: Mutator<BuiltInArgs>, names: readonly string[]];

/** The server's built-in mutators by the part of the name behind the collection, and the order of their arguments. */
const BUILT_IN: ReadonlyMap<string, BuiltIn> = /* @__PURE__ */ new Map<string, BuiltIn>([
  ["put", [(tx, { key, value }) => tx.put(key, value), ["value"]]],
  ["patch", [(tx, { key, patch }) => tx.patch(key, patch ?? {}), ["patch"]]],
  ["delete", [(tx, { key }) => void tx.delete(key), []]],
  ["incr", [(tx, { key, by, field }) => tx.incr(key, by, { field }), ["by", "field"]]],
]);

/** Return the mutator that is built in under this name, if any. */
export function builtIn(name: string): Mutator<unknown> | null {
  const at = name.lastIndexOf(".");
  const found = at > 0 && BUILT_IN.get(name.slice(at + 1));
  if (!found) return null;
  const [run, names] = found;
  const order = ["key", ...names, "if_version"];
  return (tx, given) => {
    const args = (
      Array.isArray(given) ? Object.fromEntries(given.map((arg, place) => [order[place], arg])) : given
    ) as BuiltInArgs;
    const wanted = args.if_version ?? null;
    if (wanted !== null && tx.version(args.key) !== wanted) tx.reject("version_mismatch");
    return run(tx, args);
  };
}
