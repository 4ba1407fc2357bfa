/** Listeners of the application. */

/** Listeners of one kind. */
export type Listeners<Told> = Set<{ readonly call: (told: Told) => void }>;

/** Add a listener; return the function that ends that. */
export function listen<Told>(listeners: Listeners<Told>, call: (told: Told) => void): () => void {
  const own = { call };
  listeners.add(own);
  return () => {
    listeners.delete(own);
  };
}

/** Call all that listened when it began and still do; what one throws is reported and does not stop the others. */
export function callAll<Told>(
  listeners: Listeners<Told>,
  told: Told,
  { outside }: { readonly outside: { reportError(error: unknown): void } },
): void {
  for (const listener of [...listeners]) {
    if (!listeners.has(listener)) continue;
    try {
      listener.call(told);
    } catch (error) {
      outside.reportError(error);
    }
  }
}
