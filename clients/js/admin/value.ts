/** Values that parts of the page share, and the hooks that show them. */

import { useEffect, useState } from "preact/hooks";

/** Something that changes, and whoever wants to know. */
export class Value<T> {
  #held: T;
  readonly #listeners = new Set<() => void>();

  constructor(held: T) {
    this.#held = held;
  }

  get(): T {
    return this.#held;
  }

  /** Change it; listeners are told unless it is the same. */
  set(next: T): void {
    if (Object.is(next, this.#held)) return;
    this.#held = next;
    for (const listener of [...this.#listeners]) listener();
  }

  /** Be called behind every change; returns what ends that. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

/** Return what a value holds, and render again when it changes. */
export function useValue<T>(value: Value<T>): T {
  const [, render] = useState({});
  useEffect(() => value.subscribe(() => render({})), [value]);
  return value.get();
}

/** What was read last, why it could not be read since, and how to read it again now. */
export interface Polled<T> {
  readonly data: T | null;
  readonly error: string | null;
  readonly again: () => void;
}

/**
 * Read something now, and again so long after each answer, while the part that shows it is there and the page in view.
 *
 * What was read stays until something newer is there: nothing flickers.
 */
export function usePolled<T>(
  read: (signal: AbortSignal) => Promise<T>,
  everyMs: number,
  about: readonly unknown[],
): Polled<T> {
  const [state, setState] = useState<{ data: T | null; error: string | null }>({ data: null, error: null });
  const [turn, setTurn] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `read` is anew at every render; `about` says what it reads
  useEffect(() => {
    const ending = new AbortController();
    let timer = 0;
    const { signal } = ending;
    const look = async () => {
      const next = document.hidden ? null : await outcome(() => read(signal));
      if (signal.aborted) return;
      if (next !== null) setState((held) => ({ data: held.data, ...next }));
      timer = window.setTimeout(look, everyMs);
    };
    void look();
    return () => {
      ending.abort();
      clearTimeout(timer);
    };
  }, [...about, everyMs, turn]);
  return { ...state, again: () => setTurn((held) => held + 1) };
}

/** What was read, or why nothing was. */
async function outcome<T>(read: () => Promise<T>): Promise<{ data: T; error: null } | { error: string }> {
  try {
    return { data: await read(), error: null };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}
