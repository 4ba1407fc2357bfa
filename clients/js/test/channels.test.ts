import { describe, expect, it } from "vitest";
import type { Fact } from "../src/core/facts.ts";
import { encodeMessage } from "../src/wire/encode.ts";
import { at, Driver, event } from "./driver.ts";

const CHANNEL = "demo:room";

/** A driver with one subscription that stands at an offset of a stream. */
function subscribedAt(offset: number): Driver {
  const driver = new Driver();
  driver.connect();
  driver.core.subscribe(CHANNEL);
  driver.subscribed(CHANNEL, at(offset));
  driver.take();
  return driver;
}

/** What was handed out, in short: offsets, `reset:cause`, `mark:offset`, states. */
function told(driver: Driver): (string | number)[] {
  return driver.facts().flatMap((fact: Fact) => {
    if (fact.kind === "event") return [fact.event.position?.offset ?? "event"];
    if (fact.kind === "reset") return [`reset:${fact.cause}`];
    if (fact.kind === "mark") return [`mark:${fact.position.offset}`];
    return fact.kind === "subscription" ? [fact.state] : [];
  });
}

describe("a subscription", () => {
  it("made before there is a connection is asked for when there is one, with its position", () => {
    const driver = new Driver();
    driver.core.subscribe(CHANNEL, at(3), true);
    driver.connect();
    const ask = driver.sent().find(([kind]) => kind === "subscribe");
    expect(ask?.[1]).toMatchObject({
      channel: CHANNEL,
      position: { epoch: "e1", offset: 3 },
      presence: true,
    });
  });

  it("advances its position with every event, and asks again from the last one after a loss", () => {
    const driver = subscribedAt(4);
    driver.receive(["event", event(CHANNEL, 5)], ["event", event(CHANNEL, 6)]);
    expect(told(driver)).toEqual([5, 6]);
    driver.lose();
    driver.pass(20_000);
    driver.take();
    driver.welcome();
    const [, body] = driver.sent().find(([kind]) => kind === "subscribe") ?? [];
    expect(body).toMatchObject({ position: { epoch: "e1", offset: 6 } });
  });

  it("has its position from the answer, even if no event ever came", () => {
    const driver = subscribedAt(4);
    driver.lose();
    driver.reconnect();
    const ask = driver.sent().find(([kind]) => kind === "subscribe");
    expect(ask?.[1]).toMatchObject({ position: { offset: 4 } });
  });

  it("ignores what it has, and asks again where prev does not fit", () => {
    const driver = subscribedAt(4);
    driver.receive(["event", event(CHANNEL, 4)], ["event", event(CHANNEL, 3)]);
    expect(driver.take()).toEqual([]);
    driver.receive(["event", event(CHANNEL, 7)]);
    expect(driver.core.findSubscription(CHANNEL)?.position).toEqual(at(4));
    const sent = driver.sent().map(([kind, body]) => [kind, body["position"]]);
    expect(sent).toEqual([
      ["unsubscribe", undefined],
      ["subscribe", expect.objectContaining({ offset: 4 })],
    ]);
  });

  it("does not check prev where there is none: superseded events are missing on latest channels", () => {
    const driver = subscribedAt(4);
    driver.receive(["event", event(CHANNEL, 9, "x", { prev: null })]);
    expect(told(driver)).toEqual([9]);
  });

  it("takes an event of another epoch for a gap", () => {
    const driver = subscribedAt(4);
    driver.receive(["event", event(CHANNEL, 5, "x", { epoch: "e2" })]);
    expect(driver.actions()).toEqual(["unsubscribe", "subscribe"]);
  });

  it("ignores events of an older subscription until the answer to its own request", () => {
    const driver = subscribedAt(4);
    driver.receive(["event", event(CHANNEL, 9)]);
    driver.receive(["event", event(CHANNEL, 5)]);
    const id = driver.lastId("subscribe");
    driver.receive(["subscribed", { id: id - 2, channel: CHANNEL, position: at(9), ...ANSWER }]);
    expect(driver.core.findSubscription(CHANNEL)?.state).toBe("subscribing");
    driver.receive(["subscribed", { id, channel: CHANNEL, position: at(9), ...ANSWER }]);
    expect(driver.core.findSubscription(CHANNEL)?.state).toBe("subscribed");
  });

  it("that stands takes no answer to a request, only what the server says by itself", () => {
    const driver = subscribedAt(4);
    for (const id of [driver.core.findSubscription(CHANNEL)?.requestId, 99]) {
      driver.receive(["subscribed", { id, channel: CHANNEL, position: at(9), ...ANSWER }]);
    }
    expect(driver.take()).toEqual([]);
    expect(driver.core.findSubscription(CHANNEL)?.position).toEqual(at(4));
  });

  it("repairs a gap at once, and a second one soon after it only after a while", () => {
    const driver = subscribedAt(0);
    driver.receive(["event", event(CHANNEL, 5)]);
    driver.subscribed(CHANNEL, at(0));
    driver.take();
    driver.receive(["event", event(CHANNEL, 5)]);
    expect(driver.actions()).toEqual([]);
    driver.pass(500);
    expect(driver.actions()).toEqual(["unsubscribe", "subscribe"]);
  });

  it("goes on after lagged from its position, without unsubscribing what is over", () => {
    const driver = subscribedAt(4);
    driver.receive(["lagged", { channel: CHANNEL, position: at(4) }]);
    expect(driver.actions()).toEqual(["subscribe"]);
  });

  it("adopts a mark, and not one that lies behind", () => {
    const driver = subscribedAt(4);
    driver.receive(
      ["mark", { channel: CHANNEL, position: at(8) }],
      ["mark", { channel: CHANNEL, position: at(6) }],
    );
    expect(told(driver)).toEqual(["mark:8"]);
  });

  it("hands nothing out on an ephemeral channel but what comes", () => {
    const driver = new Driver();
    driver.connect();
    driver.core.subscribe(CHANNEL);
    driver.subscribed(CHANNEL, null);
    driver.receive(["event", { channel: CHANNEL, data: 1, at_ms: 1 }]);
    expect(told(driver)).toEqual(["subscribed", "event"]);
    driver.lose();
    driver.reconnect();
    driver.subscribed(CHANNEL, null);
    // Whoever was away from it missed something.
    expect(told(driver)).toEqual(["subscribed", "reset:not-kept"]);
  });
});

