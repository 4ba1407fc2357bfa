/** The Web Lock that says that a page lives. Owns this page's lock, and asks for those of others. */

import type { LocksLike } from "./platform.js";

/** One request for the lock, which is granted at once unless another page takes over what this one has let go. */
interface Hold {
  readonly granted: Promise<boolean>;
  isOver: boolean;
  release: () => void;
}

/** Held from `hold` to `letGo`, or until the browser takes it away. */
export class OwnerLock {
  /** Name of this page among those of its database. */
  readonly owner: string;
  readonly #locks: LocksLike | null;
  readonly #prefix: string;
  readonly #lost: () => void;
  #hold: Hold | null = null;

  /**
   * @param prefix Name of the database: pages of another one never meet.
   * @param owner A name that no other page has.
   * @param lost Called when the browser has taken the lock away, as WebKit does with pages that are left.
   */
  constructor(locks: LocksLike | null, prefix: string, owner: string, lost: () => void) {
    this.#locks = locks;
    this.#prefix = prefix;
    this.#lost = lost;
    this.owner = owner;
  }

  /** Hold the lock; return whether it is held. */
  hold(): Promise<boolean> {
    if (this.#locks === null) return Promise.resolve(false);
    this.#hold ??= this.#take(this.#locks);
    return this.#hold.granted;
  }

  #take(locks: LocksLike): Hold {
    let grant: (isHeld: boolean) => void = () => undefined;
    const granted = new Promise<boolean>((resolve) => {
      grant = resolve;
    });
    const hold: Hold = { granted, isOver: false, release: () => undefined };
    const whileHeld = (): Promise<void> => {
      grant(true);
      if (hold.isOver) return Promise.resolve();
      return new Promise((release) => {
        hold.release = release;
      });
    };
    locks.request(this.#nameOf(this.owner), {}, whileHeld).catch(() => {
      grant(false);
      if (this.#hold !== hold) return;
      this.#hold = null;
      this.#lost();
    });
    return hold;
  }

  /** Let others take over what this page owned. */
  letGo(): void {
    const hold = this.#hold;
    this.#hold = null;
    if (hold === null) return;
    hold.isOver = true;
    hold.release();
  }

  /** Do this under the lock of another page, unless that page lives; return whether it was done. */
  async whileFree(owner: string, act: () => Promise<void>): Promise<boolean> {
    let isFree = false;
    const whileHeld = async (lock: unknown): Promise<void> => {
      isFree = lock !== null;
      if (isFree) await act();
    };
    // A page that was left gets no locks: whoever comes after it does.
    await this.#locks?.request(this.#nameOf(owner), { ifAvailable: true }, whileHeld).catch(() => undefined);
    return isFree;
  }

  #nameOf(owner: string): string {
    return `${this.#prefix} ${owner}`;
  }
}
