import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BEAT_MS } from "../../src/tabs/election.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import { FakeBrowser, FakeTab } from "./browser.ts";

let browser: FakeBrowser;

beforeEach(() => {
  browser = new FakeBrowser();
});

afterEach(() => {
  expect(browser.complaints).toEqual([]);
});

async function opened(num: number): Promise<FakeTab[]> {
  const tabs = Array.from({ length: num }, () => browser.tab());
  await browser.pass(1_000);
  return tabs;
}

const leaderOf = (tabs: readonly FakeTab[]): FakeTab => {
  const leaders = tabs.filter((tab) => tab.tabs.role === "leader" && !tab.isDead);
  expect(leaders).toHaveLength(1);
  return leaders[0] as FakeTab;
};

const othersOf = (tabs: readonly FakeTab[]): FakeTab[] => tabs.filter((tab) => tab !== leaderOf(tabs));

describe("tabs that share a connection", () => {
  it("have one, and each its own client", async () => {
    const tabs = await opened(3);
    expect(tabs.map(({ client }) => client.state)).toEqual(["connected", "connected", "connected"]);
    expect([browser.numConnected, browser.world.server.ends.length]).toEqual([1, 1]);
    expect(new Set(tabs.map(({ client }) => client.clientId)).size).toBe(3);
    expect(tabs.map((tab) => tab.tabs.role).sort()).toEqual(["follower", "follower", "leader"]);
  });

  it("are all told every event, once", async () => {
    const tabs = await opened(3);
    for (let n = 0; n < 5; n++) browser.publish(n);
    await browser.pass(50);
    for (const tab of tabs) expect(tab.told).toEqual([0, 1, 2, 3, 4]);
  });

  /** Locks and channels go different ways: a follower was taken for dead before it was there, and never told anything. */
  it("are not taken for dead by a leader that hears of them before the browser has their locks", async () => {
    await opened(1);
    const late = new FakeTab(browser).listen("demo:a");
    late.locks.arrive = (run) => void browser.world.environment.setTimeout(run, 20);
    late.connect();
    await browser.pass(1_000);
    browser.publish("event");
    await browser.pass(50);
    expect([late.tabs.role, late.told, browser.numConnected]).toEqual(["follower", ["event"], 1]);
  });

  it("publish and ask, each for itself", async () => {
    const tabs = await opened(2);
    const positions = await Promise.all(
      tabs.map(async ({ client }, place) => {
        const published = client.channel("demo:a").publish(`from ${place}`);
        await browser.pass(50);
        return published;
      }),
    );
    expect(positions.map((position) => position?.offset).sort()).toEqual([1, 2]);
    for (const tab of tabs) expect(tab.told).toEqual(["from 0", "from 1"]);
    const history = tabs[1]?.client.channel("demo:a").history();
    await browser.pass(50);
    expect((await history)?.events).toHaveLength(2);
  });

  it("let one leave a channel that the others keep", async () => {
    const [one, two] = await opened(2);
    const off = two?.client.channel("demo:b").subscribe({ onEvent: (event) => two.told.push(event.data) });
    one?.listen("demo:b");
    await browser.pass(50);
    off?.();
    await browser.pass(50);
    browser.world.server.publish("demo:b", "b");
    await browser.pass(50);
    expect([one?.told, two?.told]).toEqual([["b"], []]);
  });

  it("give one that comes later what it missed, from its own position", async () => {
    const [first] = await opened(1);
    for (let n = 1; n <= 400; n++) browser.publish(n);
    await browser.pass(50);
    const late = new FakeTab(browser);
    const epoch = first?.client.channel("demo:a").position?.epoch ?? "";
    for (const [channel, offset] of [
      ["demo:a", 390],
      ["demo:a", 2],
    ] as const) {
      const told: unknown[] = [];
      const stop = late.client
        .channel(channel)
        .subscribe({ onEvent: (event) => told.push(event.data) }, { since: { epoch, offset } });
      late.client.connect();
      await browser.pass(500);
      expect(told).toEqual(Array.from({ length: 400 - offset }, (_, place) => offset + place + 1));
      stop();
      await browser.pass(50);
    }
    browser.publish(401);
    await browser.pass(50);
    expect(first?.told).toEqual(Array.from({ length: 401 }, (_, place) => place + 1));
    expect(browser.numConnected).toBe(1);
  });

  it("come back together when the server was away, and miss nothing", async () => {
    const tabs = await opened(3);
    browser.publish(1);
    await browser.pass(50);
    browser.world.server.isReachable = false;
    browser.world.server.dropAll();
    await browser.pass(3_000);
    expect(tabs.map(({ client }) => client.state).includes("connected")).toBe(false);
    browser.publish(2);
    browser.world.server.isReachable = true;
    await browser.pass(25_000);
    browser.publish(3);
    await browser.pass(50);
    for (const tab of tabs) expect(tab.told).toEqual([1, 2, 3]);
    expect(browser.numConnected).toBe(1);
  });

  /** A frozen one that dialled first when it went on was told the end of its last connection for that of the new one. */
  it("take nothing that was said of a connection that they have ended for the next one", async () => {
    const [late] = othersOf(await opened(2)) as [FakeTab];
    late.freeze();
    browser.world.server.dropAll();
    await browser.pass(50);
    late.states.length = 0;
    late.client.disconnect();
    late.client.connect();
    await browser.pass(0);
    late.thaw();
    await browser.pass(2_000);
    expect(late.states).toEqual(["offline", "connecting", "connected"]);
  });

  /** The newer token was taken for the refused one, or the tab that has it for one that must wait for its application. */
  it("suffer not for the old token of one of them: they come back with theirs, and it with a new one", async () => {
    const { clock, server } = browser.world;
    server.badTokens.add("old");
    const answers = ["old", "new"];
    const slow = browser.tab({ client: () => ({ getToken: () => answers.shift() ?? "new" }) });
    // While the server's word on the old one is on its way, another tab says hello.
    browser.line = {
      carry: (_socket, way, _frame, run) => void clock.setTimeout(run, way === "down" ? 200 : 0),
    };
    await browser.pass(400);
    expect(server.last.isOpen).toBe(false);
    const fresh = browser.tab({ client: () => ({ getToken: () => "new" }) });
    await browser.pass(2_000);
    expect([slow, fresh].map(({ client }) => client.state)).toEqual(["connected", "connected"]);
    expect([answers, slow.states, fresh.states.includes("needs-auth", 1)]).toEqual([
      [],
      ["needs-auth", "connecting", "needs-auth", "connecting", "connected"],
      false,
    ]);
  });

  it("come back with theirs when the server says that the session's token has run out", async () => {
    const { server } = browser.world;
    const [first] = [browser.tab({ client: () => ({ getToken: () => "first" }) })];
    await browser.pass(1_000);
    const second = browser.tab({ client: () => ({ getToken: () => "second" }) });
    await browser.pass(1_000);
    for (const { states } of [first, second]) states.length = 0;
    server.last.send("bye", { code: 4401, reason: "It ran out.", reconnect: true, after_ms: 0 });
    await browser.pass(2_000);
    expect([first.states, second.states]).toEqual([
      ["needs-auth", "connecting", "connected"],
      ["offline", "connecting", "connected"],
    ]);
  });

  it("may try a token again that was refused, when the application says so", async () => {
    const { server } = browser.world;
    server.badTokens.add("only one");
    const tab = browser.tab({ client: () => ({ getToken: () => "only one" }) });
    await browser.pass(2_000);
    expect(tab.client.state).toBe("needs-auth");
    server.badTokens.clear();
    tab.client.connect();
    await browser.pass(1_000);
    expect(tab.client.state).toBe("connected");
  });

  it("are known to be gone when they die, whatever a frozen one is told", async () => {
    const tabs = await opened(3);
    const frozen = leaderOf(tabs);
    frozen.freeze();
    await browser.pass(10_000);
    const dying = tabs.find((tab) => tab !== frozen && tab.tabs.role === "follower");
    await Promise.all([dying?.client.channel("demo:a").presence.set("here"), browser.pass(100)]);
    const said: unknown[] = [];
    browser.line = {
      carry: (_socket, way, frame, run) => {
        if (way === "up" && frame)
          for (const [kind, body] of decodeFrame(frame)) said.push([kind, body["state"]]);
        run();
      },
    };
    dying?.kill();
    await browser.pass(10_000);
    expect(said).toContainEqual(["presence", null]);
  });

  it("are strangers to a tab without locks, which has a connection of its own", async () => {
    const [first] = await opened(1);
    const solo = browser.tab({ hasLocks: false });
    await browser.pass(500);
    expect([solo.tabs.role, solo.client.state, browser.numConnected]).toEqual(["solo", "connected", 2]);
    browser.publish(1);
    await browser.pass(50);
    expect([first?.told, solo.told]).toEqual([[1], [1]]);
  });

  it("stay connected when more come than a session has room for; those have their own", async () => {
    const tabs = await opened(1);
    for (let n = 1; n < 20; n++) {
      tabs.push(browser.tab());
      await browser.pass(3_000);
    }
    await browser.pass(30_000);
    expect(tabs.every(({ client }) => client.state === "connected")).toBe(true);
    expect(tabs.filter((tab) => tab.tabs.role === "solo")).toHaveLength(4);
    expect(browser.numConnected).toBe(5);
    browser.publish("all");
    await browser.pass(50);
    for (const tab of tabs) expect(tab.told).toEqual(["all"]);
  });
});

