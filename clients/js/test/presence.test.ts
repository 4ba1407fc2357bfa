/** Presence as the fake world has it: SPEC section 9, on the wire and as clients show it. */

import { beforeEach, describe, expect, it } from "vitest";
import { createClient, type Member } from "../src/index.ts";
import { createFakeWorld, type FakeSocket, type FakeWorld } from "../src/testing/index.ts";
import { decodeFrame } from "../src/wire/decode.ts";
import { encodeMessage } from "../src/wire/encode.ts";

const ROOM = "demo:room";

let world: FakeWorld;

beforeEach(() => {
  world = createFakeWorld();
  world.server.presence.userOf = (token) => token;
});

/** A session by hand: what it says, and what it is told. */
class Raw {
  readonly told: Record<string, unknown>[] = [];
  readonly socket: FakeSocket;
  client = "";
  secret = "";

  constructor() {
    this.socket = new world.environment.WebSocket("ws://test/ws", "syncd.v1") as FakeSocket;
    this.socket.onmessage = ({ data }: { data: ArrayBuffer }) => this.#take(new Uint8Array(data));
  }

  #take(frame: Uint8Array): void {
    for (const [kind, body] of decodeFrame(frame)) {
      if (kind === "ping") this.say("pong", {});
      if (kind === "welcome") {
        const [state] = body["clients"] as { client: string; secret?: string }[];
        this.client = state?.client ?? "";
        this.secret = state?.secret ?? "";
      }
      if (kind.startsWith("presence") || kind === "error") this.told.push({ kind, ...body });
    }
  }

  say(kind: string, body: object): void {
    this.socket.send(encodeMessage(kind, body).bytes);
  }

  announce(state: unknown, fields: object = {}): void {
    this.say("presence", { id: 1, channel: ROOM, state, ...fields });
  }

  /** Take what was told. */
  next(): Record<string, unknown>[] {
    return this.told.splice(0);
  }
}

async function opened(token: string | null = null, clients: object[] | null = null): Promise<Raw> {
  const raw = new Raw();
  await world.clock.advance(0);
  raw.say("hello", { v: 1, token, clients });
  return raw;
}

async function watching(): Promise<Raw> {
  const raw = await opened();
  raw.say("subscribe", { id: 2, channel: ROOM, presence: true });
  return raw;
}

const one = ({ client }: Raw, state: unknown) => ({ member: client, states: [{ client, state }] });

const diff = (seq: number, changes: object) => ({
  kind: "presence_diff",
  channel: ROOM,
  seq,
  joins: [],
  updates: [],
  leaves: [],
  ...changes,
});

describe("whoever subscribes with presence", () => {
  it("is told who is there, and then each change, numbered", async () => {
    const ann = await opened();
    ann.announce("a");
    await world.clock.advance(100);
    const watcher = await watching();
    const members = [one(ann, "a")];
    expect(watcher.next()).toEqual([{ kind: "presence_state", channel: ROOM, seq: 1, members }]);
    const bob = await opened();
    bob.announce("b");
    await world.clock.advance(100);
    ann.announce("a2");
    await world.clock.advance(100);
    bob.announce(null);
    await world.clock.advance(100);
    expect(watcher.next()).toEqual([
      diff(2, { joins: [one(bob, "b")] }),
      diff(3, { updates: [one(ann, "a2")] }),
      diff(4, { leaves: [bob.client] }),
    ]);
    expect(world.server.presence.members(ROOM)).toEqual([one(ann, "a2")]);
  });

  it("is told changes in one piece, and none of what was taken back meanwhile", async () => {
    const [watcher, ann, bob] = [await watching(), await opened(), await opened()];
    watcher.next();
    ann.announce(1);
    bob.announce(1);
    await world.clock.advance(99);
    expect(watcher.next()).toEqual([]);
    ann.announce(2);
    bob.announce(null);
    await world.clock.advance(1);
    expect(watcher.next()).toEqual([diff(1, { joins: [one(ann, 2)] })]);
    ann.announce(3);
    ann.announce(2);
    await world.clock.advance(1_000);
    expect(watcher.next()).toEqual([]);
  });

  it("may be told everything anew at any time, and what changes after that", async () => {
    const [watcher, ann] = [await watching(), await opened()];
    ann.announce(1);
    watcher.next();
    world.server.presence.tellAll(ROOM);
    const members = [one(ann, 1)];
    expect(watcher.next()).toEqual([{ kind: "presence_state", channel: ROOM, seq: 1, members }]);
    await world.clock.advance(100);
    ann.announce(2);
    await world.clock.advance(100);
    expect(watcher.next()).toEqual([diff(2, { updates: [one(ann, 2)] })]);
  });

  it("is told no more once it has unsubscribed; others are not told at all", async () => {
    const [watcher, plain, ann] = [await watching(), await opened(), await opened()];
    plain.say("subscribe", { id: 2, channel: ROOM });
    watcher.next();
    watcher.say("unsubscribe", { id: 3, channel: ROOM });
    ann.announce(1);
    await world.clock.advance(100);
    expect([...watcher.next(), ...plain.next()]).toEqual([]);
  });
});

