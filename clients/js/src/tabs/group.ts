/**
 * One tab among those that share a connection: its way to the leader, or its hub if it leads itself.
 *
 * Owns the channel between tabs and the one socket that this tab's client believes to be a WebSocket.
 */

import type { Environment, SocketLike, SocketMaker } from "../shell/environment.js";
import { Link } from "../shell/link.js";
import type { PendingStore } from "../shell/pending-store.js";
import type { LocksLike } from "../storage/platform.js";
import { decodeFrame } from "../wire/decode.js";
import type { ClientClaim } from "../wire/messages.js";
import { Election, type KeptLike } from "./election.js";
import type { TabId } from "./exchange.js";
import { Hub } from "./hub.js";
import { PendingOfTabs } from "./pending.js";
import { TabSocket } from "./socket.js";
import type { Addressed, ConnectionWord, Word } from "./words.js";

/** After its client ended the connection a tab goes on leading for so long: it may only want another session. */
const LINGER_MS = 1_000;
const ABNORMAL_CLOSE = 1006;

/** A `BroadcastChannel`. */
export interface ChannelLike {
  onmessage: ((event: never) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
}

/** What sharing needs from outside. */
export interface TabsEnvironment {
  readonly locks: LocksLike;
  openChannel(name: string): ChannelLike;
  /** What all tabs can read; null: nothing. */
  readonly kept: KeptLike | null;
}

/** This tab. */
export class TabGroup {
  readonly id: TabId;
  pending: PendingOfTabs;
  readonly #environment: Environment;
  readonly #tabs: TabsEnvironment;
  readonly #url: string;
  readonly #name: string;
  readonly #election: Election;
  #channel: ChannelLike | null = null;
  #hub: Hub | null = null;
  #link: Link | null = null;
  #timer: unknown = null;
  #linger: unknown = null;
  #stopListening: (() => void) | null = null;
  /** What this tab's client believes to be its connection. */
  #socket: TabSocket | null = null;
  /** Term of the leader that it goes through; null: none yet. */
  #through: number | null = null;
  #claims: readonly ClientClaim[] = [];
  #known = new Set<TabId>();
  /** How many connections this tab's client has had; and, for a hub, what the others said of theirs. */
  #turn = 0;
  readonly #turns = new Map<TabId, number>();
  /** The leader has no room for this tab. */
  #isRefused = false;

