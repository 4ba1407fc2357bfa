import { describe, expect, it } from "vitest";
import { Driver, PING_MS, states } from "./driver.ts";

const SILENCE_MS = PING_MS + 10_000;

describe("connecting", () => {
  it("says hello when the socket is open, and is connected when it is welcomed", () => {
    const driver = new Driver({ group: "g", term: 3 });
    driver.core.connect(0);
    expect(driver.actions()).toEqual(["dial"]);
    driver.core.connectSucceeded();
    expect(driver.sent()).toEqual([["hello", expect.objectContaining({ v: 1, group: "g", term: 3 })]]);
    driver.welcome();
    expect(driver.core.state).toBe("connected");
    expect(driver.core.claims).toEqual([{ client: "c1", secret: "s1" }]);
  });

  it("speaks for the same client ever after, and keeps a secret that is not told again", () => {
    const driver = new Driver();
    driver.connect();
    driver.lose();
    driver.pass(20_000);
    driver.take();
    driver.core.connectSucceeded();
    expect(driver.sent()[0]?.[1]["clients"]).toEqual([{ client: "c1", secret: "s1" }]);
    driver.welcome({ clients: [{ client: "c1", last_mid: 4 }] });
    expect(driver.core.claims).toEqual([{ client: "c1", secret: "s1" }]);
  });

  it("is not waited for longer than the attempt may take", () => {
    const driver = new Driver();
    driver.core.connect(0);
    driver.pass(19_999);
    expect(driver.actions()).toEqual(["dial"]);
    driver.pass(1);
    expect(driver.actions()).toEqual(["hangup"]);
    driver.lose(1006, "late");
    expect(driver.core.state).toBe("offline");
    // A socket that opens after all is none of ours.
    driver.core.connectSucceeded();
    expect(driver.actions()).toEqual([]);
  });

  it.each([
    ["without clients", { clients: [] }],
    ["without a secret", { clients: [{ client: "other", last_mid: 0 }] }],
    ["without ping_ms", { ping_ms: null }],
    ["with a limit that is none", { max_frame_bytes: "many" }],
  ])("is begun anew after a welcome %s", (_what, broken) => {
    const driver = new Driver();
    driver.core.connect(0);
    driver.welcome(broken);
    driver.hangUp();
    expect(driver.core.state).toBe("offline");
  });
});

describe("coming back", () => {
  it("waits with full jitter under a ceiling that doubles from 0.5 s to 20 s, and never gives up", () => {
    const driver = new Driver();
    driver.core.connect(0);
    const waits: number[] = [];
    for (let n = 0; n < 50; n++) {
      driver.take();
      driver.lose(1006, "gone");
      const [change] = states(driver);
      waits.push(Math.round((change?.retryAt ?? Number.NaN) - driver.now));
      expect(change).toMatchObject({ state: "offline", code: 1006, reason: "gone", attempt: n + 1 });
      driver.pass(20_000);
      expect(driver.core.state).toBe("connecting");
    }
    expect(waits.slice(0, 7)).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 20_000]);
    expect(new Set(waits.slice(6))).toEqual(new Set([20_000]));
    driver.chance = 0;
    driver.lose();
    driver.pass(0);
    expect(driver.core.state).toBe("connecting");
  });

  it.each([
    [4_999, 1000, 2],
    [5_000, 500, 0],
  ])("begins the waits anew only after 5 s of a session: %i ms", (lastedMs, waitMs, attempt) => {
    const driver = new Driver();
    driver.core.connect(0);
    driver.lose();
    driver.pass(500);
    driver.welcome();
    driver.pass(lastedMs);
    driver.take();
    driver.lose();
    const [change] = states(driver);
    expect(Math.round((change?.retryAt ?? 0) - driver.now)).toBe(waitMs);
    expect(change?.attempt).toBe(attempt);
  });

  it("does what bye says, whatever the close code is", () => {
    const driver = new Driver();
    driver.connect();
    driver.receive(["bye", { code: 4000, reason: "restart", reconnect: true, after_ms: 3000 }]);
    driver.hangUp();
    const [change] = states(driver);
    expect(change).toMatchObject({ state: "offline", code: 4000, reason: "restart" });
    expect(Math.round((change?.retryAt ?? 0) - driver.now)).toBe(3500);
    // Waking up is no reason to come before the server wants it.
    driver.core.wake(driver.now);
    driver.pass(2_999);
    expect(driver.core.state).toBe("offline");
    driver.pass(1);
    expect(driver.core.state).toBe("connecting");
  });

  it.each([
    ["a terminal close code", () => [4500, 4503, 4504, 4999]],
    ["no leave to reconnect", () => [0]],
  ])("stops for good after %s", (_what, codes) => {
    for (const code of codes()) {
      const driver = new Driver();
      driver.connect();
      const id = driver.core.history("demo:a", { limit: 1 });
      driver.take();
      if (code === 0) {
        driver.receive(["bye", { code: 4000, reason: "no", reconnect: false, after_ms: 0 }]);
        driver.hangUp();
      } else driver.lose(code, "no");
      const facts = driver.facts();
      expect(facts[0]).toMatchObject({ kind: "state", state: "failed", code: code || 4000, reason: "no" });
      expect(facts).toContainEqual(expect.objectContaining({ kind: "settled", requestId: id }));
      driver.core.wake(1e9);
      driver.core.connect(1e9);
      driver.pass(1e9);
      expect(driver.actions()).toEqual([]);
    }
  });

  it.each([1000, 1001, 1006, 1011, 1013, 4000, 4499, 3000])("comes back after code %i", (code) => {
    const driver = new Driver();
    driver.connect();
    driver.lose(code);
    expect(driver.core.state).toBe("offline");
  });
});

