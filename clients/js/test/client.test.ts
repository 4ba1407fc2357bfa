import { describe, expect, it } from "vitest";
import type { ChannelsClient, ConnectionState } from "../src/channels/index.ts";
import { createFakeWorld, type FakeWorld } from "../src/testing/index.ts";
import { ENTRY_POINTS } from "./entry-points.ts";

const ROOM = "demo:room";

describe.each(ENTRY_POINTS)("$entry", ({ createClient }) => {
  async function connected(): Promise<{ world: FakeWorld; client: ChannelsClient }> {
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    client.connect();
    await world.clock.advance(0);
    expect(client.state).toBe("connected");
    return { world, client };
  }

  /** Collect the data of a channel's events. */
  function collect(client: ChannelsClient, channel = ROOM): unknown[] {
    const seen: unknown[] = [];
    client.channel(channel).subscribe({ onEvent: (event) => seen.push(event.data) });
    return seen;
  }

  describe("a client", () => {
    it("does nothing before it is told to connect", async () => {
      const world = createFakeWorld();
      const client = createClient({ url: "ws://x/ws", environment: world.environment });
      collect(client);
      await world.clock.advance(60_000);
      expect(world.server.ends).toHaveLength(0);
      expect(client.status).toMatchObject({ state: "idle", attempt: 0, hasConnected: false });
    });

    it("publishes, hears it, and reads it back", async () => {
      const { world, client } = await connected();
      const seen = collect(client);
      await world.clock.advance(0);
      const position = await client.channel(ROOM).publish({ n: 1 }, { name: "made" });
      expect(position).toEqual(expect.objectContaining({ offset: 1 }));
      expect(seen).toEqual([expect.objectContaining({ n: 1 })]);
      expect(client.channel(ROOM).position).toEqual(position);
      const page = await client.channel(ROOM).history({ limit: 10 });
      expect(page.events).toHaveLength(1);
      expect(page.events[0]).toMatchObject({ name: "made", by: client.clientId });
    });

    it("leaves no timer and no socket behind when it is closed", async () => {
      const { world, client } = await connected();
      collect(client);
      await world.clock.advance(1);
      const waiting = client.channel(ROOM).publish(1);
      world.server.last.goSilent();
      const lost = client.channel(ROOM).publish(2);
      client.close();
      await expect(waiting).resolves.toBeTruthy();
      await expect(lost).rejects.toMatchObject({ name: "ClientClosed" });
      await world.clock.advance(25_000);
      expect(world.clock.numTimers).toBe(0);
      expect(world.server.last.closedByClient).toEqual({ code: 1000, reason: "" });
      expect(() => client.connect()).not.toThrow();
      expect(client.state).toBe("closed");
      await expect(client.channel(ROOM).publish(3)).rejects.toMatchObject({ name: "ClientClosed" });
    });

    it("tells every change of its state with code, reason, attempt and the time of the next dial", async () => {
      const { world, client } = await connected();
      const told: unknown[] = [];
      client.onState((status) => told.push(status));
      world.server.isReachable = false;
      world.server.last.close(4000, "restart");
      await world.clock.advance(1000);
      expect(told.slice(0, 3)).toEqual([
        {
          state: "offline",
          code: 4000,
          reason: "restart",
          attempt: 1,
          retryAt: world.clock.wallOffsetMs + 250,
          hasConnected: true,
        },
        expect.objectContaining({ state: "connecting", attempt: 2, retryAt: null }),
        expect.objectContaining({ state: "offline", code: 1006, attempt: 2 }),
      ]);
      world.server.isReachable = true;
      await world.clock.advance(20_000);
      expect(client.state).toBe("connected");
    });

    it("refuses more requests than a session may be sent at once", async () => {
      const world = createFakeWorld();
      const client = createClient({ url: "ws://x/ws", environment: world.environment });
      const all = Array.from({ length: 1024 }, (_, n) => client.channel(ROOM).publish(n));
      await expect(client.channel(ROOM).publish(-1)).rejects.toMatchObject({ code: "overloaded" });
      client.connect();
      await world.clock.advance(0);
      await Promise.all(all);
      expect(world.server.events(ROOM).map((event) => event.data)).toEqual(all.map((_, n) => n));
    });

    it("publishes once what is published twice under one uid", async () => {
      const { world, client } = await connected();
      const publish = () => client.channel(ROOM).publish(1, { uid: "order-7" });
      expect(await publish()).toEqual(await publish());
      expect(await client.channel(ROOM).publish(1)).toMatchObject({ offset: 2 });
      expect(world.server.events(ROOM)).toHaveLength(2);
    });

    it("rejects what has no form on the wire, and goes on", async () => {
      const { client } = await connected();
      await expect(client.channel(ROOM).publish(() => 1)).rejects.toThrow(TypeError);
      await expect(client.channel(ROOM).publish(1)).resolves.toBeTruthy();
    });
  });

  describe("a channel", () => {
    it("recovers what was published while it was away, in order and once", async () => {
      const { world, client } = await connected();
      const seen = collect(client);
      await world.clock.advance(0);
      world.server.publish(ROOM, 1);
      world.server.dropAll();
      world.server.publish(ROOM, 2);
      world.server.publish(ROOM, 3);
      await world.clock.advance(20_000);
      world.server.publish(ROOM, 4);
      expect(seen).toEqual([1, 2, 3, 4]);
    });

    it("is told a reset where the log was lost", async () => {
      const { world, client } = await connected();
      const told: unknown[] = [];
      client.channel(ROOM).subscribe({ onReset: ({ cause }) => told.push(cause) });
      await world.clock.advance(0);
      world.server.publish(ROOM, 1);
      world.server.loseLog(ROOM);
      world.server.dropAll();
      await world.clock.advance(20_000);
      expect(told).toEqual(["epoch-changed"]);
      expect(client.channel(ROOM).position).toEqual({ epoch: "epoch-2", offset: 0 });
    });

    it("is one subscription for all its listeners, and ends with the last", async () => {
      const { world, client } = await connected();
      const sent: string[] = [];
      const { last } = world.server;
      const answer = last.onMessage;
      last.onMessage = (kind, body) => {
        sent.push(kind);
        answer?.(kind, body);
      };
      const ends = [1, 2].map(() => client.channel(ROOM).subscribe({}));
      expect(client.channel(ROOM)).toBe(client.channel(ROOM));
      ends[0]?.();
      await world.clock.advance(1);
      expect(sent).toEqual(["subscribe"]);
      ends[1]?.();
      ends[1]?.();
      await world.clock.advance(1);
      expect(sent).toEqual(["subscribe", "unsubscribe"]);
      expect(client.channel(ROOM).state).toBe("unsubscribed");
    });

    it("is not subscribed twice by who leaves and comes back at once", async () => {
      const { world, client } = await connected();
      client.channel(ROOM).subscribe({})();
      const seen = collect(client);
      await world.clock.advance(1);
      world.server.publish(ROOM, 1);
      expect(seen).toEqual([1]);
      expect(client.channel(ROOM).state).toBe("subscribed");
    });

    it("goes on from a position that the application kept", async () => {
      const { world, client } = await connected();
      const since = world.server.publish(ROOM, 1);
      world.server.publish(ROOM, 2);
      const seen: unknown[] = [];
      client.channel(ROOM).subscribe({ onEvent: (event) => seen.push(event.data) }, { since });
      await world.clock.advance(0);
      expect(seen).toEqual([2]);
      expect(() => client.channel(ROOM).subscribe({}, { since })).toThrow(/first listener/);
    });

    it("tells its states, the refusal last, and may be subscribed anew after it", async () => {
      const { world, client } = await connected();
      const told: unknown[] = [];
      client.channel(ROOM).subscribe({ onState: ({ state, code }) => told.push([state, code]) });
      await world.clock.advance(0);
      world.server.last.send("unsubscribed", { channel: ROOM, code: "revoked", reason: "r" });
      expect(told).toEqual([
        ["subscribing", null],
        ["subscribed", null],
        ["ended", "revoked"],
      ]);
      const seen = collect(client);
      await world.clock.advance(0);
      world.server.publish(ROOM, 1);
      expect(seen).toEqual([1]);
      expect(told).toHaveLength(3);
    });

    it("shows presence without ourselves, the same array until it changes", async () => {
      const { world, client } = await connected();
      const told: number[] = [];
      const { presence } = client.channel(ROOM);
      const stop = presence.subscribe((others) => told.push(others.length));
      await world.clock.advance(0);
      const member = (id: string) => ({ member: id, states: [{ client: id, state: 1 }] });
      const members = [member(client.clientId ?? ""), member("else")];
      world.server.last.send("presence_state", { channel: ROOM, seq: 1, members });
      expect(presence.members).toHaveLength(2);
      expect(presence.others.map((other) => other.member)).toEqual(["else"]);
      expect(presence.others).toBe(presence.others);
      stop();
      await world.clock.advance(1);
      expect(told).toEqual([0, 1]);
      expect(presence.others).toEqual([]);
    });
  });

  describe("presence", () => {
    it("tells that nobody is known to be there when the server ends the subscription", async () => {
      const { world, client } = await connected();
      const told: number[] = [];
      client.channel(ROOM).presence.subscribe((others) => told.push(others.length));
      await world.clock.advance(0);
      const members = [{ member: "else", states: [{ client: "else", state: 1 }] }];
      world.server.last.send("presence_state", { channel: ROOM, seq: 1, members });
      world.server.last.send("unsubscribed", { channel: ROOM, code: "revoked", reason: "r" });
      expect(told).toEqual([0, 1, 0]);
    });
  });

  describe("listeners", () => {
    it("see the position advanced, and each event before the next", async () => {
      const { world, client } = await connected();
      const seen: unknown[] = [];
      const channel = client.channel(ROOM);
      channel.subscribe({ onEvent: () => seen.push(channel.position?.offset) });
      await world.clock.advance(0);
      world.server.publish(ROOM, 1);
      world.server.publish(ROOM, 2);
      expect(seen).toEqual([1, 2]);
    });

    it("that throw stop nobody, and are reported", async () => {
      const { world, client } = await connected();
      client.channel(ROOM).subscribe({
        onEvent: () => {
          throw new Error("of the application");
        },
      });
      const seen = collect(client);
      await world.clock.advance(0);
      world.server.publish(ROOM, 1);
      expect(seen).toEqual([1]);
      expect(world.errors).toEqual([expect.objectContaining({ message: "of the application" })]);
    });

    it("that end themselves or others are told nothing more, not even of the same frame", async () => {
      const { world, client } = await connected();
      const seen: unknown[] = [];
      const channel = client.channel(ROOM);
      const ends: (() => void)[] = [];
      const onEvent = (event: { data: unknown }) => {
        seen.push(event.data);
        for (const end of ends) end();
      };
      ends.push(channel.subscribe({ onEvent }), channel.subscribe({ onEvent }));
      await world.clock.advance(0);
      world.server.dropAll();
      world.server.publish(ROOM, 1);
      world.server.publish(ROOM, 2);
      await world.clock.advance(20_000);
      expect(seen).toEqual([1]);
    });

    it("may subscribe anew within an event: what was queued for the old subscription is not told twice", async () => {
      const { world, client } = await connected();
      const seen: unknown[] = [];
      const channel = client.channel(ROOM);
      await world.clock.advance(0);
      channel.subscribe({ onEvent: (event) => seen.push(["old", event.data]) });
      await world.clock.advance(0);
      world.server.dropAll();
      world.server.publish(ROOM, 1);
      world.server.publish(ROOM, 2);
      let isFirst = true;
      channel.subscribe({
        onEvent: () => {
          if (!isFirst) return;
          isFirst = false;
          world.server.publish(ROOM, 3);
          void channel.publish(4);
          channel.subscribe({ onEvent: (event) => seen.push(["new", event.data]) });
        },
      });
      await world.clock.advance(20_000);
      const old = seen.flatMap((item) => ((item as unknown[])[0] === "old" ? [(item as unknown[])[1]] : []));
      expect(old).toEqual([1, 2, 3, 4]);
      const late = seen.flatMap((item) => ((item as unknown[])[0] === "new" ? [(item as unknown[])[1]] : []));
      expect(late).toEqual([2, 3, 4]);
    });

    it("may close the client: nothing is told after the end", async () => {
      const { world, client } = await connected();
      const seen: unknown[] = [];
      client.channel(ROOM).subscribe({
        onEvent: (event) => {
          seen.push(event.data);
          client.close();
        },
      });
      await world.clock.advance(0);
      world.server.dropAll();
      world.server.publish(ROOM, 1);
      world.server.publish(ROOM, 2);
      await world.clock.advance(20_000);
      expect([...seen, client.state]).toEqual([1, "closed"]);
    });

    it("of the state see changes in order, whatever they do in between", async () => {
      const { world, client } = await connected();
      const [first, second]: [ConnectionState[], ConnectionState[]] = [[], []];
      client.onState(({ state }) => {
        first.push(state);
        if (state === "offline") client.wake();
      });
      client.onState(({ state }) => second.push(state));
      world.server.dropAll();
      await world.clock.advance(0);
      expect(first).toEqual(["offline", "connecting", "connected"]);
      expect(second).toEqual(first);
    });
  });
});
