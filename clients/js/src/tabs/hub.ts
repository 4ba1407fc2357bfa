/**
 * One session with the server that serves many tabs. Pure.
 *
 * Lives in the leading tab. To each tab it speaks as a server does (SPEC), so a tab is an ordinary client and keeps its own
 * view; to the server it is one session that speaks for the clients of all tabs. When the session ends, the connections of
 * all tabs end in the same way, and they come back as any client does. Times are milliseconds on the shell's monotonic clock.
 */

import { AppliedAge } from "../core/age.js";
import { type Body, decodeFrame } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";
import { packFrames } from "../wire/frames.js";
import { type ClientClaim, PROTOCOL_VERSION } from "../wire/messages.js";
import { Exchange, type TabId } from "./exchange.js";
import { MAX_CLIENTS, Session } from "./session.js";
import { SharedSubscriptions } from "./subscriptions.js";
import { SharedToken } from "./token.js";
import { SharedWatches } from "./watches.js";

/** A tab that had a connection to an earlier leader says so at once: the first dial waits for that, so that it need not be repeated. */
export const GATHER_MS = 150;
/** From dialling to `welcome`; a tab gives up after 20 s by itself. */
const CONNECT_MS = 15_000;
/** As for every client (SPEC 4.4). */
const SILENCE_SLACK_MS = 10_000;
/** Bytes by which a tab's message may grow: our numbers for requests and clients' names. */
const GROWTH_BYTES = 128;
const ABNORMAL_CLOSE = 1006;
const TOO_BIG = 1009;
const UNAUTHORIZED = 4401;
const TAKEN_OVER = 4504;

const NEVER = Number.POSITIVE_INFINITY;

/** What a hub has done. Never called from within itself in a way that matters: each call is the last thing it does. */
export interface HubOwner {
  /** Open a connection to the server; answer with `opened` and later `closed`, or with `closed` alone. */
  dial(): void;
  /** Send the server one frame. */
  sendUp(frame: Uint8Array): void;
  /** End the connection; `closed` is not called for it. */
  hangUp(): void;
  /** Send tabs one frame. */
  sendDown(tabs: readonly TabId[], frame: Uint8Array): void;
  /** End the connection of tabs. */
  closeDown(tabs: readonly TabId[], code: number, reason: string): void;
  /** There are too many tabs for one session: this one needs its own. */
  refuse(tab: TabId): void;
  /** A hub of a higher term serves the tabs. */
  deposed(): void;
}

interface Tab {
  claims: readonly ClientClaim[];
  /** It said hello on a connection that lasts. */
  isConnected: boolean;
  isWelcomed: boolean;
  readonly announced: Set<string>;
}

/** Tables of one leading tab. */
export class Hub {
  readonly #owner: HubOwner;
  readonly #fence: { readonly group: string; readonly term: number };
  readonly #exchange: Exchange;
  readonly #subscriptions: SharedSubscriptions;
  readonly #watches: SharedWatches;
  readonly #tabs = new Map<TabId, Tab>();
  readonly #age = new AppliedAge();
  #session: Session | null = null;
  #state: "down" | "dialling" | "open" = "down";
  readonly #token = new SharedToken();
  #claimed: readonly ClientClaim[] = [];
  #deadline = NEVER;
  #dialNotBefore: number;
  #up: Encoded[] = [];
  /** Nonce that the server is asked with to the tab that asked. */
  readonly #probes = new Map<number, { tab: TabId; nonce: unknown }>();
  #numProbes = 0;

