// @vitest-environment node
import type { ReactNode } from "react";
import { renderToString } from "react-dom/server";
import { describe, expect, it } from "vitest";
import { type ChannelsClient, createClient as createChannelsClient } from "../../src/channels/index.ts";
import { createClient } from "../../src/index.ts";
import {
  SyncProvider,
  useBroadcastInvalidation,
  useCacheRebuild,
  useChannel,
  useCollection,
  useConnection,
  useEntity,
  useMutate,
  useOthers,
  usePending,
  usePresence,
  useSyncStatus,
} from "../../src/react/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

const ROOM = "demo:room";

function Everything() {
  const { state } = useConnection();
  const channel = useChannel(ROOM, { onEvent: () => undefined });
  const others = useOthers(ROOM, (members) => members.length);
  const [mine] = usePresence(ROOM, { cursor: [1, 2] });
  useBroadcastInvalidation({ "*": () => undefined });
  const { status, entries } = useCollection("orders");
  const numOpen = useCollection("orders", (view) => view.entries.length);
  const rebuild = useCacheRebuild("orders");
  const states = [
    [state, channel.state, others, mine.cursor.length],
    [status, entries.length, numOpen, useEntity("orders", "a"), usePending("orders", "a").length],
    [useMutate("orders.ship").status, useSyncStatus().status, useCollection(null).status],
    [rebuild.state, rebuild.isOperator, rebuild.canStart, useCacheRebuild(null).state],
  ];
  return states.map((of) => of.map(String).join(" ")).join(", ");
}

const EMPTY = "idle unsubscribed 0 2, loading 0 0 undefined 0, idle synchronized idle, idle null false idle";

const page = (client: ChannelsClient | null, children: ReactNode = <Everything />) =>
  renderToString(<SyncProvider client={client}>{children}</SyncProvider>);

describe("on a server", () => {
  it("renders what is there before anything is known, without a socket, a timer or a browser", async () => {
    expect(globalThis).not.toHaveProperty("document");
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    expect(page(client)).toBe(EMPTY);
    await world.clock.advance(60_000);
    expect([world.server.ends.length, world.clock.numTimers, client.state]).toEqual([0, 0, "idle"]);
  });

  it("renders the hooks of channels with a client that has channels alone, and refuses the others", () => {
    const world = createFakeWorld();
    const client = createChannelsClient({ url: "ws://x/ws", environment: world.environment });
    const OfChannels = () => {
      const [mine] = usePresence(ROOM, "mine");
      return [useConnection().state, useChannel(ROOM).state, useOthers(ROOM).length, mine].join(" ");
    };
    expect(page(client, <OfChannels />)).toBe("idle unsubscribed 0 mine");
    expect(() => page(client)).toThrow("<SyncProvider> was given a client of channels alone.");
    expect([world.server.ends.length, world.clock.numTimers, client.state]).toEqual([0, 0, "idle"]);
  });

  it("renders the same without a client", () => {
    expect(page(null)).toBe(EMPTY);
  });

  it("renders the same whatever a client knows already: the browser takes over from that", async () => {
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    client.connect();
    client.channel(ROOM).subscribe({});
    client.collection("orders").watch();
    world.server.entries.isDeciding = false;
    client.mutate("orders.put", { key: "a", value: 1 });
    await world.clock.advance(0);
    expect([client.state, client.channel(ROOM).state]).toEqual(["connected", "subscribed"]);
    expect([client.collection("orders").get("a"), client.numPending]).toEqual([1, 1]);
    const sent: string[] = [];
    world.server.last.onMessage = (kind) => sent.push(kind);
    expect(page(client)).toBe(EMPTY);
    await world.clock.advance(1_000);
    expect(sent).toEqual([]);
  });
});
