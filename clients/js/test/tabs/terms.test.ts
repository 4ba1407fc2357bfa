/** The fence of terms: what is said under a lower one counts no more, in the browser and at the server. */

import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FakeSocket } from "../../src/testing/index.ts";
import type { Body } from "../../src/wire/decode.ts";
import { encodeMessage } from "../../src/wire/encode.ts";
import { FakeBrowser, FakeChannel, FakeTab } from "./browser.ts";

let browser: FakeBrowser;
/** What every session said first. */
let hellos: Body[];

beforeEach(() => {
  browser = new FakeBrowser();
  hellos = [];
  const { server } = browser.world;
  const dialled = server.dialled.bind(server);
  server.dialled = (end) => {
    dialled(end);
    const open = end.open.bind(end);
    end.open = () => {
      const take = end.onMessage;
      end.onMessage = (kind, body) => {
        if (kind === "hello") hellos.push(body);
        take?.(kind, body);
      };
      open();
    };
  };
});

afterEach(() => {
  expect(browser.complaints).toEqual([]);
});

async function opened(num: number): Promise<FakeTab[]> {
  const tabs = Array.from({ length: num }, () => browser.tab());
  await browser.pass(1_000);
  return tabs;
}

const roleOf = (role: string, tabs: readonly FakeTab[]): FakeTab => {
  const found = tabs.filter((tab) => tab.tabs.role === role && !tab.isDead);
  expect(found).toHaveLength(1);
  return found[0] as FakeTab;
};

const termOf = (hello: Body | undefined): number => hello?.["term"] as number;

/** Name of the tabs' channel, which those of their locks begin with. */
const nameOfAll = (): string => browser.locks.held.find((name) => name.endsWith(" lead"))?.slice(0, -5) ?? "";

const idOf = (tab: FakeTab): string =>
  browser.locks
    .of(tab.locks)
    .find((name) => name.includes(" tab "))
    ?.split(" ")
    .at(-1) ?? "";

/** A page that says to all tabs whatever a test has it say, and everything it heard. */
function stranger(): { channel: FakeChannel; heard: unknown[] } {
  const channel = new FakeChannel(browser, new FakeTab(browser), nameOfAll());
  const heard: unknown[] = [];
  channel.onmessage = ({ data }: { data: unknown }) => heard.push(data);
  return { channel, heard };
}

describe("what is said under a lower term", () => {
  it("makes nobody a follower's leader", async () => {
    const follower = roleOf("follower", await opened(2));
    follower.states.length = 0;
    // Straight into its ear: the leader, which would set it right, has not heard it yet.
    for (const { onmessage } of follower.channels) onmessage?.({ data: { say: "lead", term: 1 } } as never);
    follower.client.disconnect();
    follower.client.connect();
    await browser.pass(3_000);
    expect(follower.states).toEqual(["offline", "connecting", "connected"]);
  });

  it("is answered by the leader, and not passed on", async () => {
    const tabs = await opened(2);
    const { channel, heard } = stranger();
    channel.postMessage({ say: "lead", term: 1 });
    const publish = { id: 99, channel: "demo:a", data: "late", uid: "u" };
    const { bytes: data } = encodeMessage("publish", publish);
    for (const [from, term] of [
      [idOf(roleOf("follower", tabs)), 1],
      [idOf(roleOf("follower", tabs)), termOf(hellos[0]) + 1],
    ]) {
      channel.postMessage({ say: "up", from, term, turn: 1, data });
    }
    await browser.pass(50);
    expect(heard).toContainEqual({ say: "lead", term: termOf(hellos[0]) });
    expect(browser.world.server.events("demo:a")).toEqual([]);
    expect(tabs.map(({ client }) => client.state)).toEqual(["connected", "connected"]);
  });
});

describe("a leader", () => {
  it.each(["leader", "follower"] as const)(
    "steps back when the server has heard a higher term; what it refused the %s is done through the next",
    async (who) => {
      const tabs = await opened(2);
      const [old, other] = [roleOf("leader", tabs), roleOf("follower", tabs)];
      // One that the tabs do not hear leads the same browser's tabs, as far as the server knows.
      const rival = new FakeSocket("ws://test/ws", "", browser.world.server);
      const hello = {
        v: 1,
        token: null,
        clients: null,
        group: hellos[0]?.["group"],
        term: termOf(hellos[0]) + 1,
      };
      rival.onopen = () => rival.send(encodeMessage("hello", hello).bytes);
      await browser.pass(50);
      const { server } = (who === "leader" ? old : other).client.collection("orders").put("a", 1);
      await browser.pass(3_000);
      await server;
      expect([old.tabs.role, other.tabs.role]).toEqual(["follower", "leader"]);
      expect(tabs.map(({ client }) => client.state)).toEqual(["connected", "connected"]);
      expect(termOf(hellos.at(-1))).toBeGreaterThan(hello.term);
    },
  );

  it.each(["bye", "close"] as const)(
    "steps back when its clients are taken over, as a %s says: no tab fails of it",
    async (how) => {
      const tabs = await opened(3);
      const old = roleOf("leader", tabs);
      const { last } = browser.world.server;
      const reason = "A newer connection took over.";
      if (how === "bye") last.send("bye", { code: 4504, reason, reconnect: false, after_ms: 0 });
      else last.close(4504, reason);
      await browser.pass(3_000);
      for (const { states } of tabs)
        expect([states.includes("failed"), states.at(-1)]).toEqual([false, "connected"]);
      expect([old.tabs.role, browser.numConnected]).toEqual(["follower", 1]);
    },
  );

  it("tells a higher term than those who are all gone, also when the clock went back", async () => {
    // Nobody is left from whom it could hear it: what is kept says it.
    for (const _ of [1, 2, 3]) {
      const [only] = await opened(1);
      only?.client.collection("orders").put("a", 1);
      await browser.pass(1_000);
      expect(only?.client.numPending).toBe(0);
      only?.kill();
      browser.world.clock.wallOffsetMs -= 3_600_000;
    }
    const terms = hellos.map(termOf);
    expect(terms.map((term) => term - (terms[0] ?? 0))).toEqual([0, 1, 2]);
  });

  it("tells the group of those before it: only so does the server know whose term is higher", async () => {
    const tabs = await opened(3);
    for (const _ of [1, 2]) {
      roleOf("leader", tabs).kill();
      await browser.pass(3_000);
    }
    expect(hellos.map(termOf)).toHaveLength(3);
    const kept = browser.kept.get(`${nameOfAll()} group`);
    expect(new Set(hellos.map(({ group }) => group))).toEqual(new Set([kept]));
  });

  it("tells a higher term than it has heard where nothing may be kept, also when the clock went back", async () => {
    browser.kept.getItem = browser.kept.setItem = () => {
      throw new Error("SecurityError");
    };
    const tabs = await opened(2);
    browser.world.clock.wallOffsetMs -= 3_600_000;
    roleOf("leader", tabs).kill();
    await browser.pass(3_000);
    expect(roleOf("leader", tabs).client.state).toBe("connected");
    expect(termOf(hellos[1])).toBe(termOf(hellos[0]) + 1);
  });
});
