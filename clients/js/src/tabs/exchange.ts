/** What the rooms of a hub share: ways to the tabs and to the server, and requests that go through. Pure. */

import type { Body } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";

/** Name of a tab among those of its hub. */
export type TabId = string;

/** A request of a tab that was passed on. */
export interface Passed {
  readonly tab: TabId;
  /** What the tab calls it. */
  readonly id: number;
  readonly kind: string;
  readonly body: Body;
}

/** Speaks to the tabs and to the server. */
export class Exchange {
  readonly #up: (message: Encoded) => void;
  readonly #down: (tabs: readonly TabId[], message: Encoded) => void;
  readonly #passed = new Map<number, Passed>();
  #numMade = 0;

  constructor(up: (message: Encoded) => void, down: (tabs: readonly TabId[], message: Encoded) => void) {
    this.#up = up;
    this.#down = down;
  }

  /** Send to the server. */
  up(kind: string, body: object): void {
    this.#up(encodeMessage(kind, body));
  }

  /** Send to tabs; encoded once for all. What comes from the server may have more values than it takes. */
  down(tabs: readonly TabId[], kind: string, body: object): void {
    if (tabs.length > 0) this.#down(tabs, encodeMessage(kind, body, Number.POSITIVE_INFINITY));
  }

  /** Pass a request on under a number of our own, and return that. */
  pass(tab: TabId, kind: string, body: Body, sent: Body = body): number {
    const id = this.ask(kind, sent);
    this.#passed.set(id, { tab, id: body["id"] as number, kind, body });
    return id;
  }

  /** Make a request whose answer nobody waits for. */
  ask(kind: string, body: Body): number {
    this.#numMade += 1;
    this.up(kind, { ...body, id: this.#numMade });
    return this.#numMade;
  }

  /** The request with this number; undefined when nobody waits for it. */
  find(id: number): Passed | undefined {
    return this.#passed.get(id);
  }

  /** Nobody waits for it any more. */
  forget(id: number): void {
    this.#passed.delete(id);
  }

  /** Requests of this type without an answer. */
  ofKind(kind: string): Passed[] {
    return [...this.#passed.values()].filter((passed) => passed.kind === kind);
  }

  /** A tab is gone. */
  forgetTab(tab: TabId): void {
    for (const [id, passed] of this.#passed) if (passed.tab === tab) this.#passed.delete(id);
  }

  /** The connection is gone, and all answers with it. */
  forgetAll(): void {
    this.#passed.clear();
  }
}
