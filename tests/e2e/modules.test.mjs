// What a real node never does to the page's client, or not on demand: holes in a sequence, silence, advice, refusals.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../../syncd/http/static/client.js";
import { isFinal } from "../../syncd/http/static/connection.js";
import { EventLog, MAX_ROWS } from "../../syncd/http/static/event_log.js";
import { decodeFrame, encodeFrame } from "../../syncd/http/static/msgpack.js";
import { PresenceView } from "../../syncd/http/static/presence.js";
import { Subscription } from "../../syncd/http/static/subscription.js";
import { textFromValue, valueFromText } from "../../syncd/http/static/values.js";

const EPOCH = "0123456789abcdef";

/** A clock, timers and sockets that only move when a test says so. */
class World {
  time = 0;
  timers = new Map();
  sockets = [];
  randomValue = 0.5;
  facts = [];
  settled = [];

  constructor() {
    const world = this;
    let nextTimer = 1;
    let numRandom = 0;
    const env = {
      now: () => this.time,
      random: () => this.randomValue,
      randomBytes: (size) => new Uint8Array(size).fill(++numRandom),
      setTimeout: (act, delayMs) => {
        this.timers.set(nextTimer, { act, at: this.time + delayMs });
        return nextTimer++;
      },
      clearTimeout: (timer) => this.timers.delete(timer),
      WebSocket: class {
        readyState = 0;
        sent = [];
        constructor(url, protocol) {
          Object.assign(this, { url, protocol });
          world.sockets.push(this);
        }
        send(bytes) {
          this.sent.push(...decodeFrame(bytes).messages);
        }
        close(code) {
          this.closedWith = code;
        }
      },
    };
    this.client = new Client("ws://node/ws", env, {
      fact: (channel, fact) => this.facts.push({ channel, ...fact }),
      settled: (item, answer) => this.settled.push(answer),
      changed: () => {},
    });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get connection() {
    return this.client.connection;
  }

  /** Let time pass, timer by timer. */
  pass(ms) {
    const until = this.time + ms;
    for (;;) {
      const due = [...this.timers].filter(([, { at }]) => at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].act();
    }
    this.time = until;
  }

  say(...messages) {
    const { buffer } = encodeFrame(messages);
    this.socket.onmessage({ data: buffer });
  }

  open() {
    if (this.connection.state !== "connecting") this.connection.dial();
    this.socket.readyState = 1;
    this.socket.onopen({});
    const clients = [{ client: "c1", secret: this.client.identity === null ? "s1" : undefined, last_mid: 0 }];
    this.say(["welcome", { session: "s", clients, server_time_ms: 1000, ping_ms: 25_000, max_frame_bytes: 500 }]);
  }

  hangUp(code, reason = "") {
    this.socket.readyState = 3;
    this.socket.onclose({ code, reason });
  }

  /** Return what the client sent of a type over the newest socket. */
  sent(type) {
    return this.socket.sent.filter(([sentType]) => sentType === type).map(([, body]) => ({ ...body }));
  }

  subscribed(offset, more = {}) {
    const { id, channel } = this.sent("subscribe").at(-1);
    const body = { id, channel, position: { epoch: EPOCH, offset }, was_recovering: false, recovered: false, events: [] };
    this.say(["subscribed", { ...body, ...more }]);
  }
}

function event(offset, more = {}) {
  return { channel: "demo:a", epoch: EPOCH, prev: offset - 1, offset, data: offset, at_ms: 2000 + offset, ...more };
}

function liveWorld(offset = 0) {
  const world = new World();
  world.client.subscribe("demo:a");
  world.open();
  world.subscribed(offset);
  return world;
}

function handedOut(world) {
  return world.facts.filter(({ kind }) => kind === "event").map((fact) => fact.event.offset);
}

// ---------------------------------------------------------------------------------------------- sequence

test("a hole is repaired from the last good position, and nothing is shown beyond it before", () => {
  const world = liveWorld(4);
  world.say(["event", event(5)], ["event", event(7)], ["event", event(8)]);
  assert.deepEqual(handedOut(world), [5]);
  assert.equal(world.sent("unsubscribe").length, 1);
  const position = { ...world.sent("subscribe").at(-1).position };
  assert.deepEqual(position, { epoch: EPOCH, offset: 5 });
  world.subscribed(8, { was_recovering: true, recovered: true, events: [event(6), event(7), event(8)] });
  world.say(["event", event(9)]);
  assert.deepEqual(handedOut(world), [5, 6, 7, 8, 9]);
});

test("a node whose sequence stays broken is not hammered", () => {
  const world = liveWorld(4);
  for (let round = 0; round < 3; round += 1) {
    world.say(["event", event(7)]);
    if (world.client.channels.get("demo:a").subscription.state === "subscribing") world.subscribed(4, { was_recovering: true, recovered: true });
  }
  assert.equal(world.sent("subscribe").length, 2);
  world.pass(1000);
  assert.equal(world.sent("subscribe").length, 3);
});

test("an event that comes twice is shown once", () => {
  const world = liveWorld(0);
  world.say(["event", event(1)], ["event", event(1)], ["event", event(2)], ["event", event(1)]);
  assert.deepEqual(handedOut(world), [1, 2]);
  assert.equal(world.client.channels.get("demo:a").subscription.numDuplicates, 2);
});

test("an event of another epoch counts as a hole", () => {
  const world = liveWorld(4);
  world.say(["event", event(5, { epoch: "other" })]);
  assert.deepEqual(handedOut(world), []);
  assert.equal(world.sent("subscribe").length, 2);
});

test("on a latest channel offsets may skip, and the present state comes with the answer", () => {
  const world = new World();
  world.client.subscribe("demo:a");
  world.open();
  const state = [event(3, { prev: undefined, key: "a" }), event(7, { prev: undefined, key: "b" })];
  world.subscribed(9, { events: state });
  world.say(["event", event(12, { prev: undefined })], ["mark", { channel: "demo:a", position: { epoch: EPOCH, offset: 14 } }]);
  assert.deepEqual(handedOut(world), [3, 7, 12]);
  assert.equal(world.client.channels.get("demo:a").subscription.position.offset, 14);
});

test("lagged is answered by subscribing again from where the client stands", () => {
  const world = liveWorld(4);
  world.say(["event", event(5)], ["lagged", { channel: "demo:a", position: { epoch: EPOCH, offset: 5 } }]);
  assert.equal(world.sent("subscribe").at(-1).position.offset, 5);
});

test("an answer to an older subscribe is not taken for the newer one's", () => {
  const world = liveWorld(4);
  const [{ id }] = world.sent("subscribe");
  world.say(["lagged", { channel: "demo:a" }]);
  world.say(["subscribed", { id, channel: "demo:a", position: { epoch: EPOCH, offset: 9 }, was_recovering: false, recovered: false, events: [] }]);
  assert.equal(world.client.channels.get("demo:a").subscription.state, "subscribing");
});

test("a subscription that the node had to begin anew shows that history was lost", () => {
  const world = liveWorld(4);
  world.subscribed(0, { id: undefined, position: { epoch: "new", offset: 0 } });
  assert.equal(world.facts.at(-1).kind, "lost");
  world.say(["event", event(1, { epoch: "new" })]);
  assert.deepEqual(handedOut(world), [1]);
});

test("a reset forgets the position", () => {
  const world = liveWorld(4);
  world.say(["reset", { scope: "channel", channel: "demo:a", code: "epoch_changed" }]);
  world.hangUp(1006);
  world.open();
  assert.equal(world.sent("subscribe")[0].position, undefined);
  world.subscribed(2);
  assert.equal(world.facts.at(-1).kind, "lost");
});

test("random deaths of the connection leave no hole and no repetition", () => {
  let seed = 7;
  const random = () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const subscription = new Subscription("demo:a");
  const seen = [];
  let top = 0;
  let id = 0;
  const note = (facts) => seen.push(...facts.filter(({ kind }) => kind === "event").map((fact) => fact.event.offset));
  const connect = () => {
    const { position } = subscription.ask((id += 1));
    const from = position?.offset ?? top;
    const events = Array.from({ length: top - from }, (_, index) => event(from + index + 1));
    const answer = { id, position: { epoch: EPOCH, offset: top }, was_recovering: position !== undefined, recovered: position !== undefined };
    note(subscription.answered({ channel: "demo:a", ...answer, events }, 0));
  };
  connect();
  for (let round = 0; round < 2000; round += 1) {
    top += 1;
    const arrives = random() < 0.9;
    if (arrives) note(subscription.event(event(top)));
    if (random() < 0.1) {
      subscription.step("disconnected");
      connect();
    } else if (subscription.position.offset < top && arrives) {
      subscription.step("again"); // it found the hole
      connect();
    }
  }
  subscription.step("disconnected");
  connect();
  assert.deepEqual(seen, Array.from({ length: top }, (_, index) => index + 1));
});

// ---------------------------------------------------------------------------------------------- connection

test("silence of ping and ten seconds is death", () => {
  const world = liveWorld();
  const { socket } = world;
  world.pass(34_000);
  assert.equal(world.connection.state, "open");
  world.say(["ping", {}]);
  assert.equal(world.sent("pong").length, 1);
  world.pass(34_000);
  assert.equal(world.connection.state, "open");
  world.pass(2_000);
  assert.notEqual(world.connection.state, "open");
  assert.equal(socket.closedWith, 3000);
});

test("a tab that slept asks before it takes the node for dead", () => {
  const world = liveWorld();
  const [[, timer]] = [...world.timers];
  world.timers.clear();
  world.time += 600_000;
  timer.act();
  assert.equal(world.connection.state, "open");
  assert.equal(world.sent("probe").length, 2);
  world.pass(6_000);
  assert.notEqual(world.connection.state, "open");
});

test("a node that never welcomes is given up after ten seconds", () => {
  const world = new World();
  world.connection.dial();
  world.socket.onopen({});
  world.pass(9_900);
  assert.equal(world.connection.state, "opening");
  world.pass(200);
  assert.equal(world.connection.state, "waiting");
});

test("the back-off doubles from half a second to twenty with full jitter, and begins anew after a good session", () => {
  const world = new World();
  world.randomValue = 0.999999;
  const waits = [];
  const wait = () => waits.push(Math.round(world.connection.retryAt - world.time));
  world.connection.dial();
  for (let attempt = 0; attempt < 8; attempt += 1) {
    world.hangUp(1006);
    wait();
    world.pass(world.connection.retryAt - world.time);
  }
  world.open();
  world.pass(1_000);
  world.hangUp(1006);
  wait();
  world.open();
  world.pass(5_000);
  world.hangUp(1006);
  wait();
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16_000, 20_000, 20_000, 20_000, 500]);
  world.randomValue = 0;
  world.connection.dial();
  world.hangUp(1006);
  assert.equal(world.connection.retryAt, world.time);
});

