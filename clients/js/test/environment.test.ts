/** What a client finds on its platform when nothing is given: the browser's events, and where errors go. */

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createClient } from "../src/index.ts";
import { completeEnvironment, type Environment } from "../src/shell/environment.ts";
import { createFakeWorld, type FakeWorld } from "../src/testing/index.ts";

/** What events come from, and who listens. */
class Source {
  readonly #listeners = new Map<string, Set<() => void>>();

  get numListeners(): number {
    return [...this.#listeners.values()].reduce((sum, { size }) => sum + size, 0);
  }

  readonly addEventListener = (type: string, listener: () => void): void => {
    this.#listeners.set(type, (this.#listeners.get(type) ?? new Set()).add(listener));
  };

  readonly removeEventListener = (type: string, listener: () => void): void => {
    this.#listeners.get(type)?.delete(listener);
  };

  tell(type: string): void {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) listener();
  }
}

class Page extends Source {
  visibilityState = "visible";
}

let page: Page;
let frame: Source;
let world: FakeWorld;

beforeEach(() => {
  [page, frame, world] = [new Page(), new Source(), createFakeWorld()];
  vi.stubGlobal("document", page);
  vi.stubGlobal("addEventListener", frame.addEventListener);
  vi.stubGlobal("removeEventListener", frame.removeEventListener);
});

afterEach(() => {
  vi.unstubAllGlobals();
});

/** A client of the fake world that takes from its platform what is named. */
function made(...fromPlatform: (keyof Environment)[]) {
  const given = Object.entries(world.environment).filter(([name]) => !fromPlatform.includes(name as never));
  const environment = Object.fromEntries(given) as Partial<Environment>;
  return createClient({ url: "ws://x/ws", environment });
}

async function connected(...fromPlatform: (keyof Environment)[]) {
  const client = made(...fromPlatform);
  client.connect();
  await world.clock.advance(0);
  expect(client.state).toBe("connected");
  return client;
}

describe("a page", () => {
  it.each([
    ["visibilitychange", () => page],
    ["resume", () => page],
    ["focus", () => frame],
    ["online", () => frame],
    ["offline", () => frame],
  ] as const)("that tells %s has the connection probed, and a dead one replaced", async (type, source) => {
    const client = await connected("listen");
    world.server.last.goSilent();
    source().tell(type);
    await world.clock.advance(5_000);
    expect([client.state, world.server.ends.length]).toEqual(["connected", 2]);
    client.close();
  });

  it("that is hidden is no reason for a probe", async () => {
    const client = await connected("listen");
    world.server.last.goSilent();
    page.visibilityState = "hidden";
    page.tell("visibilitychange");
    await world.clock.advance(5_000);
    expect(world.server.ends).toHaveLength(1);
    client.close();
  });

  it("that is left has no connection until it is shown again", async () => {
    const client = await connected("listen");
    frame.tell("pagehide");
    expect([client.state, world.server.last.closedByClient?.code]).toEqual(["offline", 1000]);
    frame.tell("pageshow");
    await world.clock.advance(0);
    expect(client.state).toBe("connected");
    client.close();
  });

  it("is listened to from the first connect to the end", async () => {
    const client = createClient({
      url: "ws://x/ws",
      environment: { WebSocket: world.environment.WebSocket },
    });
    expect([page.numListeners, frame.numListeners]).toEqual([0, 0]);
    client.connect();
    client.connect();
    expect([page.numListeners, frame.numListeners]).toEqual([2, 5]);
    client.disconnect();
    client.close();
    expect([page.numListeners, frame.numListeners]).toEqual([0, 0]);
  });

  it("need not be there: a server has no events to hear", async () => {
    vi.unstubAllGlobals();
    const client = await connected("listen");
    client.close();
    expect(client.state).toBe("closed");
  });
});

describe("what a listener of the application throws", () => {
  const thrown = new Error("of the application");

  it("goes to the platform's reportError", async () => {
    const reported: unknown[] = [];
    vi.stubGlobal("reportError", (error: unknown) => reported.push(error));
    const client = await connected("reportError");
    const states: string[] = [];
    client.onState(() => {
      throw thrown;
    });
    client.onState(({ state }) => states.push(state));
    client.close();
    expect([reported, states]).toEqual([[thrown], ["closed"]]);
  });

  it("is thrown by a turn of its own where there is none, as Node has none", () => {
    const turns: (() => void)[] = [];
    vi.stubGlobal("reportError", undefined);
    vi.stubGlobal("setTimeout", (run: () => void) => turns.push(run));
    completeEnvironment({ WebSocket: world.environment.WebSocket }).reportError(thrown);
    vi.unstubAllGlobals();
    expect(turns).toHaveLength(1);
    expect(turns[0]).toThrow(thrown);
  });
});
