// @vitest-environment happy-dom
import { act, render } from "@testing-library/react";
import { StrictMode } from "react";
import { describe, expect, it, vi } from "vitest";
import { type ChannelsClient, createClient } from "../../src/channels/index.ts";
import {
  SyncProvider,
  useBroadcastInvalidation,
  useCacheRebuild,
  useChannel,
  useClient,
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
import { connectedClient } from "./world.tsx";

const ROOM = "demo:room";

function stageOfChannels() {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment });
  return { world, client };
}

describe("a client of channels in components", () => {
  it("is connected, tells its state, hears events, and shows who is present", async () => {
    const { world, client } = stageOfChannels();
    const heard: unknown[] = [];
    const Room = () => {
      const own = useClient<ChannelsClient>();
      const { state } = useChannel(ROOM, { onEvent: ({ data }) => heard.push(data) });
      const others = useOthers(ROOM, (members) => members.map(({ states }) => states[0]?.state).join());
      const [mine] = usePresence(ROOM, "mine");
      return [useConnection().state, own.channel(ROOM).name, state, others, mine].join(" ");
    };
    const { container } = render(
      <StrictMode>
        <SyncProvider client={client}>
          <Room />
        </SyncProvider>
      </StrictMode>,
    );
    await act(() => world.clock.advance(0));
    const other = await act(() => connectedClient(world));
    await act(async () => void (await other.channel(ROOM).presence.set("theirs")));
    await act(() => world.clock.advance(1_000));
    expect(container.textContent).toBe("connected demo:room subscribed theirs mine");
    await act(async () => void (await client.channel(ROOM).publish(1)));
    expect(heard).toEqual([1]);
    await act(async () => client.close());
    expect(container.textContent).toMatch(/^closed demo:room ended/);
  });

  it.each([
    ["useCollection", () => useCollection("orders").status],
    ["useEntity", () => String(useEntity("orders", "a"))],
    ["usePending", () => usePending("orders", "a").length],
    ["useMutate", () => useMutate("orders.ship").status],
    ["useSyncStatus", () => useSyncStatus().status],
    ["useCacheRebuild", () => useCacheRebuild("orders").state],
    ["useBroadcastInvalidation", () => String(useBroadcastInvalidation({ "*": () => undefined }))],
  ] as const)("does not do for %s, which says what does", (_, Hook: () => string | number) => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const { client } = stageOfChannels();
    const show = () =>
      render(
        <SyncProvider client={client}>
          <Hook />
        </SyncProvider>,
      );
    expect(show).toThrow("<SyncProvider> was given a client of channels alone.");
  });
});
