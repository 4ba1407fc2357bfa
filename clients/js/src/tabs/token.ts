/** The token of a hub's session: tabs come with theirs, and one of them is told to the server. Pure; owned by `Hub`. */

import type { TabId } from "./exchange.js";

/** One session has one token; a refusal concerns the tabs that came with it. */
export class SharedToken {
  /** What each tab came with; null: nothing. */
  readonly #ofTabs = new Map<TabId, string | null>();
  /** The last that any tab came with: the next session is for it. */
  #next: string | null = null;
  /** What the present session is for, as far as the server has said. */
  #told: string | null = null;
  #refused: string | null = null;

  /**
   * A tab comes with this.
   *
   * @param hasSession Others have a session, or are about to: they are not to suffer for what was refused before.
   * @returns False: it is refused.
   */
  offered(tab: TabId, token: string | null, hasSession: boolean): boolean {
    if (hasSession && token !== null && token === this.#refused) return false;
    this.#ofTabs.set(tab, token);
    this.#next = token ?? this.#next;
    return true;
  }

  /** The token for a hello. */
  tell(): string | null {
    this.#told = this.#next;
    return this.#told;
  }

  /** The server took a newer one in place of that. */
  accepted(token: string): void {
    this.#told = token;
  }

  /** The server refuses what it was told; return whom that concerns. Other tabs came with others, newer perhaps. */
  refuse(): (tab: TabId) => boolean {
    const token = this.#told;
    this.#refused = token;
    if (this.#next === token) this.#next = null;
    return (tab) => (this.#ofTabs.get(tab) ?? null) === token;
  }

  /** A tab is gone. */
  forgetTab(tab: TabId): void {
    this.#ofTabs.delete(tab);
  }
}
