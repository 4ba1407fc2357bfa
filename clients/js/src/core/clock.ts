/** Whether the machine slept, or the page was frozen: told from clocks that went on without us. Pure. */

/** While a connection is kept, something happens at least this often. */
export const WATCH_MS = 15_000;

/** Compares how far two clocks went since it last looked. A monotonic clock may stand still in sleep, a wall clock does not. */
export class ClockWatch {
  #now: number | null = null;
  #wallNow = 0;

  /** Note the time on both clocks; return whether more than twice `WATCH_MS` passed unseen. */
  note(now: number, wallNow: number): boolean {
    const slept = this.#now !== null && Math.max(now - this.#now, wallNow - this.#wallNow) > 2 * WATCH_MS;
    this.#now = now;
    this.#wallNow = wallNow;
    return slept;
  }
}
