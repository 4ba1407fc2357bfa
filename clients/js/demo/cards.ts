/** The cards of a pane: one an order, kept and changed in place, so that focus and scrolling stay where they are. */

import { h, icon, setText } from "./dom.js";
import { needsApproval, numberOf, type Order, priceOf } from "./orders.js";

/** What somebody does to an order. */
export interface CardActions {
  ship(key: string): void;
  approve(key: string): void;
  change(key: string, by: number): void;
  remove(key: string): void;
}

/** One order to be shown. */
export interface Shown {
  readonly key: string;
  readonly order: Order;
  /** How many changes of it the server has not decided. */
  readonly numPending: number;
}

const FLASH_MS = 900;
/** Where more change at once a flash says nothing, and painting them all costs frames. */
const MAX_FLASHING = 6;

/** Shows orders as a list of cards. */
export class Cards {
  readonly list = h("ol", { class: "cards", "aria-label": "Orders" });
  readonly #actions: CardActions;
  readonly #cards = new Map<string, Card>();

  constructor(actions: CardActions) {
    this.#actions = actions;
  }

  /** Show exactly these, in this order. */
  show(orders: readonly Shown[]): void {
    const gone = new Map(this.#cards);
    let before: Element | null = this.list.firstElementChild;
    for (const shown of orders) {
      gone.delete(shown.key);
      const card = this.#cards.get(shown.key) ?? this.#make(shown.key);
      card.update(shown);
      if (card.element === before) before = before.nextElementSibling;
      else this.list.insertBefore(card.element, before);
    }
    for (const [key, card] of gone) {
      const hadFocus = card.element.contains(document.activeElement);
      card.element.remove();
      this.#cards.delete(key);
      if (hadFocus) this.list.querySelector("button")?.focus();
    }
  }

  /** Say on its card why a change was taken back; return false if there is no such card. */
  complain(key: string, text: string): boolean {
    const card = this.#cards.get(key);
    card?.complain(text);
    return card !== undefined;
  }

  #make(key: string): Card {
    const card = new Card(key, this.#actions);
    this.#cards.set(key, card);
    return card;
  }
}

class Card {
  readonly element: HTMLLIElement;
  readonly #customer = h("b", { class: "customer" });
  readonly #item = h("span", { class: "item" });
  readonly #status = h("span", { class: "chip" });
  readonly #pending = h("span", { class: "pending", hidden: true });
  readonly #quantity = h("output", { class: "quantity" });
  readonly #total = h("span", { class: "total" });
  readonly #ship: HTMLButtonElement;
  readonly #approve: HTMLButtonElement;
  readonly #fewer: HTMLButtonElement;
  readonly #more: HTMLButtonElement;
  readonly #problem = h("div", { class: "problem", role: "alert" });
  #last: Order | null = null;
  #isFlashing = false;

  constructor(key: string, actions: CardActions) {
    const number = numberOf(key);
    const button = (name: string, text: string, run: () => void, ...children: Node[]) =>
      h(
        "button",
        { type: "button", class: name, "aria-label": `${text} ${number}`, click: run },
        ...children,
      );
    this.#ship = button(
      "primary ship",
      "Ship",
      () => actions.ship(key),
      icon("truck"),
      h("span", {}, "Ship"),
    );
    this.#approve = button(
      "approve",
      "Approve",
      () => actions.approve(key),
      icon("check"),
      h("span", {}, "Approve"),
    );
    this.#fewer = button("square", "One less of", () => actions.change(key, -1), icon("minus"));
    this.#more = button("square", "One more of", () => actions.change(key, 1), icon("plus"));
    const remove = button("square plain", "Delete", () => actions.remove(key), icon("bin"));
    this.element = h(
      "li",
      { class: "card", "data-key": key },
      h("div", { class: "card-head" }, h("span", { class: "number" }, number), this.#customer, this.#status),
      h("div", { class: "card-what" }, this.#item, this.#pending, this.#total),
      h(
        "div",
        { class: "card-do" },
        h(
          "div",
          { class: "stepper", role: "group", "aria-label": `Quantity of ${number}` },
          this.#fewer,
          this.#quantity,
          this.#more,
        ),
        h("span", { class: "fill" }),
        remove,
        this.#approve,
        this.#ship,
      ),
      this.#problem,
    );
  }

  update({ order, numPending }: Shown): void {
    setText(this.#customer, order.customer);
    setText(this.#item, order.item);
    setText(this.#quantity, String(order.quantity));
    setText(this.#total, priceOf(order.quantity * order.cents));
    const isShipped = order.status === "shipped";
    const wantsApproval = needsApproval(order);
    const state = isShipped ? "shipped" : wantsApproval ? "waiting" : order.approved ? "approved" : "new";
    this.element.dataset["state"] = state;
    setText(this.#status, TEXTS[state]);
    this.#ship.hidden = isShipped;
    this.#approve.hidden = !wantsApproval;
    this.#fewer.disabled = isShipped || order.quantity <= 1;
    this.#more.disabled = isShipped;
    this.#pending.hidden = numPending === 0;
    setText(this.#pending, numPending === 0 ? "" : `${numPending} pending`);
    this.element.toggleAttribute("data-pending", numPending > 0);
    if (this.#last !== null && JSON.stringify(this.#last) !== JSON.stringify(order)) this.#flash();
    this.#last = order;
  }

  complain(text: string): void {
    const close = h(
      "button",
      {
        type: "button",
        class: "square plain",
        "aria-label": "Dismiss",
        click: () => this.#problem.replaceChildren(),
      },
      icon("close"),
    );
    this.#problem.replaceChildren(h("p", {}, h("b", {}, "Rolled back. "), text), close);
  }

  #flash(): void {
    if (this.#isFlashing || numFlashing >= MAX_FLASHING) return;
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const flash = this.element.animate([{ backgroundColor: "var(--flash)" }, {}], {
      duration: FLASH_MS,
      easing: "ease-out",
    });
    this.#isFlashing = true;
    numFlashing += 1;
    const ended = () => {
      this.#isFlashing = false;
      numFlashing -= 1;
    };
    flash.finished.then(ended, ended);
  }
}

/** Of all panes of the page. */
let numFlashing = 0;

const TEXTS = { new: "New", waiting: "Needs approval", approved: "Approved", shipped: "Shipped" } as const;