const ANSWER = { was_recovering: true, recovered: true, events: [] };

describe("recovery", () => {
  /** Lose the connection at offset 4 and answer the new request. */
  function recovered(answer: Record<string, unknown>): (string | number)[] {
    const driver = subscribedAt(4);
    driver.lose();
    driver.reconnect();
    const id = driver.lastId("subscribe");
    driver.receive(["subscribed", { id, channel: CHANNEL, ...ANSWER, ...answer }]);
    return told(driver);
  }

  it("hands out what was missed, once and in order", () => {
    const events = [4, 5, 6].map((offset) => event(CHANNEL, offset));
    expect(recovered({ position: at(6), events })).toEqual(["subscribed", 5, 6, "mark:6"]);
  });

  it("resets where the epoch changed, and where the position is too old", () => {
    expect(recovered({ position: at(2, "e2"), recovered: false })).toEqual([
      "subscribed",
      "reset:epoch-changed",
      "mark:2",
    ]);
    expect(recovered({ position: at(99), recovered: false })).toEqual([
      "subscribed",
      "reset:out-of-retention",
      "mark:99",
    ]);
  });

  it("stands behind the events that came, even if the answer's position does not", () => {
    const events = [5, 6].map((offset) => event(CHANNEL, offset));
    expect(recovered({ position: at(5), events })).toEqual(["subscribed", 5, 6, "mark:6"]);
  });

  it("does not trust a recovery in another epoch", () => {
    expect(recovered({ position: at(9, "e2"), recovered: true })).toContain("reset:epoch-changed");
  });

  it("resets before the state of a latest channel that comes whole", () => {
    const events = [7, 9].map((offset) => event(CHANNEL, offset, "x", { prev: null }));
    expect(recovered({ position: at(9), recovered: false, events })).toEqual([
      "subscribed",
      "reset:out-of-retention",
      7,
      9,
      "mark:9",
    ]);
  });

  it("says so when the server re-established a subscription by itself without its history", () => {
    const driver = subscribedAt(4);
    driver.receive(["subscribed", { channel: CHANNEL, position: at(0, "e2"), ...ANSWER, recovered: false }]);
    expect(told(driver)).toEqual(["subscribed", "reset:epoch-changed", "mark:0"]);
  });

  it("asks again after a reset by the server, and lets the answer tell whether anything was missed", () => {
    const driver = subscribedAt(4);
    driver.receive(["reset", { scope: "channel", channel: CHANNEL, code: "epoch_changed" }]);
    expect(driver.actions()).toEqual(["unsubscribe", "subscribe"]);
  });
});

