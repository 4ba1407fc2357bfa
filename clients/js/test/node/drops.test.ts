/**
 * The client from Node against a real node.
 *
 * SYNCD_DROPS sets how many connections are lost (1,000 if not set: 25 s, nearly all of them spent waiting for the next), SYNCD_SEED which.
 */

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { type ChannelsClient, createClient as createChannelsClient } from "../../src/channels/index.ts";
import { createClient } from "../../src/index.ts";
import { seeded } from "../seeded.ts";
import { LossyProxy, Node } from "./server.ts";

const NUM_DROPS = Number(process.env["SYNCD_DROPS"] ?? 1000);
const SEED = Number(process.env["SYNCD_SEED"] ?? Date.now() % 1_000_000);

/** A client that comes back within some ms, so that many losses fit into a test. */
function hastyClient(url: string, make: typeof createChannelsClient): ChannelsClient {
  const environment = { WebSocket, random: () => Math.random() * 0.002 };
  return make({ url, environment });
}

/** Wait until something holds, looking whenever `changed` is called. */
class Until {
  #check: () => void = () => undefined;

  changed = (): void => this.#check();

  holds(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#check = () => {
        if (condition()) resolve();
      };
      this.#check();
    });
  }
}

describe("against a real node", () => {
  let node: Node;
  const clients: ChannelsClient[] = [];

  beforeAll(async () => {
    node = await Node.start();
  }, 40_000);

  afterAll(async () => {
    for (const client of clients) client.close();
    await node.dispose();
  });

  function client(url = node.url, make: typeof createChannelsClient = createClient): ChannelsClient {
    const made = hastyClient(url, make);
    clients.push(made);
    made.connect();
    return made;
  }

  it("publishes, hears, reads back, and sees who is present", async () => {
    const [alice, bob] = [client(), client(node.url, createChannelsClient)];
    const room = "demo:js-basics";
    const until = new Until();
    const seen: unknown[] = [];
    bob.channel(room).subscribe({ onState: until.changed, onEvent: (event) => seen.push(event) });
    bob.channel(room).presence.subscribe(until.changed);
    await until.holds(() => bob.channel(room).state === "subscribed");
    await alice.channel(room).presence.set({ name: "Alice" });
    await until.holds(() => bob.channel(room).presence.others.length === 1);
    expect(bob.channel(room).presence.others[0]?.states[0]?.state).toMatchObject({ name: "Alice" });
    const data = { text: "grüß", bytes: Uint8Array.of(1, 2), n: [1, -1, 1.5, 2 ** 53 - 1], none: null };
    const position = await alice.channel(room).publish(data, { name: "said", key: "k" });
    const page = await alice.channel(room).history({ limit: 10 });
    expect(page.position).toEqual(position);
    expect(page.events).toEqual(seen);
    expect(page.events[0]).toMatchObject({ name: "said", key: "k", by: alice.clientId, position });
    expect(page.events[0]?.data).toEqual(data);
    await expect(alice.channel("nothing:here").publish(1)).rejects.toMatchObject({
      code: "permission_denied",
    });
  }, 20_000);

  it(
    `loses no event and hears none twice over ${NUM_DROPS} lost connections (seed ${SEED})`,
    async () => {
      const proxy = await LossyProxy.start(node.port);
      const room = "demo:js-drops";
      const random = seeded(SEED);
      const [publisher, subscriber] = [client(proxy.url), client(proxy.url, createChannelsClient)];
      const until = new Until();
      const offsets: number[] = [];
      const heard: number[] = [];
      const resets: unknown[] = [];
      subscriber.channel(room).subscribe({
        onState: until.changed,
        onReset: (reset) => resets.push(reset),
        onEvent: ({ data, position }) => {
          heard.push(data as number);
          offsets.push(position?.offset ?? -1);
          until.changed();
        },
      });
      await until.holds(() => subscriber.channel(room).state === "subscribed");

      let isOver = false;
      let numAccepted = 0;
      /** One publication after the other: each of several lanes keeps one on its way. */
      const lane = async (): Promise<void> => {
        while (!isOver) {
          numAccepted += 1;
          await publisher.channel(room).publish(numAccepted);
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      };
      const lanes = [lane(), lane(), lane(), lane()];
      for (let drops = 0; drops < NUM_DROPS; ) {
        await new Promise((resolve) => setTimeout(resolve, 40 * random()));
        if (proxy.dropOne(random())) drops += 1;
      }
      isOver = true;
      await Promise.all(lanes);
      numAccepted += 1;
      const last = numAccepted;
      await publisher.channel(room).publish(last);
      await until.holds(() => heard.includes(last));
      // A duplicate that is still on its way would come before the answer to this.
      await subscriber.channel(room).history({ limit: 0 });

      expect(resets).toEqual([]);
      expect(offsets).toEqual(offsets.map((_, n) => n + 1));
      expect([...heard].sort((a, b) => a - b)).toEqual(heard.map((_, n) => n + 1));
      expect(heard.length).toBe(numAccepted);
      expect(proxy.numConnections).toBeGreaterThan(NUM_DROPS / 2);
      await proxy.dispose();
    },
    60_000 + NUM_DROPS * 500,
  );

  it("comes back by itself after the node was killed: what was on its way arrives once, what was there is there", async () => {
    const subscriber = client();
    const room = "demo:js-kill";
    const until = new Until();
    const told: unknown[] = [];
    subscriber.channel(room).subscribe({
      onState: until.changed,
      onReset: ({ cause }) => told.push(cause),
      onEvent: ({ data }) => {
        told.push(data);
        until.changed();
      },
    });
    await until.holds(() => subscriber.channel(room).state === "subscribed");
    await subscriber.channel(room).publish("before");
    await until.holds(() => told.length === 1);
    await node.kill();
    const waiting = subscriber.channel(room).publish("after");
    await node.start();
    await expect(waiting).resolves.toMatchObject({ offset: 2 });
    await until.holds(() => told.includes("after"));
    expect(told).toEqual(["before", "after"]);
  }, 60_000);
});
