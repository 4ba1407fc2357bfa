/** Small texts that all tabs of this browser have in common, in localStorage. */

/** One of them. Storage may be forbidden: then it lasts as long as the page. */
export class Kept {
  readonly #key: string;
  readonly #listeners: (() => void)[] = [];
  #value: string | null;

  constructor(key: string) {
    this.#key = key;
    this.#value = read(key);
    addEventListener("storage", (event) => {
      if (event.key === null || event.key === key) this.#look();
    });
    // To a page in the back/forward cache nothing is told.
    addEventListener("pageshow", ({ persisted }) => {
      if (persisted) this.#look();
    });
  }

  /** Null: none was ever set. */
  get value(): string | null {
    return this.#value;
  }

  /** Set it in all tabs. */
  set(value: string): void {
    this.#value = value;
    try {
      localStorage.setItem(this.#key, value);
    } catch {
      // See above.
    }
    this.#tell();
  }

  /** Be called whenever it is another, whichever tab set it. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  #look(): void {
    const value = read(this.#key);
    if (value === this.#value) return;
    this.#value = value;
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function read(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
