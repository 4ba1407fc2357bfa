import { describe, expect, it } from "vitest";
import type { Fact, HistoryPage } from "../src/core/facts.ts";
import { decodeFrame } from "../src/wire/decode.ts";
import { at, Driver, event } from "./driver.ts";

const CHANNEL = "demo:room";

function connected(): Driver {
  const driver = new Driver();
  driver.connect();
  driver.take();
  return driver;
}

function settled(driver: Driver): Extract<Fact, { kind: "settled" }>[] {
  return driver.facts().filter((fact) => fact.kind === "settled");
}

const publication = { channel: CHANNEL, data: { n: 1 }, uid: "u1" };

describe("a request", () => {
  it("made offline waits for the session and is sent then, oldest first", () => {
    const driver = new Driver();
    const ids = [driver.core.publish(publication), driver.core.history(CHANNEL, { limit: 3 })];
    driver.connect();
    const sent = driver.sent().filter(([kind]) => kind === "publish" || kind === "history");
    expect(sent.map(([, body]) => body["id"])).toEqual(ids);
  });

  it("without an answer is sent again, the very same, after a loss", () => {
    const driver = connected();
    const id = driver.core.publish(publication);
    const first = driver.sent();
    driver.lose();
    driver.reconnect();
    const again = driver.sent().filter(([kind]) => kind === "publish");
    expect(again).toEqual(first);
    driver.receive(["ok", { id, position: at(1) }]);
    expect(settled(driver)).toEqual([{ kind: "settled", requestId: id, result: at(1), error: null }]);
    driver.lose();
    driver.reconnect();
    expect(driver.sent().filter(([kind]) => kind === "publish")).toEqual([]);
  });

  it("is answered once, whatever comes after", () => {
    const driver = connected();
    const id = driver.core.publish(publication);
    driver.receive(
      ["ok", { id }],
      ["ok", { id }],
      ["error", { id, code: "x", message: "", retryable: false }],
    );
    expect(settled(driver)).toHaveLength(1);
  });

  it("refused for now is sent again after the wait the server asked for, with backoff", () => {
    const driver = connected();
    const id = driver.core.publish(publication);
    driver.take();
    const error = { id, code: "overloaded", message: "", retryable: true, after_ms: 1000 };
    driver.receive(["error", error]);
    driver.pass(999);
    expect(driver.actions()).toEqual([]);
    driver.pass(251);
    expect(driver.actions()).toEqual(["publish"]);
    driver.receive(["error", { ...error, after_ms: null }]);
    driver.pass(500);
    expect(driver.actions()).toEqual(["publish"]);
  });

  it("that was put off is sent by the next session once, and not again when its wait is over", () => {
    const driver = connected();
    const id = driver.core.publish(publication);
    const error = { id, code: "overloaded", message: "", retryable: true, after_ms: 5000 };
    driver.receive(["error", error]);
    driver.lose();
    driver.pass(500);
    driver.take();
    driver.welcome();
    driver.pass(10_000);
    expect(driver.actions().filter((action) => action === "publish")).toHaveLength(1);
  });

  it("refused for good fails with the server's code", () => {
    const driver = connected();
    const id = driver.core.publish(publication);
    driver.receive(["error", { id, code: "permission_denied", message: "no", retryable: false }]);
    expect(settled(driver)[0]?.error).toMatchObject({ code: "permission_denied", message: "no" });
  });

  it("that is too large for the server is refused here: sending it would end the connection", () => {
    const driver = connected();
    const id = driver.core.publish({ ...publication, data: "x".repeat(65_536) });
    const outputs = driver.take();
    expect(outputs).toEqual([expect.objectContaining({ requestId: id })]);
    expect(outputs[0]).toMatchObject({ error: { code: "too_large" } });
  });

  it("settles when the client ends, and at once when it has ended", () => {
    const driver = connected();
    const open = driver.core.publish(publication);
    driver.core.close();
    const late = driver.core.publish(publication);
    expect(settled(driver).map(({ requestId, error }) => [requestId, error?.name])).toEqual([
      [open, "ClientClosed"],
      [late, "ClientClosed"],
    ]);
  });

  it("answered with history gives its events and the top", () => {
    const driver = connected();
    const id = driver.core.history(CHANNEL, { limit: 2, since: at(3), reverse: true });
    const [, body] = driver.sent()[0] ?? [];
    expect(body).toMatchObject({ limit: 2, since: { offset: 3 }, reverse: true });
    driver.receive(["ok", { id, position: at(9), events: [event(CHANNEL, 2), event(CHANNEL, 1)] }]);
    const page = settled(driver)[0]?.result as HistoryPage;
    expect(page.position).toEqual(at(9));
    expect(page.events.map((e) => e.position)).toEqual([at(2), at(1)]);
  });

  it("of many goes out in frames that the server takes", () => {
    const driver = new Driver();
    for (let n = 0; n < 40; n++)
      driver.core.publish({ ...publication, uid: `u${n}`, data: "x".repeat(5000) });
    driver.connect();
    const frames = driver.take().flatMap((one) => ("do" in one && one.do === "send" ? [one.data] : []));
    expect(frames.every((frame) => frame.length <= 65_536)).toBe(true);
    expect(frames.flatMap((frame) => decodeFrame(frame)).filter(([kind]) => kind === "publish")).toHaveLength(
      40,
    );
  });

  it("that belongs to nobody is told as a complaint", () => {
    const driver = connected();
    driver.receive(["error", { code: "bad_message", message: "m", retryable: false }]);
    expect(driver.facts()).toEqual([{ kind: "complaint", code: "bad_message", message: "m" }]);
  });
});