test("bye says when to come back, and why", () => {
  const world = liveWorld();
  world.say(["bye", { code: 4000, reason: "restarting", reconnect: true, after_ms: 7000 }]);
  world.hangUp(4000);
  assert.deepEqual({ ...world.connection.ended }, { code: 4000, reason: "restarting" });
  assert.equal(world.connection.retryAt - world.time, 7000);
});

test("4500 and above, and 4401, mean stop", () => {
  assert.deepEqual([1000, 1006, 1009, 4000, 4400, 4402, 4499].map(isFinal), Array(7).fill(false));
  assert.deepEqual([4401, 4500, 4999].map(isFinal), [true, true, true]);
  const world = liveWorld();
  world.hangUp(4503, "go");
  world.pass(60_000);
  assert.equal(world.connection.state, "stopped");
  assert.equal(world.sockets.length, 1);
});

test("online dials at once", () => {
  const world = liveWorld();
  world.randomValue = 1;
  world.hangUp(1006);
  world.connection.wake();
  assert.equal(world.connection.state, "connecting");
  assert.equal(world.sockets.length, 2);
});

test("the next hello names the same client with its secret", () => {
  const world = liveWorld();
  world.hangUp(1006);
  world.open();
  assert.deepEqual({ ...world.sent("hello")[0].clients[0] }, { client: "c1", secret: "s1" });
});

