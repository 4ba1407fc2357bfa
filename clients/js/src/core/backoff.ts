/** How long to wait before trying again. Pure: randomness comes in, durations go out. */

/** 0.5 s to 20 s: a restarted node sees its clients spread over 20 s, a blip costs half a second. */
const FIRST_MS = 500;
const LONGEST_MS = 20_000;

/** A source of numbers in 0 (with it) to 1 (without it). */
export type Random = () => number;

/** Full jitter: the n-th wait is uniform in 0..min(longest, first * 2^n). */
export class Backoff {
  /** Waits drawn since the beginning, or since `reset`. */
  numAttempts = 0;
  readonly #random: Random;
  readonly #firstMs: number;

  constructor(random: Random, firstMs = FIRST_MS) {
    this.#random = random;
    this.#firstMs = firstMs;
  }

  /** Draw the next wait; `floorMs`, which the server asked for, is added and not subject to chance. */
  nextMs(floorMs = 0): number {
    const ceilingMs = Math.min(LONGEST_MS, this.#firstMs * 2 ** Math.min(this.numAttempts, 32));
    this.numAttempts += 1;
    return floorMs + this.#random() * ceilingMs;
  }

  /** Begin anew after things went well. */
  reset(): void {
    this.numAttempts = 0;
  }
}
