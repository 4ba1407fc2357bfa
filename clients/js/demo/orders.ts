/**
 * What an order is, and what this page predicts of the mutators in `syncd/demo/board.py`.
 *
 * The rule about approval is left out here on purpose: the server alone knows it, so that shipping a dear order shows a
 * prediction that is taken back.
 */

import type { MutatorTx } from "../src/index.js";

/** One order as the server keeps it. */
export interface Order {
  readonly customer: string;
  readonly item: string;
  readonly quantity: number;
  /** Price of one. */
  readonly cents: number;
  readonly status: "new" | "shipped";
  readonly approved: boolean;
}

/** From here on an order needs approval; for the hint on its card. */
export const APPROVAL_CENTS = 100_000;

const CUSTOMERS = [
  "Sofia Kovalevskaya",
  "Claude Shannon",
  "Hedy Lamarr",
  "John Backus",
  "Annie Easley",
  "Niklaus Wirth",
];
const ITEMS: readonly (readonly [string, number])[] = [
  ["Drafting compass", 3_450],
  ["Magnetic tape", 890],
  ["Desk lamp", 7_900],
  ["Oscilloscope", 134_900],
  ["Punch cards, box", 1_990],
  ["Orrery", 58_000],
];

const euros = new Intl.NumberFormat("en-IE", { style: "currency", currency: "EUR" });

/** Write a sum of money. */
export function priceOf(cents: number): string {
  return euros.format(cents / 100);
}

/** Return the short name of an order. */
export function numberOf(key: string): string {
  return `#${key.slice(-4)}`;
}

/** Tell whether the server will want an approval. */
export function needsApproval(order: Order): boolean {
  return order.status === "new" && !order.approved && order.quantity * order.cents > APPROVAL_CENTS;
}

/** Return the arguments of `orders.create` for an order that somebody might have made; newer ids sort behind older ones. */
export function anyOrder(): { order_id: string; customer: string; item: string; cents: number } {
  const [item, cents] = anyOf(ITEMS);
  const random = String(Math.floor(Math.random() * 10_000)).padStart(4, "0");
  return { order_id: `o-${Date.now()}-${random}`, customer: anyOf(CUSTOMERS), item, cents };
}

/** Read an entry; null for what is no order, whoever wrote it. */
export function orderOf(value: unknown): Order | null {
  if (typeof value !== "object" || value === null) return null;
  const { customer, item, quantity, cents, status, approved } = value as Partial<
    Record<keyof Order, unknown>
  >;
  if (typeof customer !== "string" || typeof item !== "string") return null;
  if (typeof quantity !== "number" || typeof cents !== "number") return null;
  return {
    customer,
    item,
    quantity,
    cents,
    status: status === "shipped" ? "shipped" : "new",
    approved: approved === true,
  };
}

/** Say in a few words what an entry is now. */
export function describe(key: string, value: unknown): string {
  const order = orderOf(value);
  if (order === null) return `${numberOf(key)} deleted`;
  const state = order.status === "shipped" ? "shipped" : order.approved ? "approved" : "new";
  return `${numberOf(key)} ${state}: ${order.quantity} × ${order.item}, ${order.customer}`;
}

/** Say in a few words what a change is to do that the server has not decided. */
export function describeChange(name: string, args: unknown): string {
  const { order_id, key = order_id, item, by } = (args ?? {}) as Partial<Record<string, unknown>>;
  const number = numberOf(String(key));
  switch (name) {
    case "orders.create":
      return `New order ${number}: ${item}`;
    case "orders.approve":
      return `Approve ${number}`;
    case "orders.ship":
      return `Ship ${number}`;
    case "orders.incr":
      return `${Number(by) < 0 ? "One less" : "One more"} of ${number}`;
    case "orders.delete":
      return `Delete ${number}`;
    default:
      return `${name} ${number}`;
  }
}

function anyOf<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error("There is nothing to choose from.");
  return item;
}

/** What this page predicts; see the head of this file. */
export const PREDICTIONS = {
  orders: {
    create(tx: MutatorTx, { order_id, customer, item, cents }: ReturnType<typeof anyOrder>): void {
      tx.put(order_id, { customer, item, quantity: 1, cents, status: "new", approved: false });
    },
    approve(tx: MutatorTx, { order_id }: { order_id: string }): void {
      tx.patch(order_id, { approved: true });
    },
    ship(tx: MutatorTx, { order_id }: { order_id: string }): void {
      const order = orderOf(tx.get(order_id));
      if (order === null) tx.reject("unknown_order", "This order is gone.");
      if (order?.status === "shipped")
        tx.reject("already_shipped", "Somebody has shipped this order already.");
      tx.patch(order_id, { status: "shipped" });
    },
  },
};
