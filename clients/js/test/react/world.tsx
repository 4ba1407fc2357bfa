/** A fake world, a client in it, and components in StrictMode under its provider. */

import { act, cleanup, type RenderResult, render } from "@testing-library/react";
import { type ReactNode, StrictMode } from "react";
import { afterEach, expect } from "vitest";
import { type Client, createClient } from "../../src/index.ts";
import { SyncProvider } from "../../src/react/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

/** What is shown, and what moves it. */
export interface Stage {
  readonly world: FakeWorld;
  readonly client: Client;
  /** What the client sent, by kind, since the last `sent.length = 0`. */
  readonly sent: { kind: string; body: Record<string, unknown> }[];
  /** Show these in place of what was shown. */
  show(children: ReactNode): void;
  /** What is to be read. */
  text(): string;
  /** Let time pass, and React follow. */
  advance(ms: number): Promise<void>;
  /** Do something of the server's or the application's, and let React follow. */
  run(change: () => void): Promise<void>;
  readonly view: RenderResult;
}

afterEach(() => cleanup());

/** Note what a client sends from its newest connection on. */
export function listenIn(world: FakeWorld, sent: Stage["sent"]): void {
  const { last } = world.server;
  const answer = last.onMessage;
  last.onMessage = (kind, body) => {
    if (kind !== "pong" && kind !== "hello") sent.push({ kind, body });
    answer?.(kind, body);
  };
}

/** Another client in a world, connected. */
export async function connectedClient({ environment, clock }: FakeWorld): Promise<Client> {
  const client = createClient({ url: "ws://x/ws", environment });
  client.connect();
  await clock.advance(0);
  return client;
}

/** Show components in StrictMode under a provider, with the client connected. */
export async function stage(children: ReactNode = null): Promise<Stage> {
  const world = createFakeWorld();
  const client = createClient({ url: "ws://x/ws", environment: world.environment });
  const inTree = (nodes: ReactNode) => (
    <StrictMode>
      <SyncProvider client={client}>{nodes}</SyncProvider>
    </StrictMode>
  );
  const view = render(inTree(null));
  const advance = (ms: number) => act(() => world.clock.advance(ms));
  await advance(0);
  expect([client.state, world.server.ends.length]).toEqual(["connected", 1]);
  const sent: Stage["sent"] = [];
  listenIn(world, sent);
  const show = (nodes: ReactNode) => view.rerender(inTree(nodes));
  show(children);
  await advance(0);
  return {
    world,
    client,
    sent,
    show,
    text: () => view.container.textContent ?? "",
    advance,
    run: (change) => act(async () => change()),
    view,
  };
}
