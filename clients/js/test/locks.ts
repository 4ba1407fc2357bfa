/** Web Locks in one process, with pages that die, and whatever else takes locks away. */

import type { AbortSignalLike, LocksLike } from "../src/storage/platform.ts";

interface Request {
  readonly page: FakePageLocks;
  readonly name: string;
  readonly ifAvailable: boolean;
  readonly hold: (lock: unknown) => Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The lock manager that all pages of one origin share. */
export class FakeLocks {
  readonly #held = new Map<string, Request>();
  #queue: Request[] = [];

  /** One page's `navigator.locks`. */
  page(): FakePageLocks {
    return new FakePageLocks(this);
  }

  /** Names of the locks that are held. */
  get held(): string[] {
    return [...this.#held.keys()];
  }

  /** Names of the locks that a page holds or waits for. */
  of(page: FakePageLocks): string[] {
    const requests = [...this.#held.values(), ...this.#queue];
    return requests.filter((request) => request.page === page).map(({ name }) => name);
  }

  add(request: Request, isStealing: boolean): void {
    if (isStealing) this.#takeAway(request.name)();
    const isFree = !this.#held.has(request.name) && !this.#queue.some(({ name }) => name === request.name);
    if (isStealing || isFree) this.#grant(request);
    else if (request.ifAvailable) {
      void Promise.resolve(request.hold(null)).then(request.resolve, request.reject);
    } else this.#queue.push(request);
  }

  /** Take a lock away from whoever holds it; return what tells the holder, who may be frozen until then. */
  takeAway(name: string): () => void {
    const tell = this.#takeAway(name);
    this.#next(name);
    return tell;
  }

  #takeAway(name: string): () => void {
    const holder = this.#held.get(name);
    this.#held.delete(name);
    return () => holder?.page.told(() => holder.reject(new Error("AbortError")));
  }

  /** Forget everything a page holds and waits for, without telling it. */
  forget(page: FakePageLocks): void {
    this.#queue = this.#queue.filter((request) => request.page !== page);
    for (const [name, request] of [...this.#held]) {
      if (request.page !== page) continue;
      this.#held.delete(name);
      this.#next(name);
    }
  }

  withdraw(request: Request): void {
    this.#queue = this.#queue.filter((other) => other !== request);
  }

  #grant(request: Request): void {
    const { name } = request;
    this.#held.set(name, request);
    void (async () => {
      await Promise.resolve();
      await new Promise<void>((resolve) => request.page.told(resolve));
      await request.hold({ name });
    })().then(
      () => this.#over(request, request.resolve),
      (error: Error) => this.#over(request, () => request.reject(error)),
    );
  }

  #over(request: Request, settle: () => void): void {
    if (this.#held.get(request.name) === request) {
      this.#held.delete(request.name);
      this.#next(request.name);
    }
    settle();
  }

  #next(name: string): void {
    const next = this.#queue.find((request) => request.name === name);
    if (next === undefined || this.#held.has(name)) return;
    this.withdraw(next);
    this.#grant(next);
  }
}

/** `navigator.locks` of one page. */
export class FakePageLocks implements LocksLike {
  readonly #all: FakeLocks;
  isDead = false;
  /** How its requests come to the manager: at once, or as a test says. */
  arrive: (run: () => void) => void = (run) => run();
  /** What a frozen page is told once it goes on. */
  #late: (() => void)[] | null = null;

  constructor(all: FakeLocks) {
    this.#all = all;
  }

  request(
    name: string,
    options: { ifAvailable?: boolean; steal?: boolean; signal?: AbortSignalLike },
    hold: (lock: unknown) => Promise<void>,
  ): Promise<unknown> {
    return new Promise<void>((resolve, reject) => {
      if (this.isDead) return;
      const ifAvailable = options.ifAvailable ?? false;
      const request = { page: this, name, ifAvailable, hold, resolve, reject };
      options.signal?.addEventListener("abort", () => {
        this.#all.withdraw(request);
        reject(new Error("AbortError"));
      });
      this.arrive(() => this.#all.add(request, options.steal ?? false));
    });
  }

  /** Run this when the page runs. */
  told(run: () => void): void {
    if (this.#late === null) run();
    else this.#late.push(run);
  }

  /** The page keeps what it holds, and runs no more. */
  freeze(): void {
    this.#late ??= [];
  }

  /** The page goes on. */
  thaw(): void {
    const late = this.#late ?? [];
    this.#late = null;
    for (const run of late) run();
  }

  /** The page ends: its locks are free, its code runs no more. */
  kill(): void {
    this.isDead = true;
    this.#all.forget(this);
  }
}
