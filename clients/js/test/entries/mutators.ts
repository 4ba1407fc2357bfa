/** The mutators that traces use; protocol/vectors/traces/README.md says what they do. */

import type { Mutator, MutatorTx } from "../../src/core/entries/tx.ts";

type Args = Record<string, never>;

function ship(tx: MutatorTx, { order_id, carrier }: Args): void {
  const order = tx.get(order_id ?? "");
  if (order === null) tx.reject("unknown_order", "There is no such order.");
  if (order.status === "shipped") tx.reject("already_shipped", "It is shipped.");
  tx.patch(order_id ?? "", { status: "shipped", carrier });
}

function move(tx: MutatorTx, args: Args): void {
  const {
    source = "",
    target = "",
    amount = 0,
  } = args as { source?: string; target?: string; amount?: number };
  if ((tx.get(source) ?? { total: 0 }).total < amount) tx.reject("too_little", "There is not so much.");
  tx.incr(source, -amount, { field: "total" });
  tx.incr(target, amount, { field: "total" });
}

function fragile(tx: MutatorTx, { order_id }: Args): void {
  const order = tx.get(order_id ?? "");
  if (order?.status !== "open") throw new RuntimeError("fragile");
  tx.patch(order_id ?? "", { status: "fragile" });
}

/** What traces call a mistake in the code of a mutator. */
export class RuntimeError extends Error {
  override readonly name = "RuntimeError";
}

/** By full name; null predicts nothing. */
export const MUTATORS = new Map<string, Mutator<unknown> | null>([
  [
    "orders.open",
    (tx, args) => {
      const { order_id, total } = args as { order_id: string; total: number };
      tx.put(order_id, { status: "open", total });
      return order_id;
    },
  ],
  ["orders.ship", (tx, args) => ship(tx, args as Args)],
  ["orders.move", (tx, args) => move(tx, args as Args)],
  ["orders.fragile", (tx, args) => fragile(tx, args as Args)],
  ["orders.silent", null],
]);