test("a frame that is no syncd ends the connection, and it comes back", () => {
  for (const data of ["text", new Uint8Array([0xc1]).buffer]) {
    const world = liveWorld();
    world.socket.onmessage({ data });
    assert.equal(world.connection.state, "waiting");
  }
});

// ---------------------------------------------------------------------------------------------- publications

test("a publication is sent again with its uid until it is answered", () => {
  const world = liveWorld();
  world.client.publish({ channel: "demo:a", name: "", key: "", text: "1" });
  const [first] = world.sent("publish");
  world.hangUp(1006);
  world.client.publish({ channel: "demo:a", name: "", key: "", text: "2" });
  world.open();
  const [again, second] = world.sent("publish");
  assert.equal(again.uid, first.uid);
  assert.equal(again.data, 1);
  assert.notEqual(second.uid, first.uid);
  world.say(["ok", { id: again.id, position: { epoch: EPOCH, offset: 1 } }], ["ok", { id: second.id }]);
  world.hangUp(1006);
  world.open();
  assert.deepEqual(world.sent("publish"), []);
  assert.equal(world.settled.length, 2);
});

test("a retryable refusal is tried again, another one is told", () => {
  const world = liveWorld();
  world.client.publish({ channel: "demo:a", name: "", key: "", text: "1" });
  const refuse = (code, retryable) => world.say(["error", { id: world.sent("publish").at(-1).id, code, message: "m", retryable, after_ms: 2000 }]);
  refuse("overloaded", true);
  world.pass(1_900);
  assert.equal(world.sent("publish").length, 1);
  world.pass(200);
  assert.equal(world.sent("publish").length, 2);
  refuse("too_large", false);
  assert.equal(world.settled[0].code, "too_large");
  assert.equal(world.client.outbox.items.length, 0);
});

