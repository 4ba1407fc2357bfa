/**
 * The channels of all tabs over one session, which may subscribe each only once. Pure; owned by `Hub`.
 *
 * Invariant: what a tab is told of a channel is what a session of its own would be told, from its own position on. A tab that
 * comes later is answered from the last events, where they reach; else the server is asked again from its position, and the
 * others are told `lagged`, so that they come again from theirs.
 */

import type { Body } from "../wire/decode.js";
import type { Position } from "../wire/messages.js";
import type { Exchange, Passed, TabId } from "./exchange.js";

/** Events of a channel that are kept for tabs that come later, as after a change of leader. Older ones are dropped (LAG). */
const MAX_KEPT = 256;

interface Wish {
  readonly tab: TabId;
  readonly body: Body;
}

/** One channel. */
interface Shared {
  readonly channel: string;
  /** Tabs that are told what comes; the value says whether they want presence. */
  readonly tabs: Map<TabId, boolean>;
  /** Number of the `subscribe` in flight; while there is one no tab is told anything. */
  asking: number | null;
  /** Who waits for that, to be served next. */
  waiting: Wish[];
  position: Position | null;
  /** Events after `keptFrom`, if they are of the position's epoch. */
  kept: Body[];
  keptFrom: number;
  /** Events have a `prev`: without a position nothing is missed. */
  isStream: boolean;
  /** Null: not told. */
  presence: { seq: number; members: Map<unknown, Body> } | null;
  hasPresence: boolean;
}

/** All channels that tabs are subscribed to. */
export class SharedSubscriptions {
  readonly #exchange: Exchange;
  readonly #shared = new Map<string, Shared>();

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  // ------------------------------------------------------------------------------- what tabs say

  /** Take a tab's `subscribe`. */
  subscribe(tab: TabId, body: Body): void {
    const channel = body["channel"] as string;
    let shared = this.#shared.get(channel);
    if (shared === undefined) {
      shared = { channel, tabs: new Map(), asking: null, waiting: [], ...nothingYet(), hasPresence: false };
      this.#shared.set(channel, shared);
    }
    if (shared.tabs.has(tab)) this.#refuse(tab, body);
    else shared.waiting.push({ tab, body });
    this.#serve(shared);
  }

  #refuse(tab: TabId, { id }: Body): void {
    const error = {
      code: "already_subscribed",
      message: "This tab is subscribed already.",
      retryable: false,
    };
    this.#exchange.down([tab], "error", { id, ...error });
  }

  /** Take a tab's `unsubscribe`. */
  unsubscribe(tab: TabId, body: Body): void {
    const shared = this.#shared.get(body["channel"] as string);
    if (shared !== undefined) this.#leave(shared, tab);
    this.#exchange.down([tab], "ok", { id: body["id"] });
  }

  /** A tab is gone. */
  forgetTab(tab: TabId): void {
    for (const shared of this.#shared.values()) this.#leave(shared, tab);
  }

  /** The session is gone. */
  forgetAll(): void {
    this.#shared.clear();
  }

  #leave(shared: Shared, tab: TabId): void {
    shared.tabs.delete(tab);
    shared.waiting = shared.waiting.filter((wish) => wish.tab !== tab);
    const asked = shared.asking === null ? undefined : this.#exchange.find(shared.asking);
    if (shared.asking !== null && (asked === undefined || asked.tab === tab)) {
      this.#exchange.forget(shared.asking);
      shared.asking = null;
      this.#withdraw(shared);
      this.#serve(shared);
    } else if (shared.asking === null) this.#endIfUnused(shared);
  }

  #endIfUnused(shared: Shared): void {
    if (shared.tabs.size > 0 || shared.waiting.length > 0 || shared.asking !== null) return;
    this.#withdraw(shared);
    this.#shared.delete(shared.channel);
  }

  /** End the session's subscription, if there is one or one is asked for. */
  #withdraw(shared: Shared): void {
    this.#exchange.ask("unsubscribe", { channel: shared.channel });
    Object.assign(shared, nothingYet());
  }

  /** Serve who waits, until somebody has to wait for the server. */
  #serve(shared: Shared): void {
    while (shared.asking === null) {
      const wish = shared.waiting.shift();
      if (wish === undefined) break;
      const answer = shared.tabs.size > 0 ? answerFrom(shared, wish.body) : null;
      if (answer === null) this.#ask(shared, wish);
      else this.#welcome(shared, wish.tab, wish.body, answer);
    }
    if (shared.asking === null) this.#endIfUnused(shared);
  }

  /** Ask the server from this tab's position; all others come again from theirs. */
  #ask(shared: Shared, { tab, body }: Wish): void {
    const { channel } = shared;
    if (shared.tabs.size > 0) {
      this.#exchange.down([...shared.tabs.keys()], "lagged", { channel });
      shared.tabs.clear();
      this.#withdraw(shared);
    }
    shared.hasPresence ||= body["presence"] === true;
    shared.asking = this.#exchange.pass(tab, "subscribe", body, {
      ...body,
      presence: shared.hasPresence || null,
    });
  }

  #welcome(shared: Shared, tab: TabId, body: Body, answer: Body): void {
    const { channel, presence } = shared;
    const hasPresence = body["presence"] === true;
    shared.tabs.set(tab, hasPresence);
    this.#exchange.down([tab], "subscribed", { ...answer, id: body["id"], channel });
    if (hasPresence && presence !== null) {
      const members = [...presence.members.values()];
      this.#exchange.down([tab], "presence_state", { channel, seq: presence.seq, members });
    }
  }

  // ------------------------------------------------------------------------------- what the server says

  /** Take the answer to a tab's `subscribe`; undefined: the server began the subscription anew by itself. */
  subscribed(passed: Passed | undefined, body: Body): void {
    const shared = this.#shared.get(body["channel"] as string);
    if (shared === undefined) return;
    const position = (body["position"] ?? null) as Position | null;
    const since = (passed?.body["position"] ?? shared.position) as Position | null;
    const isContinued = body["recovered"] === true && since?.epoch === position?.epoch;
    const events = (body["events"] ?? []) as Body[];
    shared.position = position;
    shared.kept = isContinued ? events.slice() : [];
    shared.keptFrom = isContinued && since !== null ? since.offset : (position?.offset ?? 0);
    trim(shared);
    if (passed === undefined) {
      this.#exchange.down([...shared.tabs.keys()], "subscribed", body);
      return;
    }
    shared.asking = null;
    this.#welcome(shared, passed.tab, passed.body, body);
    this.#serve(shared);
  }

  /** The server refused a tab's `subscribe`; the tab is told by whoever calls. */
  refused(passed: Passed): void {
    const shared = this.#shared.get(passed.body["channel"] as string);
    if (shared === undefined) return;
    shared.asking = null;
    Object.assign(shared, nothingYet());
    if (shared.waiting.length > 0) this.#serve(shared);
    else this.#shared.delete(shared.channel);
  }

  /** Take a message about a channel; return the tabs that are to get it. */
  take(kind: string, body: Body): TabId[] {
    const shared = this.#shared.get(body["channel"] as string);
    if (shared === undefined) return [];
    const tabs = [...shared.tabs.keys()];
    switch (kind) {
      case "event":
        note(shared, body);
        return tabs;
      case "mark":
        shared.position = body["position"] as Position;
        return tabs;
      case "presence_state":
      case "presence_diff":
        notePresence(shared, kind, body);
        return tabs.filter((tab) => shared.tabs.get(tab));
      case "lagged":
      case "unsubscribed":
        // What waits is asked for anew: a `subscribe` in flight is answered by itself.
        shared.tabs.clear();
        Object.assign(shared, nothingYet());
        if (shared.asking === null && shared.waiting.length === 0) this.#shared.delete(shared.channel);
        return tabs;
      default:
        return tabs;
    }
  }
}

