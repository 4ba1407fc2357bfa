/** What a pane shows in place of cards: why there are none, and what waits in this browser meanwhile. */

import type { ConnectionState } from "../src/index.js";
import type { DurableQueue } from "../src/storage/index.js";
import { h, setText } from "./dom.js";
import { describeChange } from "./orders.js";

/** Said instead of orders; hidden while there are some. */
export class EmptyBoard {
  readonly element: HTMLElement;
  readonly #queue: DurableQueue;
  readonly #why = h("p");
  readonly #waiting = h("ol", { "aria-label": "Pending changes" });
  /** Answers to what was asked before count no more. */
  #turn = 0;

  constructor(queue: DurableQueue) {
    this.#queue = queue;
    this.element = h("div", { class: "empty", hidden: true }, this.#why, this.#waiting);
  }

  /** @param why What to say; null: there are orders. */
  show(why: keyof typeof TEXTS | null, numPending: number): void {
    this.#turn += 1;
    this.element.hidden = why === null;
    if (why === null) return;
    setText(this.#why, TEXTS[why]);
    if (numPending === 0) this.#waiting.replaceChildren();
    else void this.#showWaiting(this.#turn);
  }

  /** Of all pages of this pane: a page that was reloaded has nothing to show them over. */
  async #showWaiting(turn: number): Promise<void> {
    const kept = await this.#queue.exported();
    if (turn !== this.#turn) return;
    this.#waiting.replaceChildren(
      ...kept.map(({ name, args }) =>
        h("li", {}, h("span", { class: "pending" }, "pending"), describeChange(name, args)),
      ),
    );
  }
}

const TEXTS: Record<ConnectionState | "none", string> = {
  none: "There are no orders. “New order” makes one.",
  idle: "Loading orders …",
  connecting: "Loading orders …",
  connected: "Loading orders …",
  offline: "The orders come with the connection.",
  "needs-auth": "The server wants a token to show orders.",
  failed: "The server refuses this page: there are no orders to show.",
  closed: "The connection has ended.",
};
