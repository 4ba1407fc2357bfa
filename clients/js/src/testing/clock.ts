/** A clock that stands still until it is told to go on. */

interface Timer {
  readonly dueAt: number;
  readonly run: () => void;
}

/** Both clocks and the timers of a fake environment. Time passes only in `advance`. */
export class FakeClock {
  /** Where the wall clock stood when the monotonic one stood at 0. */
  wallOffsetMs: number;
  #now = 0;
  #numMade = 0;
  readonly #timers = new Map<number, Timer>();

  /** @param wallNow Where the wall clock begins, ms since 1970. */
  constructor(wallNow = Date.UTC(2026, 0, 1)) {
    this.wallOffsetMs = wallNow;
  }

  /** The monotonic clock, ms. */
  now(): number {
    return this.#now;
  }

  /** The wall clock, ms since 1970. */
  wallNow(): number {
    return this.wallOffsetMs + this.#now;
  }

  /** Timers that wait: none are left behind by what has ended. */
  get numTimers(): number {
    return this.#timers.size;
  }

  /** Run this once, so many ms from now. */
  setTimeout(run: () => void, afterMs: number): number {
    this.#numMade += 1;
    this.#timers.set(this.#numMade, { dueAt: this.#now + Math.max(afterMs, 0), run });
    return this.#numMade;
  }

  /** Forget a timer. */
  clearTimeout(timer: unknown): void {
    this.#timers.delete(timer as number);
  }

  /** Let time pass: timers run when they are due, in order, and promises settle between them. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settlePromises();
    for (let timer = this.#takeDue(end); timer !== null; timer = this.#takeDue(end)) {
      this.#now = Math.max(timer.dueAt, this.#now);
      timer.run();
      await settlePromises();
    }
    this.#now = end;
  }

  /** Let the machine sleep: both clocks go on and no timer runs. What is due runs at the next `advance`, late. */
  sleep(ms: number): void {
    this.#now += ms;
  }

  #takeDue(end: number): Timer | null {
    let first: [number, Timer] | null = null;
    for (const entry of this.#timers) {
      if (entry[1].dueAt <= end && (first === null || entry[1].dueAt < first[1].dueAt)) first = entry;
    }
    if (first === null) return null;
    this.#timers.delete(first[0]);
    return first[1];
  }
}

/** Let everything that waits for promises go on: chains of a few steps, not timers. */
async function settlePromises(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}