describe("the server's refusals", () => {
  function refused(code: string, retryable: boolean, after_ms?: number): Driver {
    const driver = new Driver();
    driver.connect();
    driver.core.subscribe(CHANNEL);
    const id = driver.lastId("subscribe");
    driver.receive(["error", { id, code, message: "no", retryable, after_ms }]);
    return driver;
  }

  it("end a subscription when they are final, and say why", () => {
    const driver = refused("permission_denied", false);
    expect(driver.facts()).toEqual([
      expect.objectContaining({ state: "ended", code: "permission_denied", reason: "no" }),
    ]);
    expect(driver.core.findSubscription(CHANNEL)).toBeUndefined();
  });

  it("are waited out when they are not", () => {
    const driver = refused("overloaded", true, 2000);
    driver.pass(1_999);
    expect(driver.actions()).toEqual([]);
    driver.pass(501);
    expect(driver.actions()).toEqual(["subscribe"]);
  });

  it("end it when the permission is taken away, until somebody subscribes anew", () => {
    const driver = subscribedAt(4);
    driver.receive(["unsubscribed", { channel: CHANNEL, code: "revoked", reason: "r" }]);
    expect(told(driver)).toEqual(["ended"]);
    driver.lose();
    driver.reconnect();
    expect(driver.actions()).not.toContain("subscribe");
    driver.core.subscribe(CHANNEL);
    expect(driver.actions()).toEqual(["subscribe"]);
  });
});

describe("facts of a subscription", () => {
  it("carry its generation, so that those of an older one can be told apart", () => {
    const driver = subscribedAt(4);
    const first = driver.core.findSubscription(CHANNEL)?.generation;
    driver.receive(["event", event(CHANNEL, 5)]);
    driver.core.unsubscribe(CHANNEL);
    const second = driver.core.subscribe(CHANNEL);
    expect(second).toBeGreaterThan(first ?? 0);
    const events = driver.facts().filter((fact) => fact.kind === "event");
    expect(events).toEqual([expect.objectContaining({ generation: first })]);
  });

  it("are not disturbed by a malformed message: the connection is begun anew", () => {
    for (const body of [
      { channel: CHANNEL },
      { channel: CHANNEL, offset: "5", data: 1, at_ms: 1 },
      event(CHANNEL, 5, 1, { by: 3 }),
    ]) {
      const driver = subscribedAt(4);
      driver.core.receive(encodeMessage("event", body).bytes, driver.now);
      driver.hangUp();
      expect(driver.core.state).toBe("offline");
      expect(driver.core.findSubscription(CHANNEL)?.position).toEqual(at(4));
    }
  });
});
