/** Collections and mutations of the fake server: SPEC sections 17 and 18 in the plainest way. */

import {
  builtIn,
  type Mutator,
  MutatorTx,
  type Place,
  partsOf,
  type Reading,
  Run,
} from "../core/entries/tx.js";
import { copied } from "../core/entries/values.js";
import { MutationFailed } from "../core/errors.js";
import type { Body } from "../wire/decode.js";
import type { Entry, EventBody, Position, ServerBodies } from "../wire/messages.js";
import type { FakeClock } from "./clock.js";
import type { FakeServerEnd } from "./socket.js";

/** The channel of a collection or of one partition, and its past. */
interface Channel {
  readonly name: string;
  readonly epoch: string;
  top: number;
  /** Events up to here are forgotten. */
  floor: number;
  readonly entries: Map<string, { readonly version: number; readonly value: unknown }>;
  events: Told[];
  /** A mark is due. */
  isMarking: boolean;
}

/** An event, or an invalidation, which has no key: it concerns whoever watches. */
type Told =
  | { readonly kind: "event"; readonly body: EventBody }
  | { readonly kind: "invalidate"; readonly body: ServerBodies["invalidate"] };

/** What an invalidation names; neither keys nor tags: every entry. */
export interface FakeInvalidation {
  readonly keys?: string[];
  readonly tags?: string[];
  readonly cause?: string;
}

/** As a node does it. */
const MARK_MS = 25_000;

/** A session as this side sees it. */
export interface EntriesSession {
  readonly end: FakeServerEnd;
  /** Clients it speaks for; the first is meant where none is named. */
  readonly clients: readonly string[];
  /** Channel to watched keys; null: all of it. */
  readonly watched: Map<string, Set<string> | null>;
}

/** Every collection's entries, every client's outcomes. */
export class FakeEntries {
  /** Collections whose keys are `<partition>/<id>`. */
  readonly partitioned = new Set<string>();
  /** Run in place of the application's code at the server; those that predict will do. The built-in ones need none. */
  readonly mutators = new Map<string, Mutator>();
  /** Whether mutations are decided as they come; else they wait for `decideAll`. */
  isDeciding = true;
  /** Entries told in one page of a snapshot, and how long after one another pages come, ms. */
  pageSize = 1_000_000;
  pageMs = 0;
  /** How often each mutation took effect, by client and mid. */
  readonly numRuns = new Map<string, number>();
  readonly #clock: FakeClock;
  readonly #sessions: ReadonlySet<EntriesSession>;
  readonly #channels = new Map<string, Channel>();
  readonly #last = new Map<string, number>();
  readonly #outcomes = new Map<string, Body>();
  /** Mutations that wait, in the order they came. */
  #waiting: { readonly session: EntriesSession; readonly body: Body }[] = [];
  #numEpochs = 0;

  constructor(clock: FakeClock, sessions: ReadonlySet<EntriesSession>) {
    this.#clock = clock;
    this.#sessions = sessions;
  }

  // ------------------------------------------------------------------------------- looking and changing

  /** Return an entry's value; undefined: there is none. */
  get(collection: string, key: string): unknown {
    return this.#channelOf(collection, key).entries.get(key)?.value;
  }

  /** Return all entries of a channel, by key. */
  all(channel: string): Record<string, unknown> {
    const pairs = [...this.#channel(channel).entries].map(([key, { value }]) => [key, value] as const);
    return Object.fromEntries(pairs);
  }

  /** Set an entry (undefined: delete it), and tell whoever watches it. */
  write(collection: string, key: string, value: unknown, by?: Body): Channel {
    const channel = this.#channelOf(collection, key);
    if (value === undefined && !channel.entries.has(key)) return channel;
    channel.top += 1;
    const version = channel.top;
    if (value === undefined) channel.entries.delete(key);
    else channel.entries.set(key, { version, value: copied(value) });
    const data = value === undefined ? { deleted: true } : { value };
    const { name, epoch } = channel;
    const event = { channel: name, epoch, offset: version, key, data, at_ms: this.#clock.wallNow(), by };
    this.#tellWatchers(channel, { kind: "event", body: event as unknown as EventBody });
    this.#markSoon(channel);
    return channel;
  }

  /** Tell who watches some keys how far everything is told, a while after something happened. */
  #markSoon(channel: Channel): void {
    if (channel.isMarking) return;
    channel.isMarking = true;
    this.#clock.setTimeout(() => {
      channel.isMarking = false;
      const position = { epoch: channel.epoch, offset: channel.top };
      for (const { watched, end } of [...this.#sessions]) {
        if (watched.get(channel.name)) end.send("mark", { channel: channel.name, position });
      }
    }, MARK_MS);
  }

