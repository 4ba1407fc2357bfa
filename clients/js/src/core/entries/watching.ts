/** All watches of a client and everything the server says about their channels. Pure. Owned by `StateRoom`. */

import type { Body } from "../../wire/decode.js";
import { mapOf, numberOf, positionFromBody, textOf } from "../../wire/frames.js";
import { tooLargeFor } from "../asking.js";
import { earliest, NEVER } from "../backoff.js";
import type { Handler, Speech } from "../entries.js";
import type { RequestFailed } from "../errors.js";
import { found } from "../maps.js";
import { changeFromBody, invalidationFromBody } from "./bodies.js";
import type { Mids } from "./confirmed.js";
import type { EntriesNews } from "./facts.js";
import { addAll, type Changed } from "./tx.js";
import { type Mutations, NO_MIDS, type Selection, Watch, WatchedChannel } from "./watch.js";

/** Mutations of other tabs that are predicted here: `Foreign` of `syncd-client/tabs`. */
export interface Others {
  /** What became of a mutation of any client, and of all before it, is in an event. */
  note(client: unknown, mid: unknown): void;
  /** A page says that its entries are as of these. */
  told(decided: Body): void;
  /** A snapshot begins, as of these. */
  loaded(decided: Body): void;
  /** Drop what can be dropped; return whether there are others than at the last time. */
  takeNews(): boolean;
  /** Add to our clients, with the last mutation that was decided of each, those that have something pending elsewhere. */
  greeted(clients: Mids): Mids;
}

