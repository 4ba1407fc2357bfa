/**
 * Which tab leads, and whether it still does.
 *
 * A tab leads while it holds the Web Lock of its group; all others wait for it in one queue, so a tab that ends or crashes is
 * followed at once. One that is frozen keeps its lock and answers nobody: who has asked it twice in vain takes the lock away.
 * Each leader has a higher term than any before; what is said under a lower one counts no more, here and at the server.
 *
 * Invariant: a tab that took a lock away does not do so again before it has heard another leader.
 */

import type { Environment } from "../shell/environment.js";
import type { AbortSignalLike, LocksLike } from "../storage/platform.js";

/** The leader is asked so often whether it is there. An answer needs no timer there, so hidden tabs answer in time, too. */
export const BEAT_MS = 1_500;
/** Unanswered questions in a row that prove it frozen: with the beat, 4.5 s after it fell silent at the latest. */
const MAX_UNANSWERED = 2;

/** Keeps small values for all tabs: `localStorage`. */
export interface KeptLike {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
}

/** What an election tells and asks. */
export interface Voter {
  /** This tab leads from now on. */
  elected(term: number): void;
  /** This tab leads no more. */
  deposed(): void;
  /** Ask the leader whether it is there; its answer goes to `heard`. */
  ask(): void;
  /** This tab's own lock is held: from now on others can tell that it lives, and it may speak. */
  joined(): void;
}

interface AbortControllerLike {
  readonly signal: AbortSignalLike;
  abort(): void;
}

/** One tab's part in the election of its group, from `join` to `leave`. */
export class Election {
  /** The highest term heard of. */
  term = 0;
  isLeader = false;
  /** A leader was heard since this tab joined, led or stepped back. */
  isHeard = false;
  /** This tab holds its own lock. */
  hasJoined = false;
  readonly #environment: Environment;
  readonly #locks: LocksLike;
  readonly #kept: KeptLike | null;
  readonly #name: string;
  readonly #voter: Voter;
  #abort: AbortControllerLike | null = null;
  /** Ends the lead. */
  #resign: (() => void) | null = null;
  /** The last request for the lock: others of this tab count no more. */
  #request = 0;
  #timer: unknown = null;
  #numUnanswered = 0;
  #maySteal = true;

  constructor(environment: Environment, locks: LocksLike, kept: KeptLike | null, name: string, voter: Voter) {
    this.#environment = environment;
    this.#locks = locks;
    this.#kept = kept;
    this.#name = name;
    this.#voter = voter;
  }

  /** Whether this tab takes part. */
  get isIn(): boolean {
    return this.#abort !== null;
  }

  /**
   * Take part; the tab's own lock tells the leader that it lives.
   *
   * Nothing is said or stood for before that is held: whoever heard of this tab first would find the lock free, and the tab dead.
   */
  join(tab: string): void {
    if (this.#abort !== null) return;
    this.#abort = new (
      globalThis as unknown as { AbortController: new () => AbortControllerLike }
    ).AbortController();
    const { signal } = this.#abort;
    const untilLeft = (): Promise<void> => {
      if (signal.aborted) return Promise.resolve();
      this.hasJoined = true;
      this.#stand(false);
      this.#beat();
      this.#voter.joined();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    };
    this.#locks.request(this.#lockOf(tab), { signal }, untilLeft).catch(() => undefined);
  }

  /** Take part no more. */
  leave(): void {
    this.#environment.clearTimeout(this.#timer);
    this.#request += 1;
    this.#depose();
    this.#abort?.abort();
    this.#abort = null;
    this.hasJoined = false;
  }

  /** A leader of this term spoke, which is none below `term`. */
  heard(term: number): void {
    this.#numUnanswered = 0;
    this.#maySteal = true;
    if (term > this.term && this.isLeader) this.stepBack();
    this.term = term;
    this.isHeard = true;
  }

  /** Stop leading, and stand again behind all others. */
  stepBack(): void {
    this.#depose();
    if (this.isIn) this.#stand(false);
  }

  #depose(): void {
    const wasLeader = this.isLeader;
    this.isLeader = false;
    this.isHeard = false;
    this.#resign?.();
    this.#resign = null;
    if (wasLeader) this.#voter.deposed();
  }

  /** Call `ended` when another tab takes part no more, or is dead. */
  onEnd(tab: string, ended: () => void): void {
    const signal = this.#abort?.signal;
    if (signal === undefined) return;
    const whenFree = async (): Promise<void> => ended();
    // Shared: a frozen tab that is granted it too must not keep it from those that run.
    this.#locks.request(this.#lockOf(tab), { mode: "shared", signal }, whenFree).catch(() => undefined);
  }

  #lockOf(tab: string): string {
    return `${this.#name} tab ${tab}`;
  }

  // ------------------------------------------------------------------------------- the lock

  #stand(isStealing: boolean): void {
    this.#request += 1;
    const request = this.#request;
    const signal = this.#abort?.signal;
    const options = isStealing || signal === undefined ? { steal: isStealing } : { signal };
    const lead = (): Promise<void> => {
      if (request !== this.#request) return Promise.resolve();
      return new Promise((resolve) => this.#lead(resolve));
    };
    this.#locks.request(`${this.#name} lead`, options, lead).catch(() => {
      // Another tab took it away, or the browser, as it does with pages that are left.
      if (request === this.#request && this.isIn) this.stepBack();
    });
  }

  #lead(resign: () => void): void {
    this.#resign = resign;
    this.isLeader = true;
    this.#numUnanswered = 0;
    this.term = this.#nextTerm();
    this.#voter.elected(this.term);
  }

  /** Higher than any before: by the clock, should nothing be kept, and by what is kept, should the clock go back. */
  #nextTerm(): number {
    const key = `${this.#name} term`;
    let kept = 0;
    try {
      kept = Number(this.#kept?.getItem(key) ?? 0) || 0;
    } catch {
      // Storage may be forbidden; the clock is left.
    }
    const term = Math.max(Math.floor(this.#environment.wallNow()), kept + 1, this.term + 1);
    try {
      this.#kept?.setItem(key, String(term));
    } catch {
      // Or full.
    }
    return term;
  }

  // ------------------------------------------------------------------------------- whether the leader lives

  /** Ask now whether the leader is there: this page was just looked at. */
  doubt(): void {
    if (this.isIn && !this.isLeader) this.#voter.ask();
  }

  #beat(): void {
    this.#timer = this.#environment.setTimeout(() => {
      if (!this.isIn) return;
      if (!this.isLeader) this.#check();
      this.#beat();
    }, BEAT_MS);
  }

  #check(): void {
    if (this.#numUnanswered >= MAX_UNANSWERED && this.#maySteal) {
      this.#maySteal = false;
      this.#stand(true);
      return;
    }
    this.#numUnanswered += 1;
    this.#voter.ask();
  }
}
