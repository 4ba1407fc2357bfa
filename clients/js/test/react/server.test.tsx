// @vitest-environment node
import type { ReactNode } from "react";
import { renderToString } from "react-dom/server";
import { describe, expect, it } from "vitest";
import { type Client, createClient } from "../../src/index.ts";
import { SyncProvider, useChannel, useConnection, useOthers, usePresence } from "../../src/react/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

const ROOM = "demo:room";

function Everything() {
  const { state } = useConnection();
  const channel = useChannel(ROOM, { onEvent: () => undefined });
  const others = useOthers(ROOM, (members) => members.length);
  const [mine] = usePresence(ROOM, { cursor: [1, 2] });
  return `${state}, ${channel.state}, ${others}, ${mine.cursor.length}`;
}

const page = (client: Client | null, children: ReactNode = <Everything />) =>
  renderToString(<SyncProvider client={client}>{children}</SyncProvider>);

describe("on a server", () => {
  it("renders what is there before anything is known, without a socket, a timer or a browser", async () => {
    expect(globalThis).not.toHaveProperty("document");
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    expect(page(client)).toBe("idle, unsubscribed, 0, 2");
    await world.clock.advance(60_000);
    expect([world.server.ends.length, world.clock.numTimers, client.state]).toEqual([0, 0, "idle"]);
  });

  it("renders the same without a client", () => {
    expect(page(null)).toBe("idle, unsubscribed, 0, 2");
  });

  it("renders the same whatever a client knows already: the browser takes over from that", async () => {
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    client.connect();
    client.channel(ROOM).subscribe({});
    await world.clock.advance(0);
    expect([client.state, client.channel(ROOM).state]).toEqual(["connected", "subscribed"]);
    expect(page(client)).toBe("idle, unsubscribed, 0, 2");
  });
});
