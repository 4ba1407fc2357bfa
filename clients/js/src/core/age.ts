/** How old events are when they have been applied, as a client tells its node in `pong` (SPEC 4.4). */
export class AppliedAge {
  #ageMs: number | null = null;
  #beganMs = 0;
  #wallMs = 0;

  /** A session has begun: what the server's clock says, and ours. */
  greeted(serverTimeMs: number, now: number): void {
    this.#ageMs = null;
    this.#beganMs = serverTimeMs;
    this.#wallMs = serverTimeMs - now;
  }

  /** An event of this time has been applied. One from before the session was not late, the client was away. */
  applied(atMs: unknown, now: number): void {
    if ((atMs as number) >= this.#beganMs) {
      this.#ageMs = Math.max(Math.round(this.#wallMs + now) - (atMs as number), 0);
    }
  }

  /** Return the body of a `pong`; a field that is null is not sent. */
  take(): { applied_age_ms: number | null } {
    const age = this.#ageMs;
    this.#ageMs = null;
    return { applied_age_ms: age };
  }
}