/** Watches by number and their channels by name. */
export class WatchTable {
  readonly handlers: Readonly<Record<string, Handler>> = {
    watched: (body, now) => {
      const watch = this.#asked(numberOf(body, "id"));
      const position = positionFromBody(body);
      if (watch?.state !== "asking" || watch.isLeaving) this.#overhear(body, position);
      if (watch?.state !== "asking" || !position) return;
      const channel = this.#attach(watch, textOf(body, "channel"));
      if (watch.isLeaving) {
        watch.isLeaving = false;
        this.unwatch(watch.id);
        return;
      }
      const mine = watch.position;
      if (body["recovered"] === true && mine?.epoch === position.epoch) {
        watch.goOn(mine, position);
        channel.turn();
        return;
      }
      if (watch.isShown) {
        // What was invalidated since it was there last is told by nobody.
        const untold = { ...position, all: true, cause: "unrecovered" };
        this.#tell({ kind: "invalidated", invalidation: invalidationFromBody(untold, channel) });
      }
      const entries = channel.entriesFor(position.epoch);
      this.#foundEpoch(channel, position.epoch, now);
      this.others?.loaded(mapOf(body["decided"]));
      watch.load(position, entries, this.#decided(body));
      this.#takePage(watch, channel, body, now);
    },
    snapshot: (body, now) => {
      const watch = this.#asked(numberOf(body, "id"));
      const channel = watch && this.#channelOf(watch);
      if (channel && watch.state === "loading") this.#takePage(watch, channel, body, now);
      else this.#overhear(body);
    },
    invalidate: (body) => {
      const channel = this.#heardOf(body);
      if (!channel) return;
      const invalidation = invalidationFromBody(body, channel);
      this.#tell({ kind: "invalidated", invalidation });
      for (const watch of channel.watches) watch.moveTo(invalidation.position);
    },
    // What follows concerns channels, too; what is of another's channel is ignored.
    event: (body, now) => {
      const channel = this.#heardOf(body);
      if (!channel) return;
      const { client, mid } = mapOf(body["by"]);
      this.others?.note(client, mid);
      const change = changeFromBody(body, this.#mutations.all.size > 0 ? this.clients : NO_MIDS);
      const epoch = textOf(body, "epoch");
      const entries = channel.entriesOf(epoch);
      if (!entries) {
        this.#foundEpoch(channel, epoch, now);
        return;
      }
      const { key, version } = change;
      const watches = [...channel.watches].filter(({ extent }) => extent.covers(key));
      const loads = watches.flatMap(({ state, incoming }) => (state === "loading" && incoming) || []);
      const isTaken = entries.take(
        change,
        loads.some(({ told }) => !told.has(key)),
      );
      for (const { told, decided, since } of loads) {
        if (!change.patch) told.add(key);
        // What comes after the snapshot holds what it holds.
        if (decided.size > 0 && version > since && entries.has(change)) entries.see(key, decided);
      }
      if (!isTaken) for (const watch of watches) this.#foundHole(watch, now);
      for (const watch of channel.watches) watch.moveTo({ epoch, offset: version });
    },
    /** Everything up to there has been told or superseded. */
    mark: (body) => {
      const position = positionFromBody(body);
      for (const watch of this.#heardOf(body)?.watches ?? []) {
        if (!position) return;
        watch.moveTo(position);
        if (watch.isLive) watch.isSure = true;
      }
    },
    /** The server ended all watches of a channel. */
    unsubscribed: (body) => {
      for (const watch of this.#heardOf(body)?.watches ?? []) {
        watch.isKnownToServer = false;
        this.#end(watch, { code: textOf(body, "code"), message: textOf(body, "reason") });
      }
    },
    /**
     * The watch of a channel is over: watch again, from the position where there is one. What is asked for and not answered
     * yet may never be (SPEC 17), so it is asked for once more, too.
     */
    lagged: (body, now) => {
      const channel = textOf(body, "channel");
      for (const watch of this.mayBeOn(channel)) {
        if (watch.state === "asking" && watch.requestId) {
          this.#superseded.set(watch.requestId, watch);
          watch.state = "wanted";
          this.#pursue(watch);
        } else if (watch.channel) {
          watch.isKnownToServer = false;
          this.#askAgain(watch, now);
        }
      }
    },
  };
  readonly channels = new Map<string, WatchedChannel>();
  readonly watches = new Map<number, Watch>();
  /** Ours, with the last mutation decided when the session began: every snapshot is as of that at least. */
  clients: Mids = NO_MIDS;
  /** Mutations of other tabs. */
  others: Others | null = null;
  /** There are entries, or channels, that nobody watches any more. */
  hasLeftovers = false;
  readonly #speech: Speech;
  readonly #tell: (news: EntriesNews) => void;
  readonly #mutations: Mutations;
  #isOnline = false;
  #numMade = 0;
  #gone: Changed = new Map();
  /** Requests that were made once more because they may never be answered, and may be all the same. */
  readonly #superseded = new Map<number, Watch>();

  constructor(speech: Speech, tell: (news: EntriesNews) => void, mutations: Mutations) {
    this.#speech = speech;
    this.#tell = tell;
    this.#mutations = mutations;
  }

  // ------------------------------------------------------------------------------- connection and time

  /** A session is there: ask for everything. */
  wentOnline(): void {
    this.#isOnline = true;
    for (const watch of this.watches.values()) this.#pursue(watch);
  }

  /** The session is gone, and all watches with it. */
  wentOffline(): void {
    this.#isOnline = false;
    this.#superseded.clear();
    for (const watch of this.watches.values()) {
      watch.backoff.dueAt = NEVER;
      watch.requestId = null;
      watch.isKnownToServer = false;
      if (watch.isLeaving) this.#forget(watch);
      else watch.state = "wanted";
    }
  }

  /** The client is over; the application learns that elsewhere. */
  endAll(): void {
    this.watches.clear();
    this.channels.clear();
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return earliest(this.watches.values());
  }

  /** Ask again for what was put off until now. */
  tick(now: number): void {
    for (const watch of this.watches.values()) {
      if (watch.backoff.takeDue(now)) this.#pursue(watch);
    }
  }

  // ------------------------------------------------------------------------------- the application asks

  /** Begin to watch. Throws `TypeError` for keys that have no form on the wire, and `RangeError` for too many. */
  watch(extent: Selection): Watch {
    const watch = new Watch(++this.#numMade, extent, this.#speech.random);
    this.watches.set(watch.id, watch);
    if (watch.channel) this.#attach(watch, watch.channel);
    // Refused by the next tick, when whoever asks can hear it.
    if (watch.bytes > this.#speech.connection.maxFrameBytes) watch.backoff.dueAt = 0;
    this.#pursue(watch);
    return watch;
  }

  /** End a watch; what other watches cover goes on. */
  unwatch(id: number): void {
    const watch = this.watches.get(id);
    if (!watch || watch.isLeaving) return;
    if (!watch.channel && watch.state === "asking") {
      watch.isLeaving = true;
      return;
    }
    this.#forget(watch);
    const channel = this.#channelOf(watch);
    if (watch.isKnownToServer && channel) this.#withdraw(watch, channel);
  }

  /** Have the server stop telling what nobody watches any more; a refusal would change nothing. */
  #withdraw({ extent }: Watch, { name, collection, partition }: WatchedChannel): void {
    // Those that wait for their first answer may turn out to be on this channel, too.
    const others = this.mayBeOn(name);
    if (others.some((other) => !other.extent.keys)) return;
    if (extent.keys && others.length > 0) {
      const isLeft = (key: string) => !others.some((other) => other.extent.covers(key));
      const keys = [...extent.keys].filter(isLeft).sort();
      if (keys.length > 0) this.#speech.request("unwatch", { collection, partition, keys });
      return;
    }
    this.#speech.request("unwatch", { collection, partition });
    for (const other of others) {
      if (!other.channel && !other.isKnownToServer) continue; // not asked for yet
      other.state = "wanted";
      other.isKnownToServer = false;
      this.#pursue(other);
    }
  }

  #channelOf({ channel }: Watch): WatchedChannel | undefined {
    return this.channels.get(channel ?? "");
  }

  #attach(watch: Watch, name: string): WatchedChannel {
    const { collection } = watch.extent;
    const channel = found(this.channels, name, () => new WatchedChannel(name, collection));
    watch.channel = name;
    channel.watches.add(watch);
    return channel;
  }

  #forget(watch: Watch): void {
    watch.state = "ended";
    this.watches.delete(watch.id);
    this.hasLeftovers = true;
    const channel = this.#channelOf(watch);
    channel?.watches.delete(watch);
    channel?.turn();
  }

