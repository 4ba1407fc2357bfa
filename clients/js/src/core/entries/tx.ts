/**
 * What a mutator is given at the client: the same words as at the server, over what this client knows. Pure.
 *
 * A local run is a prediction. It may read entries that this client does not know; `hasGuessed` says so.
 */

import type { Body } from "../../wire/decode.js";
import { isMap } from "../../wire/frames.js";
import { MutationFailed } from "../errors.js";
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
  const known = changed.get(collection);
  if (known === undefined) changed.set(collection, keys);
  else for (const key of keys) known.add(key);
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
    return copied(this.#run.current(this.#run.place(key, options)) ?? null);
  }

  /** Return an entry's version, 0 if there is none, or null if a pending mutation changes it. */
  version(key: string, options?: Elsewhere): number | null {
    return this.#run.version(this.#run.place(key, options));
  }

  /** Set an entry. */
  put(key: string, value: unknown, options?: Elsewhere): void {
    this.#run.write(this.#run.place(key, options), asSent(value));
  }

  /** Merge `changes` into an entry (RFC 7386); without an entry, into an empty map. */
  patch(key: string, changes: object, options?: Elsewhere): void {
    const place = this.#run.place(key, options);
    this.#run.write(place, applyPatch(this.#run.current(place), asSent(changes)));
  }

  /** Remove an entry; return whether there was one. */
  delete(key: string, options?: Elsewhere): boolean {
    const place = this.#run.place(key, options);
    const wasThere = this.#run.current(place) !== undefined;
    this.#run.write(place, undefined);
    return wasThere;
  }

  /** Add to the number that an entry is, or to one field of it, and return the sum. What is not there counts as 0. */
  incr(key: string, by = 1, options?: Elsewhere & { readonly field?: string | null | undefined }): number {
    const place = this.#run.place(key, options);
    const field = options?.field ?? null;
    const entry = this.#run.current(place) ?? null;
    if (field !== null && entry !== null && !isMap(entry)) this.reject("not_a_number");
    const number = (field === null ? entry : ((entry ?? {}) as Body)[field]) ?? 0;
    if (typeof number !== "number") this.reject("not_a_number");
    const total = number + by;
    if (!Number.isFinite(total)) this.reject("out_of_range");
    this.#run.write(place, field === null ? total : applyPatch(entry, asSent({ [field]: total })));
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

/** What one run reads and writes. */
export class Run {
  /** What it changed; undefined: deleted. */
  readonly writes = new Map<Place, unknown>();
  /** What it read or changed. */
  readonly touched = new Set<Place>();
  /** It read an entry of which this client does not know whether it is there. */
  hasGuessed = false;
  readonly #collection: string;
  readonly #read: Reader;

  /**
   * @param collection The mutator's; empty for none.
   * @param read Looks up what is below.
   */
  constructor(collection: string, read: Reader) {
    this.#collection = collection;
    this.#read = read;
  }

  place(key: string, options: Elsewhere | undefined): Place {
    const name = options?.collection || this.#collection;
    if (!name) throw new Error("This mutator belongs to no collection: name one.");
    return placeOf(name, key);
  }

  current(place: Place): unknown {
    this.touched.add(place);
    if (this.writes.has(place)) return this.writes.get(place);
    const { value, isKnown } = this.#read(place);
    this.hasGuessed ||= !isKnown;
    return value;
  }

  version(place: Place): number | null {
    const value = this.current(place);
    if (!this.writes.has(place)) return this.#read(place).version;
    return value === undefined ? 0 : null;
  }

  write(place: Place, value: unknown): void {
    this.touched.add(place);
    this.writes.set(place, value);
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

type BuiltIn = Mutator<BuiltInArgs>;

/** The server's built-in mutators by the part of the name behind the collection, and the order of their arguments. */
const BUILT_IN: Readonly<Record<string, readonly [run: BuiltIn, names: readonly string[]]>> = {
  put: [(tx, { key, value }) => tx.put(key, value), ["value"]],
  patch: [(tx, { key, patch }) => tx.patch(key, patch ?? {}), ["patch"]],
  delete: [(tx, { key }) => void tx.delete(key), []],
  incr: [(tx, { key, by, field }) => tx.incr(key, by, { field }), ["by", "field"]],
};

/** Return the mutator that is built in under this name, if any. */
export function builtIn(name: string): Mutator<unknown> | null {
  const at = name.lastIndexOf(".");
  const word = name.slice(at + 1);
  const [run, names] = (at > 0 && Object.hasOwn(BUILT_IN, word) && BUILT_IN[word]) || [];
  if (run === undefined) return null;
  return (tx, given) => {
    const order = ["key", ...(names ?? []), "if_version"];
    const args = (
      Array.isArray(given) ? Object.fromEntries(given.map((arg, place) => [order[place], arg])) : given
    ) as BuiltInArgs;
    const wanted = args.if_version ?? null;
    if (wanted !== null && tx.version(args.key) !== wanted) tx.reject("version_mismatch");
    return run(tx, args);
  };
}