describe("a leader that goes", () => {
  it.each(["killed", "left", "closed", "disconnected"] as const)(
    "is followed when it is %s, and nothing is missed",
    async (how) => {
      const tabs = await opened(3);
      browser.publish(1);
      await browser.pass(50);
      const leader = leaderOf(tabs);
      const others = othersOf(tabs);
      if (how === "killed") leader.kill();
      else if (how === "left") leader.signal("pagehide");
      else if (how === "closed") leader.client.close();
      else leader.client.disconnect();
      browser.publish(2);
      await browser.pass(3_000);
      browser.publish(3);
      await browser.pass(50);
      for (const tab of others) expect([tab.client.state, tab.told]).toEqual(["connected", [1, 2, 3]]);
      leaderOf(others);
      expect(browser.numConnected).toBe(1);
    },
  );

  it("comes back from the back/forward cache as one of many", async () => {
    const tabs = await opened(2);
    const leader = leaderOf(tabs);
    leader.signal("pagehide");
    await browser.pass(0);
    expect([browser.locks.of(leader.locks), leader.channels.size]).toEqual([[], 0]);
    await browser.pass(2_000);
    browser.publish(1);
    leader.signal("pageshow");
    await browser.pass(2_000);
    expect([leader.tabs.role, leader.client.state, leader.told]).toEqual(["follower", "connected", [1]]);
  });

  it("loses no publication that its followers have not seen answered, and doubles none", async () => {
    const tabs = await opened(3);
    const leader = leaderOf(tabs);
    const others = othersOf(tabs);
    const published = others.map((tab, place) => tab.client.channel("demo:a").publish(place));
    leader.kill();
    await browser.pass(3_000);
    await Promise.all(published);
    for (const tab of others) expect([...tab.told].sort()).toEqual([0, 1]);
  });

  it("is replaced within 5 s when it is frozen, and is a follower when it thaws", async () => {
    const tabs = await opened(3);
    const leader = leaderOf(tabs);
    const others = othersOf(tabs);
    browser.publish(1);
    await browser.pass(50);
    leader.freeze();
    browser.publish(2);
    await browser.pass(5_000);
    for (const tab of others) expect([tab.client.state, tab.told]).toEqual(["connected", [1, 2]]);
    const next = leaderOf(others);
    leader.thaw();
    await browser.pass(3_000);
    browser.publish(3);
    await browser.pass(50);
    for (const tab of tabs) expect([tab.client.state, tab.told]).toEqual(["connected", [1, 2, 3]]);
    expect([leader.tabs.role, next.tabs.role, browser.numConnected]).toEqual(["follower", "leader", 1]);
  });

  it("says nothing that counts under its old term when it thaws", async () => {
    const tabs = await opened(3);
    const leader = leaderOf(tabs);
    const others = othersOf(tabs);
    leader.freeze();
    await browser.pass(5_000);
    const before = others.map(({ states }) => states.length);
    leader.thaw(); // it believes to lead, until its lock tells it otherwise, and ends its connection
    await browser.pass(100); // before its own client comes back, for which the new leader begins another session
    expect(others.map(({ states }) => states.length)).toEqual(before);
    await browser.pass(3_000);
    browser.publish(1);
    await browser.pass(50);
    for (const tab of tabs) expect([tab.client.state, tab.told]).toEqual(["connected", [1]]);
  });

  it("is not taken for frozen because its timers are slow", async () => {
    const tabs = await opened(2);
    const leader = leaderOf(tabs);
    leader.timersAreSlow = true; // as in a page that was hidden for five minutes: it wakes once a minute
    await browser.pass(150_000);
    expect(leaderOf(tabs)).toBe(leader);
    expect(browser.world.server.ends).toHaveLength(1);
  });

  it("gives its tabs up when its lock is taken away, and to a higher term", async () => {
    const tabs = await opened(2);
    const leader = leaderOf(tabs);
    browser.locks.takeAway(browser.locks.held.find((name) => name.endsWith("lead")) ?? "")();
    await browser.pass(2_000);
    expect(leaderOf(tabs)).not.toBe(leader);
    browser.publish(1);
    await browser.pass(50);
    for (const tab of tabs) expect([tab.client.state, tab.told]).toEqual(["connected", [1]]);
    expect(browser.numConnected).toBe(1);
  });

  it("lets a tab steal once only, unless another leader is heard", async () => {
    const [only] = await opened(1);
    const holder = browser.locks.page();
    only?.client.close();
    await browser.pass(2_000);
    void holder
      .request(
        browser.kept
          .keys()
          .next()
          .value?.replace(/ (term|group)$/, " lead") ?? "",
        {},
        () => new Promise(() => undefined),
      )
      .catch(() => undefined);
    const [fresh] = await opened(1);
    await browser.pass(6_000);
    expect(fresh?.tabs.role).toBe("leader");
    const name = browser.locks.held.find((held) => held.endsWith(" lead")) ?? "";
    void holder.request(name, { steal: true }, () => new Promise(() => undefined)).catch(() => undefined);
    await browser.pass(60_000);
    expect(fresh?.tabs.role).toBe("follower");
    expect(BEAT_MS * 3).toBeLessThanOrEqual(4_500);
  });
});