  /** Forget entries and channels nobody watches; for a time when no prediction rests on them. */
  prune(): void {
    this.hasLeftovers = false;
    for (const channel of this.channels.values()) {
      channel.prune();
      if (channel.watches.size > 0) continue;
      this.channels.delete(channel.name);
      addAll(this.#gone, channel.collection, channel.takeChanged());
    }
  }

  /** Return and forget every entry whose confirmed value is another one now. */
  takeChanged(): Changed {
    const changed = this.#gone;
    this.#gone = new Map();
    for (const channel of this.channels.values()) addAll(changed, channel.collection, channel.takeChanged());
    return changed;
  }

  /** Ask the server for a watch that wants to be asked for. */
  #pursue(watch: Watch): void {
    if (!this.#isOnline || watch.state !== "wanted" || watch.backoff.isWaiting) return;
    const { connection } = this.#speech;
    const tooLarge = tooLargeFor(connection.maxFrameBytes, watch.bytes);
    if (tooLarge) {
      this.#end(watch, tooLarge);
      return;
    }
    const channel = this.#channelOf(watch);
    const body = {
      ...watch.extent.toWire(),
      position: channel?.positionOf(watch),
      have: channel?.have(watch, connection.packBytes),
      after: channel && watch.mayAskAfter ? this.#mutations.wantedAfter(channel.name) : null,
    };
    watch.mayAskAfter = watch.isKnownToServer = true;
    watch.state = "asking";
    watch.requestId = this.#speech.request("watch", body);
  }

  /** Something is missing: ask again, at once unless something was missing just now. */
  #askAgain(watch: Watch, now: number): void {
    if (!watch.isSettled && watch.state !== "loading") return;
    watch.state = "wanted";
    watch.incoming = null;
    watch.backoff.foundGap(now);
    this.#pursue(watch);
  }

  // ------------------------------------------------------------------------------- the server answers
  /** Take an error; return whether it answered a `watch`. */
  refused(requestId: number, error: RequestFailed, now: number): boolean {
    if (this.#superseded.delete(requestId)) return true;
    const watch = this.#find(requestId);
    if (watch?.state !== "asking") return false;
    watch.isKnownToServer = false;
    if (watch.isLeaving) this.#forget(watch);
    else if (error.retryable) {
      watch.mayAskAfter = error.code !== "behind";
      watch.state = "wanted";
      watch.backoff.postpone(now, error.afterMs);
    } else this.#end(watch, error);
    return true;
  }

  #end(watch: Watch, { code, message }: { readonly code: string; readonly message: string }): void {
    this.#forget(watch);
    this.#tell({ kind: "ended", watch: watch.id, code, message });
  }

  #overhear(body: Body, position = positionFromBody({})): void {
    this.#heardOf(body)?.overhear(body, position, this.#decided(body));
  }

  #find(requestId: number): Watch | undefined {
    return [...this.watches.values()].find((watch) => watch.requestId === requestId);
  }

  #asked(requestId: number): Watch | undefined {
    const watch = this.#superseded.get(requestId);
    if (!this.#superseded.delete(requestId) || !watch) return this.#find(requestId);
    if (watch.state !== "asking" || !watch.requestId) return undefined;
    this.#superseded.set(watch.requestId, watch);
    watch.requestId = requestId;
    return watch;
  }

  #takePage(watch: Watch, channel: WatchedChannel, body: Body, now: number): void {
    if (!channel.takePage(watch, body, this.#decided(body))) this.#foundHole(watch, now);
  }

  /** What the entries of a page are as of, in the numbers of our clients; empty if nothing waits to be settled. */
  #decided(body: Body): Mids {
    const told = mapOf(body["decided"]);
    this.others?.told(told);
    if (this.#mutations.all.size === 0) return NO_MIDS;
    return new Map([...this.clients].map(([client, mid]) => [client, (told[client] ?? mid) as number]));
  }

  #foundHole(watch: Watch, now: number): void {
    watch.hasHole = true;
    this.#askAgain(watch, now);
  }

  // ------------------------------------------------------------------------------- the server speaks
  #heardOf(body: Body): WatchedChannel | undefined {
    return this.channels.get(textOf(body, "channel"));
  }

  /** The server speaks of another epoch: watch anew everything that is live in an older one. */
  #foundEpoch(channel: WatchedChannel, epoch: string, now: number): void {
    for (const watch of channel.watches) {
      const position = watch.incoming?.position ?? watch.position;
      if (position && position.epoch !== epoch) this.#askAgain(watch, now);
    }
  }

  /** Positions and versions of one channel, or of all, mean nothing any more. */
  reset(name: string | null, now: number): void {
    for (const channel of this.channels.values()) {
      if ((name ?? channel.name) !== channel.name) continue;
      channel.isVoid = true;
      channel.next = null;
      for (const watch of channel.watches) {
        watch.position = null;
        this.#askAgain(watch, now);
      }
    }
  }

  /** Return the watches whose events may come on this channel. */
  mayBeOn(channel: string): Watch[] {
    return [...this.watches.values()].filter((watch) => !watch.isLeaving && watch.mayBeOn(channel));
  }
}
