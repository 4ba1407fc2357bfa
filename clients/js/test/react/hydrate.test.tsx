// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { createClient } from "../../src/index.ts";
import { SyncProvider, useChannel, useCollection, useConnection, useEntity } from "../../src/react/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";
import "./world.tsx";

function Look() {
  const { status, entries } = useCollection<number>("orders");
  const [connection, channel] = [useConnection(), useChannel("demo:room")];
  return `${connection.state} ${channel.state} ${status} ${entries.length} ${useEntity("orders", "a")}`;
}

it("takes over what a server rendered without a complaint, also with a client that is connected", async () => {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment });
  client.connect();
  client.collection("orders").watch();
  world.server.entries.write("orders", "a", 1);
  await world.clock.advance(0);
  const tree = (given: typeof client | null) => (
    <StrictMode>
      <SyncProvider client={given}>
        <Look />
      </SyncProvider>
    </StrictMode>
  );
  const container = document.createElement("div");
  container.innerHTML = renderToString(tree(null));
  expect(container.textContent).toBe("idle unsubscribed loading 0 undefined");
  const complaints: unknown[] = [];
  const root = await act(async () =>
    hydrateRoot(container, tree(client), { onRecoverableError: (error) => complaints.push(error) }),
  );
  await act(() => world.clock.advance(0));
  expect([container.textContent, complaints]).toEqual(["connected subscribed current 1 1", []]);
  await act(async () => root.unmount());
});
