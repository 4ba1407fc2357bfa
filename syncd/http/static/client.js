/**
 * The demo page's client: keeps subscriptions, publications and presence going over one connection after the other, as
 * section 13 of protocol/SPEC.md asks of a client. Knows nothing of the page; tells it what happened.
 */

import { Backoff } from "./backoff.js";
import { Connection } from "./connection.js";
import { MsgpackError } from "./msgpack.js";
import { Outbox } from "./outbox.js";
import { PresenceView } from "./presence.js";
import { Subscription } from "./subscription.js";

const NO_PRESENCE = new Set(["not_supported", "permission_denied"]);
const CALM_MS = 5_000; // gaps closer together than this are not repaired at once

/** One channel that the page wants, with everything known about it. */
class Channel {
  constructor(name) {
    this.name = name;
    this.subscription = new Subscription(name);
    this.presence = new PresenceView();
    this.backoff = new Backoff(Math.random);
    this.retryTimer = null;
    this.gapAt = -Infinity;
  }
}

export class Client {
  /** `{client, secret}`, once there is one. */
  identity = null;
  token = null;
  displayName = "";
  channels = new Map();

  /**
   * Args:
   *   env: as of Connection, and `randomBytes(count)`.
   *   handlers: `fact(channelName, fact)` for what a subscription hands out; `settled(item, answer)` for a publication,
   *     answer = `{position}` or `{code, message}`; `changed()` after anything that is worth keeping or showing.
   */
  constructor(url, env, handlers) {
    this.env = env;
    this.handlers = handlers;
    this.outbox = new Outbox(env.randomBytes);
    this.requests = new Map();
    this.nextId = 1;
    this.serverTimeMs = 0;
    this.connection = new Connection(url, env, {
      hello: () => this.hello(),
      opened: (welcome) => this.opened(welcome),
      received: (type, body) => this.received(type, body),
      changed: () => this.connectionChanged(),
    });
  }

  // -------------------------------------------------------------------------------- what the page wants

  subscribe(name, position = null) {
    if (this.channels.has(name)) return;
    const channel = new Channel(name);
    channel.subscription.position = position;
    this.channels.set(name, channel);
    this.ask(channel);
    this.handlers.changed();
  }

  unsubscribe(name) {
    const channel = this.channels.get(name);
    if (channel === undefined) return;
    this.channels.delete(name);
    this.env.clearTimeout(channel.retryTimer);
    const { state, hasPresence } = channel.subscription;
    if (state === "live" || state === "subscribing") this.request("unsubscribe", { channel: name });
    if (hasPresence) this.request("presence", { channel: name, state: null });
    this.handlers.changed();
  }

  /** Ask again for a channel that the server had ended. */
  resubscribe(name) {
    const channel = this.channels.get(name);
    if (channel?.subscription.step("again")) this.ask(channel);
    this.handlers.changed();
  }

  /** Publish until answered; return the queued item, or null when too many wait. */
  publish(publication) {
    const item = this.outbox.add(publication);
    if (item !== null) this.sendPublication(item);
    this.handlers.changed();
    return item;
  }

  rename(name) {
    this.displayName = name;
    for (const channel of this.channels.values()) this.announce(channel);
    this.handlers.changed();
  }

  /** Begin a new session with this token, and ask again for what was refused. */
  useToken(token) {
    this.token = token;
    for (const { subscription } of this.channels.values()) {
      if (subscription.ended !== null) subscription.step("again");
      subscription.ended = null;
    }
    this.connection.redial();
  }

  /** Read the newest events of a channel, or those before `since`; the answer goes to `onAnswer`. */
  readHistory(name, { since = undefined, limit }, onAnswer) {
    return this.request("history", { channel: name, since, limit, reverse: true }, onAnswer);
  }

  // -------------------------------------------------------------------------------- the connection

  hello() {
    const clients = this.identity === null ? undefined : [this.identity];
    return { v: 1, token: this.token ?? undefined, clients };
  }

  opened(welcome) {
    this.serverTimeMs = welcome.server_time_ms;
    const { client, secret } = welcome.clients[0];
    if (secret != null) this.identity = { client, secret };
    for (const channel of this.channels.values()) this.ask(channel);
    for (const item of this.outbox.items) this.sendPublication(item);
    this.handlers.changed();
  }

  connectionChanged() {
    if (!this.connection.isOpen && this.requests.size > 0) this.disconnected();
    if (!this.connection.isOpen) {
      for (const { subscription, presence } of this.channels.values()) {
        subscription.step("disconnected");
        presence.outdate();
      }
    }
    this.handlers.changed();
  }

  disconnected() {
    this.requests.clear();
    this.outbox.disconnected();
  }

