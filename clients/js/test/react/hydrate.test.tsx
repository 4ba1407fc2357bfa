// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { createClient } from "../../src/index.ts";
import { SyncProvider, useChannel, useConnection } from "../../src/react/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";
import "./world.tsx";

function Look() {
  return `${useConnection().state} ${useChannel("demo:room").state}`;
}

it("takes over what a server rendered without a complaint, also with a client that is connected", async () => {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment });
  client.connect();
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
  expect(container.textContent).toBe("idle unsubscribed");
  const complaints: unknown[] = [];
  const root = await act(async () =>
    hydrateRoot(container, tree(client), { onRecoverableError: (error) => complaints.push(error) }),
  );
  await act(() => world.clock.advance(0));
  expect([container.textContent, complaints]).toEqual(["connected subscribed", []]);
  await act(async () => root.unmount());
});
