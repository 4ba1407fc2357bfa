/** The orders as one pane sees them: what its client shows, what it has under way, and what was confirmed where. */

import type { Client, Collection, Mutation, Position, WatchStatus } from "../src/index.js";
import { MutationFailed } from "../src/index.js";
import type { Shown } from "./cards.js";
import { describe, type Order, orderOf, type PREDICTIONS } from "./orders.js";

/** Hears what the server has confirmed up to a position of the collection. */
export type Confirmed = (position: Position, text: string) => void;

/** Hears why a change that an earlier page made did not take effect. */
export type Refused = (problem: string) => void;

/** Watches all orders, from now until the page ends. */
export class Feed {
  readonly #client: Client<typeof PREDICTIONS>;
  readonly #orders: Collection<Order>;
  readonly #confirmed: Confirmed;
  readonly #listeners: (() => void)[] = [];
  /** Mutations that this page made and waits for. */
  readonly #made = new Set<number>();
  #position: Position | null = null;

  constructor(client: Client<typeof PREDICTIONS>, confirmed: Confirmed, refused: Refused) {
    this.#client = client;
    this.#orders = client.collection<Order>("orders");
    this.#confirmed = confirmed;
    this.#orders.watch({ all: true }, ({ keys }) => this.#changed(keys));
    client.onPending(() => this.#tell());
    client.onOutcome(({ id, name, status, code, message }) => {
      if (status !== "ok" && !this.#made.has(id)) refused(`${name}: ${message || code || status}`);
    });
  }

  /** All orders, newest first, as predicted. */
  orders(): Shown[] {
    const shown = this.#orders.list().flatMap(({ key, value, pending }) => {
      const order = orderOf(value);
      return order === null ? [] : { key, order, numPending: pending.length };
    });
    return shown.reverse();
  }

  /** How many changes are not decided: those of this page, of earlier ones, and what is shown of other tabs'. */
  get numPending(): number {
    const shown = new Set(this.#orders.list().flatMap(({ pending }) => pending));
    return Math.max(shown.size, this.#client.numPending);
  }

  /** Whether all orders are here, were, or never came. */
  get status(): WatchStatus {
    return this.#orders.status();
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
  async #settled({ id, server }: Mutation): Promise<string | null> {
    this.#made.add(id);
    try {
      await server;
      return null;
    } catch (error) {
      if (error instanceof MutationFailed) return error.message || error.code || error.status;
      throw error;
    } finally {
      this.#made.delete(id);
    }
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
