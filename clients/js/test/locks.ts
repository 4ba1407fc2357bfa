/** Web Locks in one process, with pages that die, and whatever else takes locks away. */

import type { LocksLike } from "../src/storage/platform.ts";

interface Request {
  readonly page: FakePageLocks;
  readonly name: string;
  readonly ifAvailable: boolean;
  readonly isShared: boolean;
  readonly hold: (lock: unknown) => Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The lock manager that all pages of one origin share. */
export class FakeLocks {
  #held: Request[] = [];
  #queue: Request[] = [];

  /** One page's `navigator.locks`. */
  page(): FakePageLocks {
    return new FakePageLocks(this);
  }

  /** Names of the locks that are held. */
  get held(): string[] {
    return [...new Set(this.#held.map(({ name }) => name))];
  }

  /** Names of the locks that a page holds or waits for. */
  of(page: FakePageLocks): string[] {
    const requests = [...this.#held, ...this.#queue];
    return requests.filter((request) => request.page === page).map(({ name }) => name);
  }

  add(request: Request, isStealing: boolean): void {
    if (isStealing) this.#takeAway(request.name)();
    const isFirst = !this.#queue.some(({ name }) => name === request.name);
    if (isStealing || (isFirst && this.#mayHold(request))) this.#grant(request);
    else if (request.ifAvailable) {
      void Promise.resolve(request.hold(null)).then(request.resolve, request.reject);
    } else this.#queue.push(request);
  }

  /** Nobody holds it, or everybody shares it. */
  #mayHold({ name, isShared }: Request): boolean {
    return !this.#held.some((one) => one.name === name && !(isShared && one.isShared));
  }

  /** Take a lock away from whoever holds it; return what tells the holder, who may be frozen until then. */
  takeAway(name: string): () => void {
    const tell = this.#takeAway(name);
    this.#next(name);
    return tell;
  }

  #takeAway(name: string): () => void {
    const holders = this.#held.filter((one) => one.name === name);
    this.#held = this.#held.filter((one) => one.name !== name);
    return () => {
      for (const { page, reject } of holders) page.told(() => reject(new Error("AbortError")));
    };
  }

  /** Forget everything a page holds and waits for, without telling it. */
  forget(page: FakePageLocks): void {
    this.#queue = this.#queue.filter((request) => request.page !== page);
    const left = this.#held.filter((request) => request.page === page);
    this.#held = this.#held.filter((request) => request.page !== page);
    for (const { name } of left) this.#next(name);
  }

  withdraw(request: Request): void {
    this.#queue = this.#queue.filter((other) => other !== request);
  }

  #grant(request: Request): void {
    const { name } = request;
    this.#held.push(request);
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
    if (this.#held.includes(request)) {
      this.#held = this.#held.filter((one) => one !== request);
      this.#next(request.name);
    }
    settle();
  }

  #next(name: string): void {
    for (;;) {
      const next = this.#queue.find((request) => request.name === name);
      if (next === undefined || !this.#mayHold(next)) return;
      this.withdraw(next);
      this.#grant(next);
    }
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
    options: Parameters<LocksLike["request"]>[1],
    hold: (lock: unknown) => Promise<void>,
  ): Promise<unknown> {
    return new Promise<void>((resolve, reject) => {
      if (this.isDead) return;
      const ifAvailable = options.ifAvailable ?? false;
      const isShared = options.mode === "shared";
      const request = { page: this, name, ifAvailable, isShared, hold, resolve, reject };
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
