/** The channel viewer: puts the client and the views together, and keeps over a reload what must survive it. */

import { Client } from "./client.js";
import { EventLog } from "./event_log.js";
import { claim, inventName } from "./identity.js";
import { TabStore } from "./tab_store.js";
import { ChannelsView, isChannelName } from "./view/channels.js";
import { announce, byId, count, counted, oncePerFrame } from "./view/dom.js";
import { EventsView } from "./view/events.js";
import { HeadView } from "./view/head.js";
import { PeopleView } from "./view/people.js";
import { PublishView } from "./view/publish.js";
import { StatusView } from "./view/status.js";
import { TerminalView } from "./view/terminal.js";

const DEFAULT_CHANNEL = "demo:lobby";
const HISTORY_EVENTS = 50;
const PROBE_MS = 5_000;
const COUNTDOWN_MS = 100;
const SUMMARY_MS = 2_000;

const env = {
  now: () => performance.now(),
  random: Math.random,
  randomBytes: (size) => crypto.getRandomValues(new Uint8Array(size)),
  setTimeout: (act, ms) => setTimeout(act, ms),
  clearTimeout: (timer) => clearTimeout(timer),
  WebSocket,
};

/** Where the WebSocket is: beside the page, or where `?ws=` says, for a node with an address of its own for pages. */
function socketUrl() {
  const given = new URLSearchParams(location.search).get("ws");
  if (given !== null && /^wss?:\/\//.test(given) && URL.canParse(given)) return given;
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
}

class Page {
  logs = new Map();
  unread = new Map();
  current = DEFAULT_CHANNEL;
  numUnsaid = 0;
  loadingEarlier = new Set();
  wasOpen = false;
  claimed = null;

  constructor(url) {
    this.render = oncePerFrame(() => this.renderNow());
    this.client = new Client(url, env, {
      fact: (channel, fact) => this.took(channel, fact),
      settled: (item, answer) => this.publishView.settled(item, answer),
      changed: () => this.changed(),
    });
    this.store = new TabStore(sessionStorage, `syncd.viewer ${url}`, {
      read: () => this.kept(),
      setTimeout: env.setTimeout,
    });
    this.makeViews();
  }

  makeViews() {
    const { client } = this;
    const ownClient = () => client.identity?.client ?? null;
    this.status = new StatusView(client, {
      askAgainAs: (identity) => (client.identity = identity),
      isRefused: () => client.channels.get(this.current)?.subscription.ended?.code === "permission_denied",
    });
    this.channels = new ChannelsView({
      add: (name) => this.add(name),
      pick: (name) => this.pick(name),
      leave: (name) => this.leave(name),
    });
    this.head = new HeadView({ resubscribe: () => client.resubscribe(this.current) });
    this.events = new EventsView({ ownClient, loadEarlier: () => this.loadHistory(this.current) });
    this.publishView = new PublishView({
      publish: (fields) => client.publish({ channel: this.current, ...fields }),
      isOpen: () => client.connection.isOpen,
    });
    this.people = new PeopleView({ rename: (name) => client.rename(name) });
    this.terminal = new TerminalView(location.origin);
  }

  // -------------------------------------------------------------------------------- start, and what is kept

  async start() {
    const kept = this.store.load();
    const { client } = this;
    client.identity = await claim(kept.identity ?? null, navigator.locks);
    this.claimed = client.identity;
    client.displayName = kept.name ?? inventName(Math.random);
    client.token = kept.token ?? null;
    if (client.identity !== null) client.outbox.restore(kept.unanswered ?? []);
    const channels = kept.channels ?? [];
    for (const { name, position, rows } of channels) {
      this.logOf(name).restore(rows);
      client.subscribe(name, position);
    }
    if (channels.length === 0) client.subscribe(DEFAULT_CHANNEL);
    this.pick(client.channels.has(kept.current) ? kept.current : client.channels.keys().next().value);
    this.people.setName(client.displayName);
    this.listen();
    client.connection.dial();
  }

  kept() {
    const { identity, displayName, token, outbox, channels } = this.client;
    return {
      identity,
      name: displayName,
      token,
      current: this.current,
      unanswered: outbox.saved(),
      channels: [...channels.values()].map(({ name, subscription }) => ({
        name,
        position: subscription.position,
        rows: this.logOf(name).saved(),
      })),
    };
  }

  listen() {
    const { connection } = this.client;
    addEventListener("online", () => connection.wake());
    addEventListener("pageshow", (event) => event.persisted && connection.wake());
    addEventListener("pagehide", () => this.store.flush());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.store.flush();
      else connection.wake();
      this.render();
    });
    setInterval(() => document.hidden || connection.probe(), PROBE_MS);
    setInterval(() => connection.state === "waiting" && this.status.render(), COUNTDOWN_MS);
    setInterval(() => this.summarise(), SUMMARY_MS);
  }

  // -------------------------------------------------------------------------------- what the client tells

  changed() {
    const { connection, identity } = this.client;
    if (this.wasOpen && !connection.isOpen) this.noteEverywhere("Connection lost.", "warn");
    this.wasOpen = connection.isOpen;
    if (!connection.isOpen) this.loadingEarlier.clear();
    if (identity !== null && identity !== this.claimed) {
      this.claimed = identity;
      claim(identity, navigator.locks);
    }
    this.store.touch();
    this.render();
  }

  took(channel, fact) {
    const log = this.logOf(channel);
    if (fact.kind === "event") this.tookEvent(channel, log, fact);
    else if (fact.kind === "recovered") log.addNote(recoveredText(fact.count), "good", Date.now());
    else if (fact.kind === "gap") log.addNote("Events are missing here: asking again.", "bad", Date.now());
    else this.began(channel, log, fact);
  }

  tookEvent(channel, log, { event, how, isChecked }) {
    log.addEvent(event, { how, isChecked, byName: this.nameOf(channel, event) });
    if (channel === this.current) this.numUnsaid += 1;
    else this.unread.set(channel, (this.unread.get(channel) ?? 0) + 1);
  }

  began(channel, log, { kind, position }) {
    if (kind === "lost") log.clear();
    if (position === null) log.addNote("Subscribed. This channel keeps no history.", "plain", Date.now());
    else if (kind === "lost") log.addNote(`History lost: starting fresh after offset ${count(position.offset)}.`, "bad", Date.now());
    else log.addNote(`Subscribed after offset ${count(position.offset)}.`, "plain", Date.now());
    if (position !== null && position.offset > 0) this.loadHistory(channel, position);
  }

  nameOf(channel, event) {
    const author = event.by?.client;
    return author == null ? null : (this.client.channels.get(channel)?.presence.nameOfClient(author) ?? null);
  }

  noteEverywhere(text, tone) {
    for (const log of this.logs.values()) log.addNote(text, tone, Date.now());
  }

  /** Load what came before the oldest event shown, or before and at `upTo` when nothing is shown. */
  loadHistory(channel, upTo = null) {
    const log = this.logOf(channel);
    const since = log.oldest() ?? undefined;
    if (this.loadingEarlier.has(channel)) return;
    const id = this.client.readHistory(channel, { since, limit: HISTORY_EVENTS }, (type, answer) => {
      this.loadingEarlier.delete(channel);
      if (type === "ok") this.tookHistory(channel, log, answer.events, upTo);
      else log.isComplete = true;
    });
    if (id !== null) this.loadingEarlier.add(channel);
  }

  tookHistory(channel, log, events, upTo) {
    const older = upTo === null ? events : events.filter(({ epoch, offset }) => epoch === upTo.epoch && offset <= upTo.offset);
    log.prepend(older.toReversed(), (event) => this.nameOf(channel, event));
    log.isComplete = events.length === 0 || log.oldest()?.offset === 1;
    this.changed();
  }

  // -------------------------------------------------------------------------------- what the user does

  add(name) {
    this.client.subscribe(name);
    this.pick(name);
  }

  pick(name) {
    this.current = name;
    this.unread.delete(name);
    this.changed();
  }

  leave(name) {
    if (this.client.channels.size === 1) {
      this.channels.hint("The last channel stays; subscribe to another one first.", "bad");
      return;
    }
    this.client.unsubscribe(name);
    this.logs.delete(name);
    this.unread.delete(name);
    if (name === this.current) this.pick(this.client.channels.keys().next().value);
    byId("channel").focus();
  }

  // -------------------------------------------------------------------------------- showing

  logOf(name) {
    if (!this.logs.has(name)) this.logs.set(name, new EventLog());
    return this.logs.get(name);
  }

  renderNow() {
    const { client, current } = this;
    const { subscription, presence } = client.channels.get(current);
    const log = this.logOf(current);
    const ownClient = client.identity?.client ?? null;
    this.status.render();
    this.channels.render(
      [...client.channels.values()].map(({ name, subscription: { state } }) => ({
        name,
        state,
        unread: this.unread.get(name) ?? 0,
        isCurrent: name === current,
      })),
    );
    this.head.render(subscription, log);
    this.events.render(log, { canLoadEarlier: client.connection.isOpen && log.canGrow && log.oldest() !== null });
    this.people.render(presence, { hasPresence: subscription.hasPresence, ownClient });
    this.terminal.render(current);
  }

  /** Tell screen readers now and then how many events came, not each of them. */
  summarise() {
    if (this.numUnsaid > 0) announce(`${counted(this.numUnsaid, "new event")} in ${this.current}`);
    this.numUnsaid = 0;
  }
}

function recoveredText(number) {
  return number === 0 ? "Recovered: nothing was missed." : `Recovered ${counted(number, "event")}.`;
}

await new Page(socketUrl()).start();