test("what is larger than the node takes is refused here, and the connection lives", () => {
  const world = liveWorld();
  world.client.publish({ channel: "demo:a", name: "", key: "", text: JSON.stringify("x".repeat(600)) });
  assert.equal(world.settled[0].code, "bad_request");
  assert.equal(world.connection.state, "open");
});

// ---------------------------------------------------------------------------------------------- views

test("presence follows diffs in order, and ignores those that repeat or skip", () => {
  const member = (id, name) => ({ member: id, states: [{ client: id, state: { name } }] });
  const view = new PresenceView();
  view.replace({ seq: 3, members: [member("a", "Ada")] });
  view.apply({ seq: 3, joins: [], updates: [], leaves: ["a"] });
  view.apply({ seq: 5, joins: [], updates: [], leaves: ["a"] });
  view.apply({ seq: 4, joins: [member("b", "Bo")], updates: [member("a", "Ada L.")], leaves: [] });
  assert.deepEqual(view.people().map(({ name }) => name), ["Ada L.", "Bo"]);
  view.outdate();
  view.apply({ seq: 5, joins: [], updates: [], leaves: ["a"] });
  assert.equal(view.people().length, 2);
});

test("a list is bounded, and earlier events are put before it without repetition", () => {
  const log = new EventLog();
  for (let offset = 11; offset < 11 + MAX_ROWS + 5; offset += 1) log.addEvent(event(offset), { how: "live", isChecked: true });
  assert.equal(log.rows.length, MAX_ROWS);
  assert.deepEqual([log.numAdded, log.numTrimmed, log.rows[0].offset], [MAX_ROWS + 5, 5, 16]);
  log.clear();
  log.addEvent(event(5), { how: "live", isChecked: true });
  log.prepend([event(3), event(4), event(5)], () => null);
  assert.deepEqual(log.rows.map(({ offset }) => offset), [3, 4, 5]);
});

test("data survives the way to text and back", () => {
  const value = { a: [1, null, "x"], b: new Uint8Array([1, 255]) };
  const text = textFromValue(value);
  assert.equal(text, '{"a":[1,null,"x"],"b":{"$base64":"Af8="}}');
  assert.deepEqual(valueFromText(text).b, value.b);
  assert.throws(() => valueFromText('{"$base64": "%"}'), SyntaxError);
  assert.deepEqual(Object.keys(valueFromText('{"__proto__": 1}')), ["__proto__"]);
});
