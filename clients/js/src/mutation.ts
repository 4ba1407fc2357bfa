/** Mutations as an application makes and names them. */

import type { Mutators } from "./core/entries/pending.js";
import type { Mutator, MutatorTx } from "./core/entries/tx.js";

/** A mutation that was made. */
export interface Mutation<Local = unknown> {
  /** Its number in this client, as `collection.pending(key)` names it. */
  readonly id: number;
  /** What the local mutator returned; undefined where there is none, or where it could not tell. */
  readonly local: Local | undefined;
  /**
   * Fulfilled with what the server's mutator returned (null for nothing), once what is shown has the confirmed effect.
   *
   * Rejected with `MutationFailed`: `rejected` and nothing changed, `unknown`, or `unsent`. Nobody has to wait for it.
   */
  readonly server: Promise<unknown>;
}

/** What a mutator may return: no promise, because what it wrote behind an `await` would be lost. */
export type LocalValue =
  | undefined
  | null
  | boolean
  | number
  | string
  | bigint
  | symbol
  // biome-ignore lint/suspicious/noConfusingVoidType: a mutator need not return anything
  | void
  | (object & { readonly then?: never });

type LocalMutator = Mutator<never, LocalValue> | null;

/** Mutators by name; those of a collection may stand in an object under its name. Null: known not to be predicted. */
export interface MutatorMap {
  readonly [name: string]: LocalMutator | { readonly [name: string]: LocalMutator };
}

type Call<Named> = Named extends (tx: MutatorTx) => infer Local
  ? () => Mutation<Local>
  : Named extends (tx: MutatorTx, args: infer Args) => infer Local
    ? (args: Args) => Mutation<Local>
    : (args?: unknown) => Mutation<undefined>;

/** Makes mutations: any by its full name, registered ones as methods. */
export type Mutate<Own> = ((name: string, args?: unknown) => Mutation) & {
  readonly [Name in keyof Own]: Own[Name] extends Mutator | null
    ? Call<Own[Name]>
    : { readonly [Word in keyof Own[Name]]: Call<Own[Name][Word]> };
};

/** Return mutators by full name, and give `make`, which makes mutations of any, a method for each: it is a `Mutate<Own>` then. */
export function prepared(own: MutatorMap, make: (name: string, args?: unknown) => Mutation): Mutators {
  const mutators = new Map<string, Mutator<unknown> | null>();
  const add = (full: string, run: Mutator | null) => {
    mutators.set(full, run as Mutator<unknown> | null);
    return (args?: unknown) => make(full, args);
  };
  for (const [name, one] of Object.entries(own)) {
    const value =
      one && typeof one === "object"
        ? Object.fromEntries(
            Object.entries(one).map(([word, run]) => [word, add(`${name}.${word}`, run)] as const),
          )
        : add(name, one);
    // Defined, because a function has a `name` that cannot be set.
    Object.defineProperty(make, name, { value });
  }
  return mutators;
}
