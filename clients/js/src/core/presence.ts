/** Who is present in one channel, rebuilt from `presence_state` and `presence_diff`. Pure. */

import type { Member } from "../wire/frames.js";

/** Members in order of arrival; a diff applies only on the `seq` just before its own. */
export class PresenceSet {
  #members = new Map<string, Member>();
  #seq: number | null = null;

  /** All members, in order of arrival. */
  get members(): readonly Member[] {
    return [...this.#members.values()];
  }

  /** Take a whole state. */
  replace(seq: number, members: readonly Member[]): void {
    this.#seq = seq;
    this.#members = new Map(members.map((member) => [member.member, member]));
  }

  /** Expect a new state; until it comes diffs mean nothing. The members stay, as the last that was known. */
  forget(): void {
    this.#seq = null;
  }

  /**
   * Apply a diff and return whether members changed.
   *
   * An old diff changes nothing. One that skips means that a state follows: until then diffs mean nothing.
   */
  apply(seq: number, changed: readonly Member[], leaves: readonly string[]): boolean {
    if (this.#seq === null || seq <= this.#seq) return false;
    if (seq !== this.#seq + 1) {
      this.forget();
      return false;
    }
    this.#seq = seq;
    for (const member of leaves) this.#members.delete(member);
    for (const member of changed) this.#members.set(member.member, member);
    return true;
  }
}
