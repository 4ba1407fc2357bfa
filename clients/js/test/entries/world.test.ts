/**
 * Whole clients over collections in a fake world, with everything that can happen to a network and a server, at random.
 *
 * SYNCD_SEEDS sets how many worlds (60 if not set), SYNCD_SEED the first of them. A failure names its seed. What is held:
 *
 * - no flicker: a counter that one client alone changes shows, whenever it shows anything, as many increments as were made;
 * - exactly once: no mutation takes effect twice, and the counters end at what was made, over reloads too;
 * - convergence: in the end everybody shows what the server has, and nothing is pending.
 */

import { describe, expect, it } from "vitest";
import { type Client, type Collection, createClient } from "../../src/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";
import { seeded } from "../seeded.ts";
import { KeptStore } from "./store.ts";

const NUM_SEEDS = Number(process.env["SYNCD_SEEDS"] ?? 60);
const FIRST_SEED = Number(process.env["SYNCD_SEED"] ?? 1);
const NUM_STEPS = 150;
const KEYS = ["a", "b", "c"];

/** One client, what it made, and what it is shown, checked at every notification. */
class User {
  readonly own: string;
  readonly #world: FakeWorld;
  readonly #store = new KeptStore();
  client!: Client;
  orders!: Collection;
  numMade = 0;
  numShared = 0;
  numNotified = 0;
  readonly failures: string[] = [];
  #stop: (() => void)[] = [];

  constructor(world: FakeWorld, own: string) {
    this.own = own;
    this.#world = world;
    this.load();
  }

  /** A page is loaded: everything of the last one but its store is gone, in the middle of whatever it did. */
  load(): void {
    this.#stop = [];
    const { environment } = this.#world;
    this.client = createClient({ url: "ws://x/ws", environment, store: this.#store });
    this.orders = this.client.collection("orders");
    this.orders.subscribe(() => {
      this.numNotified += 1;
      this.check();
    });
    this.client.onOutcome(({ status, name }) => {
      if (name !== "orders.ship" && status !== "ok") this.failures.push(`${name}: ${status}`);
    });
    this.watchAll();
    this.client.connect();
  }

  async reload(): Promise<void> {
    // What was made is kept by then: a page that dies before that loses it, and never sent it.
    await this.#world.clock.advance(0);
    this.client.disconnect();
    this.load();
  }

  watchAll(): void {
    this.#stop.push(this.orders.watch());
  }

  watchKeys(): void {
    this.#stop.push(this.orders.watch({ keys: [this.own, "a"] }));
  }

  leave(): void {
    if (this.#stop.length > 1) this.#stop.shift()?.();
  }

  increment(): void {
    this.numMade += 1;
    this.orders.incr(this.own);
    this.check();
  }

  incrementShared(): void {
    this.numShared += 1;
    this.orders.incr("shared");
  }

  /** Everything made is shown once, whatever of it is confirmed. */
  check(): void {
    const shown = this.orders.get(this.own);
    const isShown = shown !== undefined || ["current", "stale"].includes(this.orders.status());
    if (isShown && (shown ?? 0) !== this.numMade) {
      this.failures.push(`${this.own} shows ${String(shown)}, made were ${this.numMade}`);
    }
  }
}

class Chaos {
  readonly world: FakeWorld;
  readonly users: User[];
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seeded(seed);
    this.world = createFakeWorld(this.#random);
    this.world.server.entries.pageSize = this.#pick([1, 2, 1000]);
    this.world.server.entries.pageMs = 20;
    this.users = ["own-1", "own-2"].map((own) => new User(this.world, own));
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }

  get #user(): User {
    return this.#pick(this.users);
  }

  readonly #acts: (() => void | Promise<void>)[] = [
    () => this.#user.reload(),
    () => this.#user.increment(),
    () => this.#user.increment(),
    () => this.#user.increment(),
    () => this.#user.incrementShared(),
    () => this.#user.incrementShared(),
    () => this.#user.orders.put(this.#pick(KEYS), { n: Math.floor(this.#random() * 5) }),
    () => this.#user.orders.patch(this.#pick(KEYS), { [this.#pick(["n", "m"])]: 1 }),
    () => this.#user.orders.delete(this.#pick(KEYS)),
    () => this.world.server.entries.write("orders", this.#pick(KEYS), { by: "backend" }),
    () => this.world.server.dropAll(),
    () => this.#pick(this.world.server.ends)?.drop(),
    () => {
      const end = this.#pick(this.world.server.ends);
      if (end !== undefined) end.isMuted = true;
    },
    () => this.world.server.entries.lag("orders"),
    () => this.world.server.entries.trim("orders"),
    () => this.#user.watchKeys(),
    () => this.#user.watchAll(),
    () => this.#user.leave(),
    () => {
      this.world.server.isReachable = this.#random() < 0.7;
    },
  ];

  async run(): Promise<void> {
    for (let step = 0; step < NUM_STEPS; step++) {
      await this.#pick(this.#acts)();
      for (const user of this.users) user.check();
      await this.world.clock.advance(this.#pick([0, 0, 10, 50, 500, 5_000, 30_000]));
      expect(this.world.errors).toEqual([]);
      expect(this.users.flatMap(({ failures }) => failures)).toEqual([]);
    }
    this.world.server.isReachable = true;
    for (let turn = 0; turn < 4; turn++) await this.world.clock.advance(60_000);
  }

  check(): void {
    const { entries } = this.world.server;
    let numShared = 0;
    for (const { orders, own, numMade, failures, numShared: mine } of this.users) {
      expect(failures).toEqual([]);
      expect(entries.get("orders", own) ?? 0).toBe(numMade);
      expect(orders.list().every(({ pending }) => pending.length === 0)).toBe(true);
      const shown = Object.fromEntries(orders.list().map(({ key, value }) => [key, value]));
      if (orders.status() === "current") expect(shown).toEqual(entries.all("orders"));
      else
        expect(shown).toEqual(
          Object.fromEntries(
            Object.entries(entries.all("orders")).filter(([key]) => key === own || key === "a"),
          ),
        );
      numShared += mine;
    }
    expect(entries.get("orders", "shared") ?? 0).toBe(numShared);
    expect([...entries.numRuns.values()].every((times) => times === 1)).toBe(true);
  }
}

describe("collections in a world in which everything goes wrong at times", () => {
  it(
    `keep their promises (${NUM_SEEDS} seeds from ${FIRST_SEED})`,
    async () => {
      let [numNotified, numRuns] = [0, 0];
      for (let seed = FIRST_SEED; seed < FIRST_SEED + NUM_SEEDS; seed++) {
        const chaos = new Chaos(seed);
        try {
          await chaos.run();
          chaos.check();
          for (const { client } of chaos.users) {
            const word = await Promise.race([
              client.settled(),
              chaos.world.clock.advance(0).then(() => "pending"),
            ]);
            expect(word).toBeUndefined();
          }
        } catch (error) {
          throw new Error(`Seed ${seed}: SYNCD_SEED=${seed} SYNCD_SEEDS=1 shows it alone.`, { cause: error });
        }
        for (const user of chaos.users) numNotified += user.numNotified;
        // Fake time passes in microtasks alone: let the runner have a turn.
        await new Promise((resolve) => setImmediate(resolve));
        numRuns += chaos.world.server.entries.numRuns.size;
      }
      // It would prove nothing if nothing happened.
      expect([numNotified / NUM_SEEDS > 50, numRuns / NUM_SEEDS > 20]).toEqual([true, true]);
    },
    10_000 + NUM_SEEDS * 1_000,
  );
});