  constructor(environment: Environment, tabs: TabsEnvironment, url: string, name: string) {
    this.#environment = environment;
    this.#tabs = tabs;
    this.#url = url;
    this.#name = name;
    this.id = [...environment.randomBytes(9)].map((byte) => byte.toString(36)).join("");
    this.pending = this.keep(undefined);
    this.#election = new Election(environment, tabs.locks, tabs.kept, name, {
      elected: (term) => this.#elected(term),
      deposed: () => this.#deposed(),
      ask: () => this.#say({ say: "ask", from: this.id, claims: this.#claims }),
      joined: () => this.#joined(),
    });
  }

  /** Tell the other tabs what this one keeps. */
  keep(store: PendingStore | undefined): PendingOfTabs {
    this.pending = new PendingOfTabs(this.id, store, (word) => this.#say(word));
    return this.pending;
  }

  /** Whether this tab holds the connection, uses another's, or has one of its own beside the others'. */
  get role(): "leader" | "follower" | "solo" {
    if (this.#isRefused || !this.#election.isIn) return "solo";
    return this.#election.isLeader ? "leader" : "follower";
  }

  /** What this tab's client takes for the platform's WebSocket. */
  get WebSocket(): SocketMaker {
    const open = (url: string, protocol: string): SocketLike =>
      this.#isRefused ? new this.#environment.WebSocket(url, protocol) : this.#open();
    // `new` of a function that returns an object gives that object.
    return function Shared(url: string, protocol: string) {
      return open(url, protocol);
    } as unknown as SocketMaker;
  }

  #open(): SocketLike {
    this.#environment.clearTimeout(this.#linger);
    this.#socket?.end(ABNORMAL_CLOSE, "");
    const socket = new TabSocket({
      sent: (frame) => this.#sent(socket, frame),
      closed: () => this.#closed(socket),
    });
    this.#socket = socket;
    this.#turn += 1;
    this.#through = null;
    if (this.#election.isIn) this.#greet();
    else this.#join();
    return socket;
  }

  // ------------------------------------------------------------------------------- taking part

  #join(): void {
    const channel = this.#tabs.openChannel(this.#name);
    channel.onmessage = (event: { data: Word }) => this.#hear(event.data);
    this.#channel = channel;
    this.#stopListening = this.#environment.listen((signal) => {
      if (signal === "pagehide") this.leave();
      else if (signal !== "offline") this.#election.doubt();
    });
    this.#election.join(this.id);
  }

  #joined(): void {
    this.#election.doubt();
    this.#say({ say: "here", from: this.id });
    this.pending.tellAll();
  }

  /** Take part no more: another tab leads. Its client's connection, if it has one, ends. */
  leave(): void {
    this.#environment.clearTimeout(this.#linger);
    this.#stopListening?.();
    this.#stopListening = null;
    this.#left();
    this.#say({ say: "gone", from: this.id });
    for (const tab of this.pending.tabs) this.pending.forgetTab(tab);
    this.#known.clear(); // nobody's end is noticed any more
    this.#election.leave();
    this.#channel?.close();
    this.#channel = null;
    this.#shut(ABNORMAL_CLOSE, "The page was left.");
  }

  #say(word: Word): void {
    if (this.#election.hasJoined) this.#channel?.postMessage(word);
  }

  #left(): void {
    if (this.#hub !== null) this.#run((hub) => hub.tabLeft(this.id, false));
    else if (this.#through !== null) this.#say({ say: "left", from: this.id, term: this.#through });
  }

  // ------------------------------------------------------------------------------- this tab's client

  /** There is a leader: the socket is open. */
  #greet(): void {
    const socket = this.#socket;
    const isKnown = this.#election.isLeader || this.#election.isHeard;
    if (socket === null || this.#through !== null || !isKnown) return;
    this.#through = this.#election.term;
    socket.begin();
  }

  #sent(socket: TabSocket, frame: Uint8Array): void {
    if (socket !== this.#socket || this.#through === null) return;
    this.#noteClaims(frame, "hello");
    if (this.#hub !== null) this.#run((hub, now) => hub.tabSent(this.id, frame, now));
    else this.#say({ say: "up", from: this.id, term: this.#through, turn: this.#turn, data: frame });
  }

  #closed(socket: TabSocket): void {
    if (socket !== this.#socket) return;
    this.#socket = null;
    this.#left();
    this.#through = null;
    this.#linger = this.#environment.setTimeout(() => {
      if (this.#socket === null) this.leave();
    }, LINGER_MS);
  }

  #shut(code: number, reason: string): void {
    const socket = this.#socket;
    this.#socket = null;
    this.#through = null;
    socket?.end(code, reason);
  }

  #received(frame: Uint8Array): void {
    this.#noteClaims(frame, "welcome");
    this.#socket?.receive(frame);
  }

  /** Remember which clients this tab speaks for, to tell a new leader before it dials. */
  #noteClaims(frame: Uint8Array, wanted: "hello" | "welcome"): void {
    if (!this.#socket?.isGreeting(wanted)) return;
    const first = decodeFrame(frame)[0];
    if (first?.[0] !== wanted) return;
    const clients = (first[1]["clients"] ?? []) as { client: string; secret?: string | null }[];
    this.#claims = clients.map(({ client, secret }) => {
      const known = this.#claims.find((claim) => claim.client === client);
      return { client, secret: secret ?? known?.secret ?? "" };
    });
  }

  // ------------------------------------------------------------------------------- what other tabs say

  #hear(word: Word): void {
    // The leader may never have heard of what is pending here: every tab notices the end of those whose mutations it shows.
    if (word.say === "made") this.#meet(word.from);
    if (word.say === "made" || word.say === "undone") this.pending.hear(word);
    else if (word.say === "here") this.pending.tellAll();
    else if (word.say === "gone") this.pending.forgetTab(word.from);
    else this.#hearOfConnection(word);
  }

  #hearOfConnection(word: ConnectionWord): void {
    if (word.say === "ask") {
      if (this.#hub === null) return;
      this.#meet(word.from);
      this.#hub.expect(word.from, word.claims);
      this.#say({ say: "lead", term: this.#election.term });
      return;
    }
    const { term } = word;
    if (word.say === "up" || word.say === "left") {
      if (this.#hub === null || term !== this.#election.term) return;
      this.#meet(word.from);
      if (word.say === "up") {
        this.#turns.set(word.from, word.turn);
        this.#run((hub, now) => hub.tabSent(word.from, word.data, now));
      } else this.#run((hub) => hub.tabLeft(word.from, false));
      return;
    }
    if (this.#hub !== null && term < this.#election.term) {
      this.#say({ say: "lead", term: this.#election.term });
      return;
    }
    this.#heardLeader(term, word);
  }

  #heardLeader(term: number, word: ConnectionWord): void {
    if (term < this.#election.term) return;
    const isNew = term > this.#election.term || !this.#election.isHeard;
    this.#election.heard(term);
    if (this.#through !== null && this.#through < term) this.#shut(ABNORMAL_CLOSE, "Another tab leads now.");
    if (isNew && word.say === "lead") this.#election.doubt();
    if (word.say === "lead") this.#greet();
    else if (this.#through !== term || !("to" in word) || word.to.get(this.id) !== this.#turn) return;
    else if (word.say === "down") this.#received(word.data);
    else if (word.say === "shut") {
      this.#isRefused = word.isRefused;
      this.#shut(word.code, word.reason);
      if (word.isRefused) this.leave();
    }
  }

  /** A tab is heard for the first time: notice its end. */
  #meet(tab: TabId): void {
    if (this.#known.has(tab)) return;
    this.#known.add(tab);
    const hub = this.#hub;
    this.#election.onEnd(tab, () => {
      this.#known.delete(tab);
      this.#turns.delete(tab);
      this.pending.forgetTab(tab);
      if (this.#hub !== null) this.#say({ say: "gone", from: tab });
      if (hub === this.#hub) this.#run((own) => own.tabLeft(tab, true));
    });
  }

  // ------------------------------------------------------------------------------- leading

  #elected(term: number): void {
    const now = this.#environment.now();
    const fence = { group: this.#groupName(), term };
    this.#known = new Set([this.id]);
    const others = (tabs: readonly TabId[]): Addressed =>
      new Map(tabs.flatMap((tab) => (tab === this.id ? [] : [[tab, this.#turns.get(tab) ?? 0]])));
    const shut = (tabs: readonly TabId[], code: number, reason: string, isRefused: boolean): void => {
      const to = others(tabs);
      if (to.size > 0) this.#say({ say: "shut", term, to, code, reason, isRefused });
      if (to.size < tabs.length) this.#shut(code, reason);
    };
    const hub = new Hub(
      {
        dial: () => this.#dial(hub),
        sendUp: (frame) => this.#link?.send(frame),
        hangUp: () => this.#hangUp(),
        sendDown: (tabs, data) => {
          const to = others(tabs);
          if (to.size > 0) this.#say({ say: "down", term, to, data });
          if (to.size < tabs.length) this.#received(data);
        },
        closeDown: (tabs, code, reason) => shut(tabs, code, reason, false),
        refuse: (tab) => shut([tab], ABNORMAL_CLOSE, "There are too many tabs.", true),
        deposed: () => this.#election.stepBack(),
      },
      fence,
      now,
    );
    if (this.#through !== null) this.#shut(ABNORMAL_CLOSE, "This tab leads now.");
    this.#hub = hub;
    hub.expect(this.id, this.#claims);
    this.#say({ say: "lead", term });
    // The last leader may have ended with something pending.
    for (const tab of this.pending.tabs) this.#meet(tab);
    this.#greet();
  }

  #deposed(): void {
    const hub = this.#hub;
    if (hub === null) return;
    hub.end();
    this.#hub = null;
    this.#environment.clearTimeout(this.#timer);
    this.#shut(ABNORMAL_CLOSE, "Another tab leads now.");
  }

  #run(act: (hub: Hub, now: number) => void): void {
    const hub = this.#hub;
    if (hub === null) return;
    const now = this.#environment.now();
    hub.tick(now);
    act(hub, now);
    this.#arm();
  }

  #arm(): void {
    this.#environment.clearTimeout(this.#timer);
    const deadline = this.#hub?.nextDeadline() ?? Number.POSITIVE_INFINITY;
    if (deadline === Number.POSITIVE_INFINITY) return;
    const afterMs = Math.max(deadline - this.#environment.now(), 0);
    this.#timer = this.#environment.setTimeout(() => this.#run(() => undefined), afterMs);
  }

  #dial(hub: Hub): void {
    const closed = (code: number, reason: string): void => {
      this.#link = null;
      if (hub === this.#hub) this.#run(() => hub.closed(code, reason));
    };
    try {
      this.#link = new Link(this.#environment.WebSocket, this.#url, {
        opened: () => this.#run(() => hub.opened()),
        received: (frame) => this.#run((_, now) => hub.received(frame, now)),
        closed,
      });
    } catch (error) {
      closed(ABNORMAL_CLOSE, String(error));
    }
  }

  #hangUp(): void {
    this.#link?.hangUp(1000, "");
    this.#link = null;
  }

  /** Name of this browser's tabs at the server: other devices of the user lead themselves. */
  #groupName(): string {
    const key = `${this.#name} group`;
    try {
      const known = this.#tabs.kept?.getItem(key);
      if (known) return known;
      this.#tabs.kept?.setItem(key, this.id);
    } catch {
      // Storage may be forbidden: then the server tells leaders apart by their clients alone.
    }
    return this.id;
  }
}
