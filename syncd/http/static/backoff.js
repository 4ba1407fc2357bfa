/** When to try again (protocol/SPEC.md, section 13): full jitter, doubling from half a second to twenty. */

const FIRST_MS = 500;
const LONGEST_MS = 20_000;

export class Backoff {
  attempt = 0;

  constructor(random) {
    this.random = random;
  }

  /** Return how long to wait before the next attempt, at least `leastMs`. */
  nextMs(leastMs = 0) {
    const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.attempt);
    this.attempt += 1;
    return Math.max(this.random() * ceiling, leastMs);
  }

  reset() {
    this.attempt = 0;
  }
}
