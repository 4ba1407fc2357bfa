/**
 * One connection at a time to a node: dialling, `hello`, liveness, back-off, and the reason why it is not open
 * (protocol/SPEC.md, sections 4 and 13). What goes over it is the client's business.
 */

import { Backoff } from "./backoff.js";
import { MsgpackError, decodeFrame, encodeFrame } from "./msgpack.js";

const SUBPROTOCOL = "syncd.v1";
const NEEDS_TOKEN = 4401;
const SLACK_MS = 10_000; // a node may be this late with its ping
const OPENING_MS = 10_000; // from dialling to `welcome`
const STABLE_MS = 5_000; // a session this old was a good one: the next back-off begins anew
const TICK_MS = 1_000;
const ASLEEP_MS = 5_000; // a tick this late means that the tab slept, not that the node is dead
const ANSWER_MS = 5_000; // for a probe after waking up

/** What may happen in which state, and where it leads. What is not here is ignored. */
export const TRANSITIONS = {
  idle: { dial: "connecting" },
  connecting: { connected: "opening", lost: "waiting", refused: "stopped" },
  opening: { welcomed: "open", lost: "waiting", refused: "stopped" },
  open: { lost: "waiting", refused: "stopped" },
  waiting: { dial: "connecting", refused: "stopped" },
  stopped: { dial: "connecting" },
};

const NOTHING_SAID = { code: 1006, reason: "" };

/** Tell whether a close code means stop (SPEC section 4.5); 4401 means stop until there is a new token. */
export function isFinal(code) {
  return code === NEEDS_TOKEN || (code >= 4500 && code <= 4999);
}

export class Connection {
  state = "idle";
  session = null;
  pingMs = 25_000;
  maxFrameBytes = 65_536;
  latencyMs = null;
  /** Why the last connection ended: `{code, reason}`; null before that. */
  ended = null;
  /** When the next attempt begins, on the environment's clock; null unless waiting. */
  retryAt = null;

  /**
   * Args:
   *   url: of the WebSocket.
   *   env: `{now, random, setTimeout, clearTimeout, WebSocket}`.
   *   handlers: `hello()` gives the body of `hello`; `opened(welcome)`; `received(type, body)`; `changed()`.
   */
  constructor(url, env, handlers) {
    this.url = url;
    this.env = env;
    this.handlers = handlers;
    this.backoff = new Backoff(env.random);
    this.socket = null;
    this.bye = null;
    this.timer = null;
    this.probes = new Map();
    this.nextNonce = 1;
  }

  get needsToken() {
    return this.state === "stopped" && this.ended?.code === NEEDS_TOKEN;
  }

  get isOpen() {
    return this.state === "open";
  }

  // -------------------------------------------------------------------------------- commands

  /** Connect now, whatever the back-off says. Does nothing while there is a connection. */
  dial() {
    if (!this.step("dial")) return;
    this.clearTimer();
    this.retryAt = null;
    this.bye = null;
    this.probes.clear();
    const socket = new this.env.WebSocket(this.url, SUBPROTOCOL);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    const ifCurrent = (act) => (event) => {
      if (this.socket === socket) act(event);
    };
    socket.onopen = ifCurrent(() => this.connected());
    socket.onmessage = ifCurrent((event) => this.received(event.data));
    socket.onclose = ifCurrent((event) => this.closed(event));
    this.deadlineAt = this.env.now() + OPENING_MS;
    this.watch();
    this.handlers.changed();
  }

  /**
   * Send a message; tell whether there was a session to send it on.
   *
   * Throws MsgpackError when it cannot be encoded or is larger than the node takes.
   */
  send(message) {
    if (this.state !== "open") return false;
    const frame = encodeFrame([message]);
    if (frame.length > this.maxFrameBytes) {
      throw new MsgpackError(`The node takes at most ${this.maxFrameBytes} bytes; this has ${frame.length}.`);
    }
    this.socket.send(frame);
    return true;
  }

  /** Measure the time to the node and back; silence for 5 s after it means that the connection is dead, if `mustAnswer`. */
  probe({ mustAnswer = false } = {}) {
    const nonce = this.nextNonce;
    if (!this.send(["probe", { nonce }])) return;
    this.nextNonce += 1;
    this.probes.set(nonce, this.env.now());
    if (mustAnswer) this.deadlineAt = Math.min(this.deadlineAt, this.env.now() + ANSWER_MS);
  }