describe("liveness", () => {
  it("takes silence of ping_ms and 10 s for death, and any message for life", () => {
    const driver = new Driver();
    driver.connect();
    driver.pass(SILENCE_MS - 1);
    driver.receive(["unheard_of", {}]);
    driver.pass(SILENCE_MS - 1);
    driver.take();
    expect(driver.core.state).toBe("connected");
    driver.pass(1);
    driver.hangUp();
    expect(driver.core.state).toBe("offline");
  });

  it("answers pings", () => {
    const driver = new Driver();
    driver.connect();
    driver.take();
    driver.receive(["ping"]);
    expect(driver.sent()).toEqual([["pong", expect.anything()]]);
  });

  it("probes at a wake-up, once, and replaces a connection that does not answer in 4 s", () => {
    const driver = new Driver();
    driver.connect();
    driver.take();
    driver.core.wake(driver.now);
    driver.core.wake(driver.now);
    expect(driver.actions()).toEqual(["probe"]);
    driver.pass(3_999);
    expect(driver.actions()).toEqual([]);
    driver.pass(1);
    driver.hangUp();
    driver.pass(500);
    expect(driver.core.state).toBe("connecting");
  });

  it("leaves a connection alone that answers the probe, and probes again at the next wake-up", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.wake(driver.now);
    driver.receive(["pong", { nonce: 1 }]);
    driver.pass(SILENCE_MS - 1);
    driver.take();
    driver.core.wake(driver.now);
    expect(driver.actions()).toEqual(["probe"]);
  });

  it("gives a connection whose deadline passed in sleep the time of a probe", () => {
    const driver = new Driver();
    driver.connect();
    driver.take();
    driver.now += 3_600_000;
    driver.core.wake(driver.now);
    driver.core.tick(driver.now);
    expect(driver.actions()).toEqual(["probe"]);
    driver.receive(["pong", { nonce: 1 }]);
    driver.pass(10_000);
    expect(driver.core.state).toBe("connected");
  });

  it("dials at once at a wake-up while it waits to", () => {
    const driver = new Driver();
    driver.core.connect(0);
    driver.lose();
    driver.take();
    driver.core.wake(driver.now);
    expect(driver.actions()).toEqual(["dial"]);
  });

  it.each([
    ["no msgpack", Uint8Array.of(0xc1)],
    ["half a message", Uint8Array.of(0x92, 0xa4)],
  ])("hangs up on %s and comes back", (_what, frame) => {
    const driver = new Driver();
    driver.connect();
    driver.core.receive(frame, driver.now);
    driver.hangUp();
    expect(driver.core.state).toBe("offline");
  });

  it("ignores unknown types and whatever comes while it hangs up", () => {
    const driver = new Driver();
    driver.connect();
    driver.receive(["from_the_future", { x: 1 }]);
    expect(driver.core.state).toBe("connected");
    driver.receive(["bye", { code: 4000, reason: "", reconnect: true, after_ms: 0 }], ["ping", {}]);
    driver.receive(["ping"]);
    expect(driver.actions().filter((action) => action === "pong")).toEqual([]);
  });
});

describe("suspending", () => {
  it("closes without a trace of retrying, and goes on when it is connected again", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.suspend("application", "offline switch");
    driver.hangUp();
    driver.core.wake(driver.now);
    driver.pass(3_600_000);
    expect(driver.core.state).toBe("offline");
    expect(driver.core.nextDeadline()).toBe(Number.POSITIVE_INFINITY);
    driver.take();
    driver.core.connect(driver.now);
    expect(driver.actions()).toEqual(["dial"]);
  });

  it("needs both the page and the application to go on, if both wanted no connection", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.suspend("application", "");
    driver.hangUp();
    driver.core.suspend("page", "");
    driver.core.connect(driver.now, "page");
    expect(driver.core.state).toBe("offline");
    driver.core.suspend("page", "");
    driver.core.connect(driver.now, "application");
    expect(driver.core.state).toBe("offline");
    driver.core.connect(driver.now, "page");
    expect(driver.core.state).toBe("connecting");
  });

  it("dials only when the old connection is over", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.suspend("page", "");
    driver.core.connect(driver.now, "page");
    expect(driver.actions().at(-1)).toBe("hangup");
    driver.lose(1000);
    expect(driver.actions()).toEqual(["dial"]);
  });

  it("gives up nothing: a request waits for the next session", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.suspend("application", "");
    driver.hangUp();
    const id = driver.core.history("demo:a", { limit: 1 });
    driver.core.connect(driver.now);
    driver.welcome();
    expect(driver.lastId("history")).toBe(id);
  });
});