describe("a member", () => {
  it("is a user with a state for each client, and leaves with the last of them", async () => {
    const [watcher, desk, phone] = [await watching(), await opened("ann"), await opened("ann")];
    watcher.next();
    const state = ({ client }: Raw) => ({ client, state: "here" });
    desk.announce("here");
    await world.clock.advance(100);
    phone.announce("here");
    await world.clock.advance(100);
    desk.announce(null);
    await world.clock.advance(100);
    phone.announce(null);
    await world.clock.advance(100);
    const ann = { member: "ann", user: "ann" };
    expect(watcher.next()).toEqual([
      diff(1, { joins: [{ ...ann, states: [state(desk)] }] }),
      diff(2, { updates: [{ ...ann, states: [state(desk), state(phone)] }] }),
      diff(3, { updates: [{ ...ann, states: [state(phone)] }] }),
      diff(4, { leaves: ["ann"] }),
    ]);
  });

  it.each([
    ["drops", (raw: Raw) => raw.socket.end.drop()],
    ["is closed by its client", (raw: Raw) => raw.socket.close(1000)],
  ])("whose connection %s is in view for 15 s", async (_how, end) => {
    const [watcher, ann] = [await watching(), await opened()];
    ann.announce(1);
    await world.clock.advance(100);
    watcher.next();
    end(ann);
    await world.clock.advance(15_099);
    expect(watcher.next()).toEqual([]);
    await world.clock.advance(1);
    expect(watcher.next()).toEqual([diff(2, { leaves: [ann.client] })]);
  });

  it("is in view for as long as a test says, without a diff that is gathered if it says so", async () => {
    const { presence } = world.server;
    presence.graceMs = 1_000;
    presence.diffMs = 0;
    const [watcher, ann] = [await watching(), await opened()];
    ann.announce(1);
    await world.clock.advance(0);
    expect(watcher.next()).toHaveLength(2);
    ann.socket.end.drop();
    await world.clock.advance(1_000);
    expect(watcher.next()).toEqual([diff(2, { leaves: [ann.client] })]);
  });

  it("that comes back in time and announces the same never left", async () => {
    const [watcher, ann] = [await watching(), await opened()];
    ann.announce(1);
    await world.clock.advance(100);
    watcher.next();
    ann.socket.end.drop();
    await world.clock.advance(14_000);
    const again = await opened(null, [{ client: ann.client, secret: ann.secret }]);
    again.announce(1);
    await world.clock.advance(60_000);
    expect(watcher.next()).toEqual([]);
  });

  it("that another session speaks for leaves unless that one announces it", async () => {
    const [watcher, ann] = [await watching(), await opened()];
    ann.announce(1);
    await world.clock.advance(100);
    watcher.next();
    ann.socket.end.goSilent();
    await opened(null, [{ client: ann.client, secret: ann.secret }]);
    await world.clock.advance(15_100);
    expect(watcher.next()).toEqual([diff(2, { leaves: [ann.client] })]);
  });

  it.each([
    ["line goes dead", (raw: Raw) => raw.socket.end.goSilent()],
    [
      "client hears nothing and says nothing",
      (raw: Raw) => {
        raw.socket.end.isMuted = true;
      },
    ],
  ])("whose %s is gone within 50 s", async (_what, silence) => {
    const ann = await opened();
    ann.announce(1);
    silence(ann);
    await world.clock.advance(20_000);
    expect(world.server.presence.members(ROOM)).toHaveLength(1);
    await world.clock.advance(30_000);
    expect(world.server.presence.members(ROOM)).toEqual([]);
  });

  it.each([true, false])("is forgotten when the server restarts (with its store: %s)", async (keepsStore) => {
    const ann = await opened();
    ann.announce(1);
    world.server.restart({ keepsStore });
    expect(world.server.presence.members(ROOM)).toEqual([]);
    const watcher = await watching();
    await world.clock.advance(60_000);
    expect(watcher.next()).toEqual([{ kind: "presence_state", channel: ROOM, seq: 0, members: [] }]);
  });

  it.each([
    ["client_denied", "for another client", 1, { client: "client-7" }],
    ["too_large", "of more than 4 KiB", "x".repeat(4_096), {}],
  ])("is refused with %s: a state %s", async (code, _what, state, fields) => {
    const ann = await opened();
    ann.announce(state, fields);
    expect(ann.next()).toMatchObject([{ kind: "error", id: 1, code, retryable: false }]);
    expect(world.server.presence.members(ROOM)).toEqual([]);
  });
});

describe("clients in the fake world", () => {
  async function connected(token: string) {
    const client = createClient({
      url: "ws://test/ws",
      environment: world.environment,
      getToken: () => token,
    });
    client.connect();
    await world.clock.advance(0);
    return client.channel(ROOM).presence;
  }

  it("see each other come, change, drop without a flicker, and go", async () => {
    const told: unknown[] = [];
    const ann = await connected("ann");
    ann.subscribe((others: readonly Member[]) =>
      told.push(others.map(({ user, states }) => [user, states[0]?.state])),
    );
    await ann.set("away");
    const bob = await connected("bob");
    void bob.set({ x: 1 });
    await world.clock.advance(100);
    void bob.set({ x: 2 });
    await world.clock.advance(100);
    world.server.dropAll();
    await world.clock.advance(14_000);
    void bob.leave();
    await world.clock.advance(100);
    expect(told).toEqual([[], [["bob", { x: 1 }]], [["bob", { x: 2 }]], [["bob", { x: 2 }]], []]);
  });
});