  /** Throw the connection away as if the network had, and come back after at least `pauseMs`. */
  drop(pauseMs) {
    if (this.socket !== null) this.lose({ code: 1006, reason: "dropped by hand" }, pauseMs);
  }

  /** Begin a new session now: with another token, say. */
  redial() {
    if (this.socket !== null) this.lose({ code: 1000, reason: "begun anew" });
    this.dial();
  }

  /** The tab came forward or the network is back: find out at once. */
  wake() {
    if (this.state === "waiting") this.dial();
    else this.probe({ mustAnswer: true });
  }

  // -------------------------------------------------------------------------------- what the socket says

  connected() {
    if (!this.step("connected")) return;
    this.socket.send(encodeFrame([["hello", this.handlers.hello()]]));
    this.handlers.changed();
  }

  received(data) {
    if (!(data instanceof ArrayBuffer)) {
      this.lose({ code: 1003, reason: "the node sent text" });
      return;
    }
    this.heard();
    const socket = this.socket;
    const { messages, error } = decodeFrame(new Uint8Array(data));
    for (const [type, body] of messages) {
      if (this.socket !== socket) return; // a message before this one ended the connection
      this.take(type, body);
    }
    if (error !== null && this.socket === socket) this.lose({ code: 1002, reason: error.message });
  }

  take(type, body) {
    if (type === "ping") this.send(["pong", {}]);
    else if (type === "pong") this.takePong(body);
    else if (type === "welcome") this.welcomed(body);
    else if (type === "bye") this.bye = body;
    else this.handlers.received(type, body);
  }

  takePong(body) {
    const sentAt = this.probes.get(body.nonce);
    if (sentAt === undefined) return;
    this.probes.clear();
    this.latencyMs = this.env.now() - sentAt;
    this.handlers.changed();
  }

  welcomed(body) {
    if (!this.step("welcomed")) return;
    this.session = body.session;
    this.pingMs = body.ping_ms;
    this.maxFrameBytes = body.max_frame_bytes;
    this.openedAt = this.env.now();
    this.heard();
    this.probe();
    this.handlers.opened(body);
    this.handlers.changed();
  }

  closed(event) {
    const said = event.code === 1005 || event.code === 1006 ? NOTHING_SAID : event;
    const { code, reason } = this.bye ?? said;
    this.lose({ code, reason }, this.bye?.after_ms);
  }

  lose(ended, leastMs = 0) {
    const socket = this.socket;
    this.socket = null; // from here on, nothing this socket says counts
    this.clearTimer();
    if (socket !== null && socket.readyState < 2) socket.close(3000, "lost");
    if (this.isOpen && this.env.now() - this.openedAt >= STABLE_MS) this.backoff.reset();
    this.ended = ended;
    this.session = null;
    this.latencyMs = null;
    if (isFinal(ended.code)) this.step("refused");
    else if (this.step("lost")) this.wait(this.backoff.nextMs(leastMs));
    this.handlers.changed();
  }

  // -------------------------------------------------------------------------------- time

  wait(delayMs) {
    this.retryAt = this.env.now() + delayMs;
    this.timer = this.env.setTimeout(() => this.dial(), delayMs);
  }

  heard() {
    if (this.isOpen) this.deadlineAt = this.env.now() + this.pingMs + SLACK_MS;
  }

  watch() {
    this.tickedAt = this.env.now();
    this.timer = this.env.setTimeout(() => this.tick(), TICK_MS);
  }

  tick() {
    const now = this.env.now();
    const hasSlept = now - this.tickedAt > TICK_MS + ASLEEP_MS;
    if (hasSlept && this.isOpen) {
      this.deadlineAt = now + ANSWER_MS; // what arrived meanwhile is still to be read
      this.probe();
    }
    if (now >= this.deadlineAt) this.lose({ code: 1006, reason: "the node went silent" });
    else this.watch();
  }

  clearTimer() {
    this.env.clearTimeout(this.timer);
    this.timer = null;
  }

  step(happened) {
    const next = TRANSITIONS[this.state][happened];
    if (next === undefined) return false;
    this.state = next;
    return true;
  }
}