  /** Send a request; `onAnswer(type, body)` comes at most once, and never after the connection ended. */
  request(type, body, onAnswer = () => {}) {
    const id = this.nextId;
    this.nextId += 1;
    if (!this.connection.send([type, { id, ...body }])) return null;
    this.requests.set(id, onAnswer);
    return id;
  }

  received(type, body) {
    const channel = this.channels.get(body.channel);
    if (type === "ok" || type === "error" || type === "subscribed") this.answered(type, body);
    if (type === "reset") this.reset(body);
    else if (channel !== undefined) this.receivedFor(channel, type, body);
    this.handlers.changed();
  }

  answered(type, body) {
    const onAnswer = this.requests.get(body.id);
    this.requests.delete(body.id);
    onAnswer?.(type, body);
  }

  receivedFor(channel, type, body) {
    const { subscription, presence } = channel;
    if (type === "event") this.tell(channel, subscription.event(body));
    else if (type === "subscribed") this.tell(channel, subscription.answered(body, this.serverTimeMs));
    else if (type === "mark") subscription.mark(body.position);
    else if (type === "lagged") this.again(channel);
    else if (type === "unsubscribed") this.ended(channel, { code: body.code, message: body.reason });
    else if (type === "presence_state") presence.replace(body);
    else if (type === "presence_diff") presence.apply(body);
  }

  reset({ scope, channel }) {
    if (scope === "channel") this.channels.get(channel)?.subscription.forgetPosition();
    if (scope !== "all") return; // the new client id stands in `welcome` already
    for (const { subscription } of this.channels.values()) subscription.forgetPosition();
  }

  // -------------------------------------------------------------------------------- subscriptions

  ask(channel) {
    if (!this.connection.isOpen) return;
    const { subscription } = channel;
    const body = subscription.ask(this.nextId);
    if (body === null) return;
    channel.presence.outdate();
    this.request("subscribe", body, (type, answer) => this.refusedSubscribe(channel, type, answer));
    if (subscription.hasPresence) this.announce(channel);
  }

  refusedSubscribe(channel, type, answer) {
    const { subscription } = channel;
    if (type !== "error" || subscription.requestId !== answer.id) return;
    if (subscription.hasPresence && NO_PRESENCE.has(answer.code)) {
      subscription.hasPresence = false; // perhaps the channel without it is allowed
      this.again(channel);
    } else if (answer.retryable) this.againLater(channel, answer.after_ms);
    else this.ended(channel, answer);
  }

  ended(channel, { code, message }) {
    if (channel.subscription.step("ended")) channel.subscription.ended = { code, message };
    channel.presence.outdate();
  }

  tell(channel, facts) {
    for (const fact of facts) {
      this.handlers.fact(channel.name, fact);
      if (fact.kind === "gap") this.repair(channel);
    }
  }

  /** Events are missing: subscribe again from the last good position. */
  repair(channel) {
    this.request("unsubscribe", { channel: channel.name });
    const isCalm = this.env.now() - channel.gapAt > CALM_MS;
    channel.gapAt = this.env.now();
    if (isCalm) this.again(channel);
    else this.againLater(channel);
  }

  again(channel) {
    channel.backoff.reset();
    if (channel.subscription.step("again")) this.ask(channel);
  }

  againLater(channel, leastMs = 0) {
    if (!channel.subscription.step("again")) return;
    this.env.clearTimeout(channel.retryTimer);
    channel.retryTimer = this.env.setTimeout(() => this.ask(channel), channel.backoff.nextMs(leastMs));
  }

  announce(channel) {
    if (!channel.subscription.hasPresence || channel.subscription.state === "ended") return;
    const body = { channel: channel.name, state: { name: this.displayName } };
    this.request("presence", body, (type, answer) => {
      if (type !== "error" || !answer.retryable) return;
      this.env.setTimeout(() => this.announce(channel), channel.backoff.nextMs(answer.after_ms));
    });
  }

  // -------------------------------------------------------------------------------- publications

  sendPublication(item) {
    if (!this.connection.isOpen || item.requestId !== null || !this.outbox.items.includes(item)) return;
    try {
      const body = this.outbox.body(item, this.nextId);
      this.request("publish", body, (type, answer) => this.answeredPublication(item, type, answer));
    } catch (error) {
      if (!(error instanceof MsgpackError || error instanceof SyntaxError)) throw error;
      this.settle(item, { code: "bad_request", message: error.message });
    }
  }

  answeredPublication(item, type, answer) {
    if (type === "error" && answer.retryable) {
      item.requestId = null;
      this.env.setTimeout(() => this.sendPublication(item), Math.max(answer.after_ms ?? 0, 500));
    } else this.settle(item, type === "error" ? answer : { position: answer.position ?? null });
  }

  settle(item, answer) {
    this.outbox.settle(item);
    this.handlers.settled(item, answer);
  }
}
