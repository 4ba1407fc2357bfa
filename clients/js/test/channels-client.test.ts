/** What a client of `syncd-client/channels` is beside a whole one: `client.test.ts` and `shell.test.ts` try what they share. */

import { describe, expect, it } from "vitest";
import * as ofChannels from "../src/channels/index.ts";
import * as whole from "../src/index.ts";
import { createFakeWorld } from "../src/testing/index.ts";

const ROOM = "demo:room";

async function connected() {
  const world = createFakeWorld();
  const client = ofChannels.createClient({ url: "ws://x/ws", environment: world.environment });
  client.connect();
  await world.clock.advance(0);
  return { world, client };
}

describe("a client of channels", () => {
  it("has what a whole client has of the connection and of channels, and nothing of entries", () => {
    const { environment } = createFakeWorld();
    const options = { url: "ws://x/ws", environment };
    expect(whole.createClient(options)).toBeInstanceOf(ofChannels.ChannelsClient);
    const client = ofChannels.createClient(options);
    expect(client).not.toBeInstanceOf(whole.Client);
    for (const name of ["mutate", "collection", "request", "settled", "onPending", "onInvalidate"]) {
      expect(client).not.toHaveProperty(name);
    }
  });

  it("shares every name with the package's main entry, but for how clients are made", () => {
    const { createClient, ChannelsClient, ...rest } = ofChannels;
    expect(whole).toMatchObject(rest);
    expect(Object.keys(rest)).toContain("RequestFailed");
    expect(createClient).not.toBe(whole.createClient);
  });

  it("ignores what a server says of entries", async () => {
    const { world, client } = await connected();
    const seen: unknown[] = [];
    client.channel(ROOM).subscribe({ onEvent: ({ data }) => seen.push(data) });
    await world.clock.advance(0);
    const { last } = world.server;
    const at = { channel: "$c:orders", epoch: "e", offset: 1, at_ms: 0 };
    last.send("invalidate", { ...at, keys: ["a"] });
    last.send("outcome", { client: client.clientId ?? "", mid: 1, status: "ok", positions: {} });
    last.send("error", { mid: 1, code: "overloaded", message: "m", retryable: true });
    last.send("event", { ...at, data: null });
    world.server.publish(ROOM, 1);
    expect([seen, client.state, world.errors]).toEqual([[1], "connected", []]);
    expect(world.server.ends).toHaveLength(1);
  });

  it("goes on where the server has forgotten everything", async () => {
    const { world, client } = await connected();
    const told: unknown[] = [];
    client.channel(ROOM).subscribe({
      onReset: ({ cause }) => told.push(cause),
      onEvent: ({ data }) => told.push(data),
    });
    await client.channel(ROOM).publish("before");
    const before = client.clientId;
    world.server.restart({ keepsStore: false });
    await world.clock.advance(20_000);
    await client.channel(ROOM).publish("after");
    expect(told).toEqual(["before", "epoch-changed", "after"]);
    expect([before, client.clientId]).toEqual([expect.any(String), expect.any(String)]);
    expect(client.state).toBe("connected");
  });

  it("tells who is present, with a whole client beside it", async () => {
    const { world, client } = await connected();
    const other = whole.createClient({ url: "ws://x/ws", environment: world.environment });
    other.connect();
    const shown: unknown[] = [];
    client
      .channel(ROOM)
      .presence.subscribe((others) => shown.push(others.map(({ states }) => states[0]?.state)));
    await world.clock.advance(0);
    await Promise.all([client.channel(ROOM).presence.set("me"), other.channel(ROOM).presence.set("else")]);
    await world.clock.advance(1_000);
    expect(shown.at(-1)).toEqual(["else"]);
  });
});
