/** What the server was heard to have decided of all clients, ours or not: entries that are shown may hold it. Pure. Owned by `Foreign`. */

import type { Body } from "../wire/decode.js";

/** Clients that are remembered; past it all are forgotten, and a prediction of another tab may show for too long. */
const MAX_HEARD = 1_000;

/** The last mutation of each client that an event, or a page of a snapshot, was heard of. */
export class Heard {
  readonly #mids = new Map<unknown, number>();

  /** What became of this mutation, and of all before it, is known. */
  note(client: unknown, mid: unknown): void {
    if (typeof mid !== "number") return;
    if (this.#mids.size >= MAX_HEARD) this.#mids.clear();
    this.#mids.set(client, Math.max(mid, this.upTo(client)));
  }

  /** Note what a page says that its entries are as of. */
  noteAll(told: Body): void {
    for (const client in told) this.note(client, told[client]);
  }

  /** The last mutation of a client, 0 for none. */
  upTo(client: unknown): number {
    return this.#mids.get(client) ?? 0;
  }
}
