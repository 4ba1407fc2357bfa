/** When to try again. Pure: randomness and times come in, times go out. */

/** 0.5 s to 20 s: a restarted node sees its clients spread over 20 s, a blip costs half a second. */
const FIRST_MS = 500;
const LONGEST_MS = 20_000;
/** What the server suggests itself when it has too much to do. */
export const FIRST_RETRY_MS = 250;
/** Gaps further apart are repaired at once; closer ones wait, so that a broken server is not hammered. */
const CALM_MS = 5_000;

/** No time at all. */
export const NEVER = Number.POSITIVE_INFINITY;

/** A source of numbers in 0 (with it) to 1 (without it). */
export type Random = () => number;

/** Full jitter: the n-th wait is uniform in 0..min(longest, first * 2^n). */
export class Backoff {
  /** Waits drawn since the beginning, or since `reset`. */
  numAttempts = 0;
  /** When what was put off is due; infinity: nothing is. */
  dueAt = NEVER;
  #gapAt = -NEVER;
  readonly #random: Random;
  readonly #firstMs: number;

  constructor(random: Random, firstMs = FIRST_MS) {
    this.#random = random;
    this.#firstMs = firstMs;
  }

  /** Draw the next wait; `floorMs`, which the server asked for, is added and not subject to chance. */
  nextMs(floorMs: number | null = 0): number {
    const ceilingMs = Math.min(LONGEST_MS, this.#firstMs * 2 ** this.numAttempts);
    this.numAttempts += 1;
    return (floorMs ?? 0) + this.#random() * ceilingMs;
  }

  /** Begin anew after things went well. */
  reset(): void {
    this.numAttempts = 0;
  }

  /** Put something off by the next wait. */
  postpone(now: number, floorMs?: number | null): void {
    this.dueAt = now + this.nextMs(floorMs);
  }

  /** Something is missing: it is asked for at once, or put off if something was missing just now. */
  foundGap(now: number): void {
    if (now - this.#gapAt >= CALM_MS) this.reset();
    else this.postpone(now);
    this.#gapAt = now;
  }

  /** Whether something is put off. */
  get isWaiting(): boolean {
    return this.dueAt < NEVER;
  }

  /** Return whether what was put off is due; it is put off no longer then. */
  takeDue(now: number): boolean {
    const isDue = this.dueAt <= now;
    if (isDue) this.dueAt = NEVER;
    return isDue;
  }
}

/** When the first of these is due; infinity for never. */
export function earliest(waiting: Iterable<{ readonly backoff: Backoff }>): number {
  let at = NEVER;
  for (const { backoff } of waiting) at = Math.min(at, backoff.dueAt);
  return at;
}