describe("presence", () => {
  const member = (name: string, ...clients: string[]) => ({
    member: name,
    user: name,
    states: clients.map((client) => ({ client, state: { client } })),
  });

  function watching(): Driver {
    const driver = connected();
    driver.core.subscribe(CHANNEL, null, true);
    driver.subscribed(CHANNEL, at(0));
    driver.receive([
      "presence_state",
      { channel: CHANNEL, seq: 7, members: [member("a", "c1"), member("b", "c2")] },
    ]);
    return driver;
  }

  function names(driver: Driver): string[][] {
    return driver.facts().flatMap((f) => (f.kind === "presence" ? [f.members.map((m) => m.member)] : []));
  }

  it("is the state, and the diffs that follow one by one", () => {
    const driver = watching();
    const diff = {
      channel: CHANNEL,
      joins: [member("c", "c3")],
      updates: [member("b", "c2", "c4")],
      leaves: ["a"],
    };
    driver.receive(["presence_diff", { ...diff, seq: 8 }], ["presence_diff", { ...diff, seq: 8 }]);
    expect(names(driver)).toEqual([
      ["a", "b"],
      ["b", "c"],
    ]);
  });

  it("waits for a new state after a diff that skips", () => {
    const driver = watching();
    driver.take();
    const diff = { channel: CHANNEL, joins: [member("c", "c3")], updates: [], leaves: [] };
    driver.receive(["presence_diff", { ...diff, seq: 9 }], ["presence_diff", { ...diff, seq: 10 }]);
    expect(names(driver)).toEqual([]);
    driver.receive(["presence_state", { channel: CHANNEL, seq: 10, members: [member("c", "c3")] }]);
    expect(names(driver)).toEqual([["c"]]);
  });

  it("is asked for again by whoever begins to watch it later", () => {
    const driver = connected();
    driver.core.subscribe(CHANNEL);
    driver.subscribed(CHANNEL, at(3));
    driver.core.watchPresence(CHANNEL);
    const [, ask] = driver.sent();
    expect(ask).toEqual(["subscribe", expect.objectContaining({ presence: true })]);
    expect(ask?.[1]["position"]).toMatchObject({ offset: 3 });
  });

  it("is announced again after a reconnect, with the newest state alone", () => {
    const driver = connected();
    const first = driver.core.setPresence(CHANNEL, 1);
    driver.core.setPresence(CHANNEL, 2);
    expect(settled(driver)).toEqual([expect.objectContaining({ requestId: first, error: null })]);
    for (let n = 0; n < 2; n++) {
      driver.lose();
      driver.reconnect();
      const sent = driver.sent().filter(([kind]) => kind === "presence");
      expect(sent.map(([, body]) => body["state"])).toEqual([2]);
      driver.receive(["ok", { id: sent[0]?.[1]["id"] }]);
    }
  });

  it("is not announced again when it was taken back or refused", () => {
    for (const end of ["leave", "refusal"]) {
      const driver = connected();
      driver.core.setPresence(CHANNEL, 1);
      const id = driver.lastId("presence");
      if (end === "leave") driver.receive(["ok", { id: driver.core.setPresence(CHANNEL, null) }]);
      else driver.receive(["error", { id, code: "too_large", message: "", retryable: false }]);
      driver.take();
      driver.lose();
      driver.reconnect();
      expect(driver.actions()).not.toContain("presence");
    }
  });

  it("is left when the client is closed", () => {
    const driver = connected();
    driver.core.setPresence(CHANNEL, 1);
    driver.take();
    driver.core.close();
    expect(driver.actions()).toEqual(["presence", "hangup"]);
  });
});
