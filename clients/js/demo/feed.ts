/** The orders as one pane sees them: what its client shows, what it has under way, and what was confirmed where. */

import type { Client, Collection, Mutation, Position } from "../src/index.js";
import { MutationFailed } from "../src/index.js";
import type { Shown } from "./cards.js";
import { describe, type Order, orderOf, type PREDICTIONS } from "./orders.js";

/** Hears what the server has confirmed up to a position of the collection. */
export type Confirmed = (position: Position, text: string) => void;

/** Watches all orders, from now until the page ends. */
export class Feed {
  readonly #client: Client<typeof PREDICTIONS>;
  readonly #orders: Collection<Order>;
  readonly #confirmed: Confirmed;
  readonly #listeners: (() => void)[] = [];
  #position: Position | null = null;
  #numPending = 0;

  constructor(client: Client<typeof PREDICTIONS>, confirmed: Confirmed) {
    this.#client = client;
    this.#orders = client.collection<Order>("orders");
    this.#confirmed = confirmed;
    this.#orders.watch({ all: true }, ({ keys }) => this.#changed(keys));
  }

  /** All orders, newest first, as predicted. */
  orders(): Shown[] {
    const shown = this.#orders.list().flatMap(({ key, value, pending }) => {
      const order = orderOf(value);
      return order === null ? [] : { key, order, numPending: pending.length };
    });
    return shown.reverse();
  }

  /** How many changes made here are not decided. */
  get numPending(): number {
    return this.#numPending;
  }

  /** Up to where everything was told; null until it was. */
  get position(): Position | null {
    return this.#orders.position();
  }

  /** Be called whenever something of the above is different. */
  subscribe(listener: () => void): void {
    this.#listeners.push(listener);
  }

  create(order: { order_id: string; customer: string; item: string; cents: number }): Promise<string | null> {
    return this.#settled(this.#client.mutate.orders.create(order));
  }

  approve(key: string): Promise<string | null> {
    return this.#settled(this.#client.mutate.orders.approve({ order_id: key }));
  }

  ship(key: string): Promise<string | null> {
    return this.#settled(this.#client.mutate.orders.ship({ order_id: key }));
  }

  change(key: string, by: number): Promise<string | null> {
    return this.#settled(this.#orders.incr(key, by, { field: "quantity" }));
  }

  remove(key: string): Promise<string | null> {
    return this.#settled(this.#orders.delete(key));
  }

  /** Wait until it is decided; return null, or why it did not take effect. */
  async #settled({ server }: Mutation): Promise<string | null> {
    this.#count(1);
    try {
      await server;
      return null;
    } catch (error) {
      if (error instanceof MutationFailed) return error.message || error.code || error.status;
      throw error;
    } finally {
      this.#count(-1);
    }
  }

  #count(by: number): void {
    this.#numPending += by;
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }

  #changed(keys: ReadonlySet<string>): void {
    const before = this.#position;
    const position = this.#orders.position();
    this.#position = position;
    const isFirst = before === null;
    const isNew =
      position !== null && (before?.epoch !== position.epoch || before?.offset !== position.offset);
    if (isNew) {
      const texts = [...keys].map((key) => describe(key, this.#orders.get(key)));
      this.#confirmed(position, isFirst ? `As it is now: ${texts.length} orders` : texts.join("; "));
    }
    this.#tell();
  }
}
