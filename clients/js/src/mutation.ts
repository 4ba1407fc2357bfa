/** Mutations as an application makes and names them. */

import type { MutationOutcome } from "./core/entries/facts.js";
import type { Mutators } from "./core/entries/pending.js";
import type { Mutator, MutatorTx } from "./core/entries/tx.js";
import { MutationFailed } from "./core/errors.js";

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

/** Mutators by name; those of a collection may stand in an object under its name. Null: known not to be predicted. */
export interface MutatorMap {
  readonly [name: string]: Mutator | null | { readonly [name: string]: Mutator | null };
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

/** Return mutators by full name. */
export function flatten(given: MutatorMap): Mutators {
  const flat = new Map<string, Mutator<unknown> | null>();
  const add = (name: string, run: Mutator | null) => flat.set(name, run as Mutator<unknown> | null);
  for (const [name, one] of Object.entries(given)) {
    if (one === null || typeof one === "function") add(name, one);
    else for (const [word, run] of Object.entries(one)) add(`${name}.${word}`, run);
  }
  return flat;
}

/** Return a function that makes mutations, with the registered ones as its methods. */
export function mutateOf<Own extends MutatorMap>(
  own: Own,
  make: (name: string, args?: unknown) => Mutation,
): Mutate<Own> {
  const mutate = (name: string, args?: unknown) => make(name, args);
  for (const [name, one] of Object.entries(own)) {
    const call = (full: string) => (args?: unknown) => make(full, args);
    const isOne = one === null || typeof one === "function";
    const value = isOne
      ? call(name)
      : Object.fromEntries(Object.keys(one).map((word) => [word, call(`${name}.${word}`)]));
    // Defined, because a function has a `name` that cannot be set.
    Object.defineProperty(mutate, name, { value });
  }
  return mutate as Mutate<Own>;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** Who waits for which mutation. */
export class Waiters {
  readonly #waiting = new Map<number, Waiting>();

  /** Return a promise for an outcome; nobody has to handle its rejection. */
  wait(id: number): Promise<unknown> {
    const server = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
    server.catch(() => undefined);
    return server;
  }

  /** Take an outcome. */
  settle({ id, status, value, code, message }: MutationOutcome): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (status === "ok") waiting?.resolve(value);
    else waiting?.reject(new MutationFailed(status, code, message));
  }
}