  /** @param fence Told in `hello`: the server takes no mutations from a session of the same group with a lower term. */
  constructor(owner: HubOwner, fence: { readonly group: string; readonly term: number }, now: number) {
    this.#owner = owner;
    this.#fence = fence;
    this.#dialNotBefore = now + GATHER_MS;
    this.#exchange = new Exchange(
      (message) => this.#up.push(message),
      (tabs, message) => owner.sendDown(tabs, message.bytes),
    );
    this.#subscriptions = new SharedSubscriptions(this.#exchange);
    this.#watches = new SharedWatches(this.#exchange);
  }

  /** @param tab Whose messages these are; null: nobody's. */
  #flush(tab: TabId | null = null): void {
    const limit = this.#session?.maxFrameBytes ?? 4_096;
    for (const frame of packFrames(this.#up.splice(0), limit)) {
      this.#session?.sent(frame, tab);
      this.#owner.sendUp(frame);
    }
  }

  // ------------------------------------------------------------------------------- tabs

  /** A tab lives and speaks for these clients: the session will, too. */
  expect(tab: TabId, claims: readonly ClientClaim[]): void {
    const known = this.#tabs.get(tab);
    if (known === undefined) {
      this.#tabs.set(tab, { claims, isConnected: false, isWelcomed: false, announced: new Set() });
    } else if (!known.isWelcomed) known.claims = claims;
  }

  /** Take a frame of a tab. */
  tabSent(tab: TabId, frame: Uint8Array, now: number): void {
    for (const [kind, body] of decodeFrame(frame)) {
      if (kind === "hello") this.#hello(tab, body, now);
      else if (this.#tabs.get(tab)?.isWelcomed) this.#passUp(tab, kind, body);
    }
    this.#flush(tab);
  }

  #hello(id: TabId, body: Body, now: number): void {
    if (this.#tabs.get(id)?.isConnected) this.#leave(id);
    if (!this.#token.offered(id, (body["token"] ?? null) as string | null, this.#state !== "down")) {
      this.#owner.closeDown([id], UNAUTHORIZED, "The token is not accepted.");
      return;
    }
    this.expect(id, (body["clients"] ?? []) as ClientClaim[]);
    const tab = this.#tabs.get(id);
    if (tab === undefined) return;
    tab.isConnected = true;
    if (this.#session !== null) this.#welcome(id, tab, now);
    else if (this.#state === "down") this.#deadline = Math.max(now, this.#dialNotBefore);
    this.tick(now);
  }

  /** Tell a tab that its session is there; where the server's does not speak for its clients, begin another one. */
  #welcome(id: TabId, tab: Tab, now: number): void {
    const answer = this.#session?.admit(id, tab.claims, now);
    if (!answer) {
      if (this.#claims().length >= MAX_CLIENTS) this.#owner.refuse(id);
      else this.#restart("Another tab has come.");
      return;
    }
    tab.claims = answer.claims;
    tab.isWelcomed = true;
    const { welcome, forgotten } = answer;
    const maxFrameBytes = (welcome["max_frame_bytes"] as number) - GROWTH_BYTES;
    this.#exchange.down([id], "welcome", { ...welcome, max_frame_bytes: maxFrameBytes });
    for (const client of forgotten) {
      this.#exchange.down([id], "reset", { scope: "client", client, code: "client_unknown" });
    }
  }

  /** End the session; tabs that come back find another one. */
  #restart(reason: string): void {
    if (this.#state !== "down") this.#owner.hangUp();
    this.#over(ABNORMAL_CLOSE, reason);
  }

  /** A tab ended its connection; or is gone, and its clients with it. */
  tabLeft(id: TabId, isGone: boolean): void {
    const isDoubtful = [...this.#probes.values()].some(({ tab }) => tab === id);
    this.#leave(id);
    if (isGone) {
      this.#session?.release(id);
      this.#tabs.delete(id);
      this.#token.forgetTab(id);
    }
    this.#flush();
    // It asked whether the server is there, and had no answer in time.
    if (isDoubtful && !isGone) this.#restart("The server did not answer.");
  }

  #leave(id: TabId): void {
    const tab = this.#tabs.get(id);
    if (tab === undefined) return;
    tab.isConnected = false;
    tab.isWelcomed = false;
    for (const [nonce, probe] of this.#probes) if (probe.tab === id) this.#probes.delete(nonce);
    if (this.#session === null) return;
    const client = tab.claims[0]?.client;
    for (const channel of tab.announced) this.#exchange.ask("presence", { channel, client, state: null });
    tab.announced.clear();
    this.#subscriptions.forgetTab(id);
    this.#watches.forgetTab(id);
    this.#exchange.forgetTab(id);
  }

  #passUp(id: TabId, kind: string, body: Body): void {
    const own = { ...body, client: body["client"] ?? this.#tabs.get(id)?.claims[0]?.client };
    switch (kind) {
      case "pong":
        break;
      case "probe":
        this.#numProbes += 1;
        this.#probes.set(this.#numProbes, { tab: id, nonce: body["nonce"] });
        this.#exchange.up("probe", { nonce: this.#numProbes });
        break;
      case "subscribe":
        this.#subscriptions.subscribe(id, body);
        break;
      case "unsubscribe":
        this.#subscriptions.unsubscribe(id, body);
        break;
      case "watch":
        this.#watches.watch(id, body);
        break;
      case "unwatch":
        this.#watches.unwatch(id, body);
        break;
      case "mutate":
      case "mutate_ack":
        this.#exchange.up(kind, own);
        break;
      case "presence":
        this.#tabs.get(id)?.announced[body["state"] == null ? "delete" : "add"](body["channel"] as string);
        this.#exchange.pass(id, kind, own);
        break;
      case "auth":
        this.#token.offered(id, body["token"] as string, false);
        this.#exchange.pass(id, kind, body);
        break;
      default:
        if (typeof body["id"] === "number") this.#exchange.pass(id, kind, body);
    }
  }

  // ------------------------------------------------------------------------------- the server

  /** The connection is open: say hello for everybody. */
  opened(): void {
    if (this.#state !== "dialling") return;
    this.#state = "open";
    this.#claimed = Session.claimsFor(this.#claims());
    const { group, term } = this.#fence;
    const [clients, token] = [this.#claimed, this.#token.tell()];
    this.#owner.sendUp(encodeMessage("hello", { v: PROTOCOL_VERSION, token, clients, group, term }).bytes);
  }

  #claims(): ClientClaim[] {
    return [...this.#tabs.values()].flatMap((tab) => tab.claims);
  }

  /** Take a frame of the server. */
  received(frame: Uint8Array, now: number): void {
    if (this.#state !== "open") return;
    if (this.#session !== null) this.#deadline = now + this.#session.pingMs + SILENCE_SLACK_MS;
    for (const [kind, body] of decodeFrame(frame)) if (this.#isOpen()) this.#passDown(kind, body, now);
    this.#flush();
  }

  #isOpen(): boolean {
    return this.#state === "open";
  }

  #passDown(kind: string, body: Body, now: number): void {
    const id = body["id"];
    if (kind === "welcome") this.#welcomed(body, now);
    else if (kind === "ping") {
      this.#exchange.up("pong", this.#age.take());
      this.#exchange.down(this.#connected, kind, body);
    } else if (kind === "bye") this.#bye(body);
    else if (kind === "reset") this.#reset(body);
    else if (kind === "pong") this.#ponged(body);
    else if (typeof id === "number") this.#answered(kind, id, body);
    else if (typeof body["mid"] === "number" || kind === "out_of_order") this.#decided(kind, body);
    else if (typeof body["channel"] === "string") {
      this.#told(kind, body);
      if (kind === "event") this.#age.applied(body["at_ms"], now);
    }
  }

  get #connected(): TabId[] {
    return [...this.#tabs].filter(([, tab]) => tab.isWelcomed).map(([id]) => id);
  }

  #welcomed(body: Body, now: number): void {
    this.#session = new Session(body, this.#claimed, now);
    this.#age.greeted(body["server_time_ms"] as number, now);
    this.#deadline = now + this.#session.pingMs + SILENCE_SLACK_MS;
    for (const [id, tab] of this.#tabs) if (tab.isConnected && this.#session) this.#welcome(id, tab, now);
  }

  #ponged({ nonce }: Body): void {
    const probe = this.#probes.get(nonce as number);
    this.#probes.delete(nonce as number);
    if (probe !== undefined) this.#exchange.down([probe.tab], "pong", { nonce: probe.nonce });
  }

  /** Ours is a hub of a lower term, or somebody uses our clients: in both cases another leader serves the tabs. */
  #bye(body: Body): void {
    const code = body["code"] as number;
    if (code === TAKEN_OVER) this.#owner.deposed();
    else if (code === UNAUTHORIZED) {
      this.#owner.hangUp();
      this.#over(code, body["reason"] as string);
    } else {
      this.#exchange.down(this.#connected, "bye", body);
      this.#restart(body["reason"] as string);
    }
  }

  #reset(body: Body): void {
    // Of clients each tab is told with its welcome.
    if (body["scope"] !== "client") this.#exchange.down(this.#connected, "reset", body);
  }

  #answered(kind: string, id: number, body: Body): void {
    const passed = this.#exchange.find(id);
    if (passed === undefined) return;
    if (kind === "ok" && passed.kind === "auth") this.#token.accepted(passed.body["token"] as string);
    const isPage = kind === "watched" || kind === "snapshot";
    if (!isPage || body["more"] !== true) this.#exchange.forget(id);
    if (kind === "subscribed") {
      this.#subscriptions.subscribed(passed, body);
      return;
    }
    if (kind === "watched") this.#watches.watched(passed, body);
    const more = isPage ? { decided: this.#session?.completed(body["decided"] as Body) } : {};
    this.#exchange.down([passed.tab], kind, { ...body, ...more, id: passed.id });
    if (kind === "error" && passed.kind === "subscribe") this.#subscriptions.refused(passed);
  }

  #decided(kind: string, body: Body): void {
    if (kind === "error" && body["code"] === "stale_term") {
      this.#owner.deposed();
      return;
    }
    const owner = this.#session?.ownerOf(body["client"] as string);
    if (kind === "outcome") this.#session?.decided(body["client"] as string, body["mid"] as number);
    if (owner != null) this.#exchange.down([owner], kind, body);
  }

  #told(kind: string, body: Body): void {
    if (kind === "subscribed") {
      this.#subscriptions.subscribed(undefined, body);
      return;
    }
    const tabs = new Set([...this.#subscriptions.take(kind, body), ...this.#watches.take(kind, body)]);
    this.#exchange.down([...tabs], kind, body);
  }

  /** The connection is over, or there was none. */
  closed(code: number, reason: string): void {
    if (code === TAKEN_OVER) this.#owner.deposed();
    else this.#over(code, reason);
  }

  #over(code: number, reason: string): void {
    const tabs = [...this.#tabs].filter(([, tab]) => tab.isConnected).map(([id]) => id);
    // The other tabs have sent nothing that long: they would fail what gets through.
    const tooBig = code === TOO_BIG && this.#session?.longest.tab;
    this.#state = "down";
    this.#session = null;
    this.#deadline = NEVER;
    this.#up = [];
    this.#probes.clear();
    this.#exchange.forgetAll();
    this.#subscriptions.forgetAll();
    this.#watches.forgetAll();
    for (const tab of this.#tabs.values()) {
      tab.isConnected = false;
      tab.isWelcomed = false;
      tab.announced.clear();
    }
    const isMeant =
      code === UNAUTHORIZED ? this.#token.refuse() : (tab: TabId) => code !== TOO_BIG || tab === tooBig;
    const close = (to: TabId[], told: number) => to.length > 0 && this.#owner.closeDown(to, told, reason);
    close(tabs.filter(isMeant), code);
    close(
      tabs.filter((tab) => !isMeant(tab)),
      ABNORMAL_CLOSE,
    );
  }

  /** This tab leads no more: end everything. */
  end(): void {
    this.#restart("Another tab leads now.");
  }

  // ------------------------------------------------------------------------------- time

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return this.#deadline;
  }

  /** Do what is due. */
  tick(now: number): void {
    if (now < this.#deadline) return;
    this.#deadline = NEVER;
    if (this.#state === "down") {
      this.#state = "dialling";
      this.#deadline = now + CONNECT_MS;
      this.#owner.dial();
    } else this.#restart("Nothing was heard from the server in time.");
  }
}
