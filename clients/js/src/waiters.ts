/** Who waits for which number. */
export class Waiters {
  readonly #waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();

  /** How many wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Return a promise for what `settle` is told of this number. */
  wait(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  /** Reject, or, without an error, fulfil the promise, if there is one. */
  settle(id: number, error: Error | null, value: unknown): void {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(error);
    else waiting?.resolve(value);
  }
}