const nothingYet = () => ({ position: null, kept: [], keptFrom: 0, isStream: false, presence: null });

/** Return what the server would answer to a `subscribe`; null: only the server knows. */
function answerFrom(shared: Shared, { position: since, presence }: Body): Body | null {
  const { position, kept, keptFrom, isStream } = shared;
  if (presence === true && shared.presence === null) return null;
  const events: Body[] = [];
  if (since === null || since === undefined) {
    const isComplete = isStream || position === null;
    return isComplete ? { position, was_recovering: false, recovered: false, events } : null;
  }
  if (position === null) return { position, was_recovering: true, recovered: false, events };
  const { epoch, offset } = since as Position;
  if (epoch !== position.epoch || offset < keptFrom || offset > position.offset) return null;
  events.push(...kept.filter((event) => (event["offset"] as number) > offset));
  return { position, was_recovering: true, recovered: true, events };
}

function note(shared: Shared, body: Body): void {
  const { offset, epoch, prev } = body;
  if (typeof offset !== "number") return;
  if (shared.position?.epoch !== epoch) {
    shared.kept = [];
    shared.keptFrom = offset - 1;
  }
  shared.isStream = typeof prev === "number";
  shared.position = { epoch: epoch as string, offset };
  shared.kept.push(body);
  trim(shared);
}

function trim(shared: Shared): void {
  const dropped = shared.kept.splice(0, Math.max(shared.kept.length - MAX_KEPT, 0)).at(-1);
  if (dropped !== undefined) shared.keptFrom = dropped["offset"] as number;
}

function notePresence(shared: Shared, kind: string, body: Body): void {
  const seq = body["seq"] as number;
  const list = (name: string): Body[] => (body[name] ?? []) as Body[];
  if (kind === "presence_state") {
    shared.presence = { seq, members: new Map(list("members").map((one) => [one["member"], one])) };
    return;
  }
  const { presence } = shared;
  if (presence === null || seq <= presence.seq) return;
  if (seq !== presence.seq + 1) {
    shared.presence = null;
    return;
  }
  presence.seq = seq;
  for (const member of list("leaves")) presence.members.delete(member);
  for (const one of [...list("joins"), ...list("updates")]) presence.members.set(one["member"], one);
}
