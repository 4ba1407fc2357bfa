// @vitest-environment happy-dom
import { act, render } from "@testing-library/react";
import { StrictMode } from "react";
import { describe, expect, it, vi } from "vitest";
import { createClient } from "../../src/index.ts";
import { SyncProvider, useChannel, useClient, useConnection, useOthers } from "../../src/react/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";
import { stage } from "./world.tsx";

function Connection() {
  const { state, hasConnected } = useConnection();
  return `${state} ${hasConnected}`;
}

describe("SyncProvider", () => {
  it("connects once it is shown and not while it renders, once in StrictMode", async () => {
    const world = createFakeWorld();
    const client = createClient({ url: "ws://x/ws", environment: world.environment });
    const seen: number[] = [];
    const Look = () => {
      seen.push(world.server.ends.length);
      return null;
    };
    render(
      <StrictMode>
        <SyncProvider client={client}>
          <Look />
        </SyncProvider>
      </StrictMode>,
    );
    expect(seen).toEqual([0, 0]);
    await act(() => world.clock.advance(60_000));
    expect(world.server.ends).toHaveLength(1);
  });

  it("never closes the client, nor connects one that was disconnected on purpose", async () => {
    const { view, client, world, advance, run } = await stage(<Connection />);
    await run(() => client.disconnect());
    view.unmount();
    render(
      <SyncProvider client={client}>
        <Connection />
      </SyncProvider>,
    );
    await advance(60_000);
    expect([client.state, world.server.ends.length]).toEqual(["offline", 1]);
    await run(() => client.connect());
    await advance(0);
    expect(client.state).toBe("connected");
  });

  it("gives nothing away where there is none, and no client where it was given none", () => {
    vi.spyOn(console, "error").mockImplementation(() => undefined);
    const Needs = () => useClient().state;
    expect(() => render(<Connection />)).toThrow(/no <SyncProvider>/);
    expect(() =>
      render(
        <SyncProvider client={null}>
          <Needs />
        </SyncProvider>,
      ),
    ).toThrow(/given no client/);
  });

  it("may be given a client later, and another one", async () => {
    const Look = () =>
      `${useConnection().state} ${useChannel("demo:room").state} ${useOthers("demo:room").length}`;
    const world = createFakeWorld();
    const make = () => createClient({ url: "ws://x/ws", environment: world.environment });
    const [first, second] = [make(), make()];
    const tree = (client: typeof first | null) => (
      <SyncProvider client={client}>
        <Look />
      </SyncProvider>
    );
    const view = render(tree(null));
    expect(view.container.textContent).toBe("idle unsubscribed 0");
    view.rerender(tree(first));
    await act(() => world.clock.advance(1));
    expect(view.container.textContent).toBe("connected subscribed 0");
    view.rerender(tree(second));
    expect(view.container.textContent).toBe("connecting unsubscribed 0");
    await act(() => world.clock.advance(1));
    expect(view.container.textContent).toBe("connected subscribed 0");
    expect([first.state, first.channel("demo:room").state]).toEqual(["connected", "unsubscribed"]);
  });
});

describe("useConnection", () => {
  it("shows every state", async () => {
    const { world, client, text, advance, run } = await stage(<Connection />);
    expect(text()).toBe("connected true");
    await run(() => world.server.dropAll());
    expect(text()).toBe("offline true");
    await advance(20_000);
    expect(text()).toBe("connected true");
    await run(() => client.close());
    expect(text()).toBe("closed true");
  });

  it("does not render for what changes nothing", async () => {
    let numRenders = 0;
    const Counted = () => {
      numRenders += 1;
      return useConnection().state;
    };
    const { client, run } = await stage(<Counted />);
    const before = numRenders;
    await run(() => client.wake());
    expect(numRenders).toBe(before);
  });
});
