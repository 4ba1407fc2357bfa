import { describe, expect, it } from "vitest";
import { expiryOf } from "../src/shell/tokens.ts";
import { createFakeWorld } from "../src/testing/index.ts";
import { ENTRY_POINTS } from "./entry-points.ts";

const ROOM = "demo:room";
type World = ReturnType<typeof createFakeWorld>;

describe.each(ENTRY_POINTS)("$entry", ({ createClient }) => {
  async function connected(world: World, getToken?: () => string | null | Promise<string | null>) {
    const client = createClient({ url: "ws://x/ws", environment: world.environment, getToken });
    client.connect();
    await world.clock.advance(0);
    return client;
  }

  /** A JWT that runs out then, with nothing in it that anybody checks. */
  function tokenUntil(atMs: number): string {
    return `h.${btoa(JSON.stringify({ exp: atMs / 1000, sub: "ü" })).replaceAll("=", "")}.s`;
  }

  describe("the page", () => {
    it("closes the socket when it is left, and opens a new one when it comes back", async () => {
      const world = createFakeWorld();
      const client = await connected(world);
      const seen: unknown[] = [];
      client.channel(ROOM).subscribe({ onEvent: (event) => seen.push(event.data) });
      await world.clock.advance(0);
      world.signal("pagehide");
      expect(world.server.last.closedByClient?.code).toBe(1000);
      expect(client.status).toMatchObject({ state: "offline", retryAt: null });
      world.server.publish(ROOM, 1);
      world.clock.sleep(3_600_000);
      world.signal("pageshow");
      await world.clock.advance(0);
      expect([client.state, seen]).toEqual(["connected", [1]]);
    });

    it.each(["online", "visible", "focus", "resume"] as const)("dials at once at %s", async (signal) => {
      const world = createFakeWorld();
      world.server.isReachable = false;
      const client = await connected(world);
      await world.clock.advance(60_000);
      world.server.isReachable = true;
      expect(client.state).toBe("offline");
      world.signal(signal);
      await world.clock.advance(0);
      expect(client.state).toBe("connected");
    });

    it.each(["online", "offline", "visible", "focus", "resume"] as const)(
      "finds out at %s that a socket is a zombie, and replaces it",
      async (signal) => {
        const world = createFakeWorld();
        const client = await connected(world);
        world.server.last.goSilent();
        world.signal(signal);
        await world.clock.advance(3_999);
        expect(client.state).toBe("connected");
        await world.clock.advance(1_000);
        expect([client.state, world.server.ends.length]).toEqual(["connected", 2]);
      },
    );

    it("is no reason to dial when it says that the network is gone", async () => {
      const world = createFakeWorld();
      world.server.isReachable = false;
      const client = await connected(world);
      world.signal("offline");
      await world.clock.advance(0);
      expect([client.state, world.server.ends.length]).toEqual(["offline", 1]);
    });

    it("is not listened to before the first connect, nor after the end", async () => {
      const world = createFakeWorld();
      const client = createClient({ url: "ws://x/ws", environment: world.environment });
      world.signal("online");
      expect(world.server.ends).toHaveLength(0);
      client.connect();
      await world.clock.advance(0);
      client.close();
      world.signal("pageshow");
      await world.clock.advance(60_000);
      expect(world.server.ends).toHaveLength(1);
    });
  });

  describe("sleep", () => {
    it("is noticed by a timer that comes late: the socket is probed, not believed and not condemned", async () => {
      const world = createFakeWorld();
      const client = await connected(world);
      world.clock.sleep(3_600_000);
      await world.clock.advance(0);
      expect([client.state, world.server.ends.length]).toEqual(["connected", 1]);
      await world.clock.advance(30_000);
      expect([client.state, world.server.ends.length]).toEqual(["connected", 1]);
      world.server.last.goSilent();
      world.clock.sleep(3_600_000);
      await world.clock.advance(5_000);
      expect([client.state, world.server.ends.length]).toEqual(["connected", 2]);
    });

    it("is noticed by the wall clock where the other one stood still", async () => {
      const world = createFakeWorld();
      await connected(world);
      world.server.last.goSilent();
      world.clock.wallOffsetMs += 3_600_000;
      await world.clock.advance(15_000 + 4_000 + 1_000);
      expect(world.server.ends).toHaveLength(2);
    });

    it("takes a silent connection down after ping_ms and 10 s, without any help", async () => {
      const world = createFakeWorld();
      await connected(world);
      world.server.last.goSilent();
      await world.clock.advance(34_999);
      expect(world.server.ends).toHaveLength(1);
      await world.clock.advance(1_000);
      expect(world.server.ends).toHaveLength(2);
    });
  });

  describe("a socket", () => {
    it("that never opens is given up after 20 s, and what it says later does not count", async () => {
      const world = createFakeWorld();
      world.server.latencyMs = 30_000;
      const client = await connected(world);
      await world.clock.advance(20_000);
      expect(client.state).toBe("offline");
      world.server.latencyMs = 0;
      await world.clock.advance(1_000);
      expect(client.state).toBe("connected");
      await world.clock.advance(60_000);
      expect([client.state, world.server.ends.length]).toEqual(["connected", 2]);
    });

    it("that cannot even be made is a failed attempt like others", async () => {
      const world = createFakeWorld();
      let tries = 0;
      const WebSocket = class {
        constructor() {
          tries += 1;
          throw new SyntaxError("not a URL");
        }
      } as unknown as typeof world.environment.WebSocket;
      const client = createClient({ url: "::", environment: { ...world.environment, WebSocket } });
      client.connect();
      await world.clock.advance(60_000);
      expect(tries).toBeGreaterThan(3);
      expect(client.status.reason).toContain("not a URL");
      client.close();
      expect(world.clock.numTimers).toBe(0);
    });

    it("that fails without ever saying that it is closed is a failed attempt like others", async () => {
      const world = createFakeWorld();
      const made: object[] = [];
      const WebSocket = class {
        onerror: ((event: object) => void) | null = null;

        constructor() {
          made.push(this);
          world.clock.setTimeout(() => this.onerror?.({ message: "forbidden" }), 0);
        }

        close(): void {}
      } as unknown as typeof world.environment.WebSocket;
      const client = createClient({ url: "/ws", environment: { ...world.environment, WebSocket } });
      client.connect();
      await world.clock.advance(0);
      expect(client.status).toMatchObject({ state: "offline", code: 1006, reason: "forbidden" });
      await world.clock.advance(60_000);
      expect(made.length).toBeGreaterThan(3);
    });

    it("that speaks text is left", async () => {
      const world = createFakeWorld();
      const client = await connected(world);
      const { last } = world.server;
      (last as unknown as { sendFrame(frame: unknown): void }).sendFrame({
        slice: () => ({ buffer: "text" }),
      });
      expect(client.state).toBe("offline");
      expect(last.closedByClient?.code).toBe(3000);
    });

    it("is closed with codes that browsers allow", async () => {
      const world = createFakeWorld();
      await connected(world);
      world.server.last.sendFrame(Uint8Array.of(0xc1));
      expect(world.server.last.closedByClient?.code).toBe(3000);
    });
  });

  describe("disconnecting", () => {
    it("keeps what waits, leaves no timer, and goes on at connect", async () => {
      const world = createFakeWorld();
      const client = await connected(world);
      client.disconnect();
      const promise = client.channel(ROOM).publish(1);
      await world.clock.advance(100_000);
      expect([client.state, world.clock.numTimers]).toEqual(["offline", 0]);
      client.connect();
      await world.clock.advance(0);
      await expect(promise).resolves.toMatchObject({ offset: 1 });
    });
  });

  describe("tokens", () => {
    it("come from the application, before the first dial", async () => {
      const world = createFakeWorld();
      const client = await connected(world, async () => "t1");
      expect(client.state).toBe("connected");
    });

    it("are asked for again when one is refused, and once only: then it waits for a new login", async () => {
      const world = createFakeWorld();
      world.server.badTokens.add("old");
      let asked = 0;
      const client = await connected(world, () => {
        asked += 1;
        return "old";
      });
      await world.clock.advance(3_600_000);
      expect([client.state, asked, client.status.code]).toEqual(["needs-auth", 2, 4401]);
      client.setToken("new");
      await world.clock.advance(0);
      expect(client.state).toBe("connected");
    });

    it("that cannot be had now are asked for again; one that never comes is not waited for for ever", async () => {
      const world = createFakeWorld();
      const answers = [
        () => Promise.reject(new Error("offline")),
        () => new Promise<string>(() => undefined),
        () => Promise.resolve("t1"),
      ];
      const client = await connected(world, () => (answers.shift() ?? (() => Promise.resolve("t")))());
      expect(client.status).toMatchObject({ state: "offline", reason: "Error: offline" });
      await world.clock.advance(32_000);
      expect(client.state).toBe("connected");
      expect(answers).toEqual([]);
    });

    it("are refreshed in place before they run out", async () => {
      const world = createFakeWorld();
      const minute = 60_000;
      let asked = 0;
      const client = await connected(world, () => {
        asked += 1;
        return tokenUntil(world.clock.wallNow() + 10 * minute);
      });
      const sent: string[] = [];
      const answer = world.server.last.onMessage;
      world.server.last.onMessage = (kind, body) => {
        sent.push(kind);
        answer?.(kind, body);
      };
      await world.clock.advance(8.9 * minute);
      expect([asked, sent.includes("auth")]).toEqual([1, false]);
      await world.clock.advance(0.2 * minute);
      expect([asked, sent.includes("auth"), client.state]).toEqual([2, true, "connected"]);
      expect(world.server.ends).toHaveLength(1);
      client.close();
      await world.clock.advance(25_000);
      expect(world.clock.numTimers).toBe(0);
    });

    it.each(["the old one", "none", "an error"])(
      "are refreshed later when the application has %s now",
      async (what) => {
        const world = createFakeWorld();
        const minute = 60_000;
        const old = tokenUntil(world.clock.wallNow() + 10 * minute);
        const fresh = tokenUntil(world.clock.wallNow() + 20 * minute);
        const later = () => {
          if (what === "an error") throw new Error("the network");
          return what === "none" ? null : old;
        };
        const answers = [() => old, later, later];
        const askedAt: number[] = [];
        const client = await connected(world, () => {
          askedAt.push(world.clock.now() / minute);
          return (answers.shift() ?? (() => fresh))();
        });
        const told: unknown[] = [];
        const answer = world.server.last.onMessage;
        world.server.last.onMessage = (kind, body) => {
          if (kind === "auth") told.push(body["token"]);
          answer?.(kind, body);
        };
        await world.clock.advance(12 * minute);
        // A minute before it runs out, then at four fifths of what is left, then as seldom as it may.
        expect(askedAt.slice(0, 4)).toEqual([0, 9, 9.8, 10.3]);
        expect([told, client.state, world.server.ends.length]).toEqual([[fresh], "connected", 1]);
        client.close();
      },
    );

    it("say when they run out only if they are JWTs that do", () => {
      expect(expiryOf(tokenUntil(5000))).toBe(5000);
      for (const token of ["", "opaque", "a.b.c", `h.${btoa("{}")}.s`, `h.${btoa("3")}.s`]) {
        expect(expiryOf(token)).toBeNull();
      }
    });
  });
});