  /** Tell every watcher of a channel that entries may have changed. */
  invalidate(name: string, { keys = [], tags = [], cause }: FakeInvalidation = {}): void {
    const channel = this.#channel(name);
    channel.top += 1;
    const what = keys.length + tags.length > 0 ? { keys, tags } : { all: true };
    const at = { channel: name, epoch: channel.epoch, offset: channel.top, at_ms: this.#clock.wallNow() };
    this.#tellWatchers(channel, { kind: "invalidate", body: { ...at, ...what, cause } });
  }

  /** Lose everything; what comes is of other epochs. */
  forgetAll(): void {
    this.#channels.clear();
    this.#last.clear();
    this.#outcomes.clear();
    this.#waiting = [];
  }

  /** Decide the mutations that wait. Those of sessions that are gone are sent again by the next. */
  decideAll(): void {
    for (const { session, body } of this.#waiting.splice(0)) {
      if (session.end.isOpen) this.#mutate(session, body);
    }
  }

  /** Forget the past of a channel: nobody recovers, everybody gets a snapshot. */
  trim(name: string): void {
    const channel = this.#channel(name);
    channel.events = [];
    channel.floor = channel.top;
  }

  /** Stop the delivery of a channel to everybody. */
  lag(name: string): void {
    for (const { watched, end } of this.#sessions)
      if (watched.delete(name)) end.send("lagged", { channel: name });
  }

  #tellWatchers(channel: Channel, told: Told): void {
    channel.events.push(told);
    for (const { watched, end } of [...this.#sessions]) {
      const keys = watched.get(channel.name);
      if (keys !== undefined && concerns(told, keys)) send(end, told);
    }
  }

  #channelOf(collection: string, key: string): Channel {
    const isPart = this.partitioned.has(collection);
    return this.#channel(isPart ? `${collection}/${key.split("/", 1)[0]}` : collection);
  }

  #channel(name: string): Channel {
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      this.#numEpochs += 1;
      channel = {
        name,
        epoch: `state-${this.#numEpochs}`,
        top: 0,
        floor: 0,
        entries: new Map(),
        events: [],
        isMarking: false,
      };
      this.#channels.set(name, channel);
    }
    return channel;
  }

  // ------------------------------------------------------------------------------- sessions

  /** The last mutation of a client that was decided. */
  lastMid(client: string): number {
    return this.#last.get(client) ?? 0;
  }

  /** Answer a message; return whether it is one of these. */
  answer(session: EntriesSession, kind: string, body: Body): boolean {
    if (kind === "watch") this.#watch(session, body);
    else if (kind === "unwatch") this.#unwatch(session, body);
    else if (kind === "read") this.#read(session, body);
    else if (kind === "mutate" && this.isDeciding) this.#mutate(session, body);
    else if (kind === "mutate") this.#waiting.push({ session, body });
    else return kind === "mutate_ack";
    return true;
  }

  #watch(session: EntriesSession, body: Body): void {
    const { id, position, have } = body as { id: number; position?: Position; have?: Body };
    const collection = body["collection"] as string;
    const keys = (body["keys"] ?? null) as string[] | null;
    const channel = keys
      ? this.#channelOf(collection, keys[0] ?? "")
      : this.#channel(nameOf(collection, body["partition"]));
    const present = session.watched.get(channel.name);
    const isWhole = keys === null || present === null;
    session.watched.set(channel.name, isWhole ? null : new Set([...(present ?? []), ...keys]));
    const top = { epoch: channel.epoch, offset: channel.top };
    const head = { id, channel: channel.name, position: top };
    const from = position?.epoch === channel.epoch ? position.offset : -1;
    if (from >= channel.floor && from <= channel.top) {
      session.end.send("watched", { ...head, recovered: true, entries: [], unchanged: [], more: false });
      this.#sendMissed(session, channel, from, keys);
      return;
    }
    const versions = (have?.["epoch"] === channel.epoch ? have["versions"] : {}) as Record<string, number>;
    const wanted = keys ?? [...channel.entries.keys()].sort();
    this.#sendPage(session, channel, "watched", { ...head, recovered: false }, wanted, versions);
  }

  /** Tell what was missed since an offset, and close it with a mark. */
  #sendMissed(
    { end }: EntriesSession,
    { name, epoch, top, events }: Channel,
    from: number,
    keys: string[] | null,
  ): void {
    for (const told of events) {
      const isMissed = (told.body.offset as number) > from;
      if (isMissed && concerns(told, keys && new Set(keys))) send(end, told);
    }
    end.send("mark", { channel: name, position: { epoch, offset: top } });
  }

  /** Tell some entries as they are now, and as of which mutations that is. */
  #sendPage(
    session: EntriesSession,
    channel: Channel,
    kind: "watched" | "snapshot",
    head: Body,
    keys: string[],
    have: Record<string, number>,
  ): void {
    if (!session.watched.has(channel.name) || !session.end.isOpen) return;
    const told: Entry[] = [];
    const unchanged: string[] = [];
    for (const key of keys.slice(0, this.pageSize)) {
      const entry = channel.entries.get(key);
      if (entry === undefined) told.push({ key, version: channel.top, deleted: true });
      else if (have[key] === entry.version) unchanged.push(key);
      else told.push({ key, ...entry });
    }
    const rest = keys.slice(this.pageSize);
    const mids = session.clients.map((client) => [client, this.lastMid(client)] as const);
    const decided = Object.fromEntries(mids.filter(([, mid]) => mid > 0));
    const page = { ...head, entries: told, unchanged, more: rest.length > 0, decided };
    session.end.send(kind, page as never);
    if (rest.length === 0) return;
    const next = { id: head["id"], channel: channel.name };
    this.#clock.setTimeout(() => this.#sendPage(session, channel, "snapshot", next, rest, have), this.pageMs);
  }

  #unwatch(session: EntriesSession, { id, collection, partition, keys }: Body): void {
    const name = nameOf(collection as string, partition);
    const left = session.watched.get(name);
    for (const key of (keys ?? []) as string[]) left?.delete(key);
    if (keys === undefined || left?.size === 0) session.watched.delete(name);
    session.end.send("ok", { id: id as number });
  }

  #read(session: EntriesSession, { id, collection, keys }: Body): void {
    const entries = (keys as string[]).map((key) => {
      const { entries, top } = this.#channelOf(collection as string, key);
      const entry = entries.get(key);
      return entry === undefined ? { key, version: top, deleted: true } : { key, ...entry };
    });
    const { epoch, top } = this.#channelOf(collection as string, (keys as string[])[0] ?? "");
    session.end.send("ok", { id: id as number, position: { epoch, offset: top }, entries });
  }

  #mutate(session: EntriesSession, body: Body): void {
    const client = (body["client"] ?? session.clients[0]) as string;
    const mid = body["mid"] as number;
    const last = this.lastMid(client);
    if (mid > last + 1) session.end.send("out_of_order", { client, expect: last + 1 });
    else if (mid <= last) {
      const lost = { client, mid, status: "unknown", positions: {} };
      session.end.send("outcome", (this.#outcomes.get(`${client} ${mid}`) ?? lost) as never);
    } else session.end.send("outcome", this.#run(client, mid, body) as never);
  }

  #run(client: string, mid: number, { name, args = null }: Body): Body {
    const full = name as string;
    const mutator = this.mutators.get(full) ?? builtIn(full);
    const run = new Run(full, (place) => this.#reading(place));
    const outcome: Body = { client, mid, status: "ok", positions: {} };
    this.#last.set(client, mid);
    this.#outcomes.set(`${client} ${mid}`, outcome);
    try {
      const tx = new MutatorTx(run, "optimistic", this.#clock.wallNow());
      const value = mutator === null ? tx.reject("unknown_mutator") : mutator(tx, copied(args) as never);
      if (value !== undefined) outcome["value"] = value;
    } catch (error) {
      const code = error instanceof MutationFailed ? error.code : "mutator_failed";
      Object.assign(outcome, { status: "rejected", error: { code, message: (error as Error).message } });
      return outcome;
    }
    const key = `${client} ${mid}`;
    this.numRuns.set(key, (this.numRuns.get(key) ?? 0) + 1);
    const positions: Record<string, Position> = {};
    for (const [place, value] of run.writes) {
      const channel = this.write(...partsOf(place), value, { client, mid });
      positions[channel.name] = { epoch: channel.epoch, offset: channel.top };
    }
    outcome["positions"] = positions;
    return outcome;
  }

  #reading(place: Place): Reading {
    const [collection, key] = partsOf(place);
    const entry = this.#channelOf(collection, key).entries.get(key);
    return { value: entry?.value, version: entry?.version ?? 0, isKnown: true };
  }
}

function nameOf(collection: string, partition: unknown): string {
  return partition === undefined ? collection : `${collection}/${partition}`;
}

/** Whether somebody who watches these keys, or all, is to be told. */
function concerns(told: Told, keys: ReadonlySet<string> | null): boolean {
  return keys === null || told.kind === "invalidate" || keys.has(told.body.key as string);
}

function send(end: FakeServerEnd, told: Told): void {
  if (told.kind === "event") end.send("event", told.body);
  else end.send("invalidate", told.body);
}
