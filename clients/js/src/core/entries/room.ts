/**
 * Collections and mutations of a client: what is confirmed, what is predicted over it, and what of it is shown. Pure.
 *
 * Invariant: what a watch shows is `fold(pending in order, confirmed)`; it is made anew once for each received frame and
 * local call, and told once.
 */

import type { Body } from "../../wire/decode.js";
import { listOfMaps, numberOf, textOf } from "../../wire/frames.js";
import type { Position } from "../../wire/messages.js";
import { utf8FromText } from "../../wire/utf8.js";
import { tooLargeFor } from "../asking.js";
import type { EntriesRoom, Handler, Speech } from "../entries.js";
import { RequestFailed } from "../errors.js";
import { outcomeFromBody } from "./bodies.js";
import type { Keeping, MutationOutcome, OutcomeStatus } from "./facts.js";
import { type Mutators, Pending, Predictions } from "./pending.js";
import { MutationQueue, sizeOf } from "./queue.js";
import { forgetSeen, haveTold, stillToTell, takeNews } from "./settling.js";
import { Shown } from "./shown.js";
import { addAll, type Place, partsOf } from "./tx.js";
import { asSent } from "./values.js";
import type { Mutations } from "./watch.js";
import { WatchTable } from "./watching.js";

/**
 * Mutations that may be pending at once; further ones are refused (REFUSE). Below the 1,000 outcomes the server keeps for a
 * client, and, with 1,024 requests, within the burst of 2,000 messages it takes after a reconnection.
 */
export const MAX_PENDING = 900;
const MAX_NAME_BYTES = 160;

/** Watches, pending mutations and what they show. */
export class StateRoom implements EntriesRoom, Mutations {
  readonly handlers: Readonly<Record<string, Handler>>;
  readonly #speech: Speech;
  readonly watching: WatchTable;
  readonly #predictions: Predictions;
  readonly shown: Shown;
  /** By channel, up to where it holds what own mutations have changed; as many as a page changes. Outcomes come as they were decided. */
  readonly #own = new Map<string, Position>();
  readonly #queues: MutationQueue[] = [];
  /** Keeps mutations before they are sent; set before anything is made. */
  keeping: Keeping | null = null;
  /** Told after the view has changed. */
  #outcomes: MutationOutcome[] = [];
  /** Places whose prediction is another one. */
  #touched: Place[] = [];
  /** The pending mutations are other ones than at the last fold. */
  #isStale = false;
  #numMade = 0;
  /** The server's wall clock at time 0 of ours; this machine's until a server has said. */
  #wallMs: number;

  constructor(speech: Speech, mutators: Mutators = new Map(), wallMs = 0) {
    this.#speech = speech;
    this.#wallMs = wallMs;
    this.watching = new WatchTable(speech, speech.tell, this);
    this.#predictions = new Predictions(
      mutators,
      (place) => this.shown.confirmed(...partsOf(place)),
      // What of the entries that a mutation touches holds what became of it.
      ({ slot, mid, isSent, touched, foreignClient = this.#queues[slot]?.client }) => {
        const client = isSent && foreignClient;
        return new Set(client ? [...touched].filter((place) => this.shown.holds(place, client, mid)) : []);
      },
      (message) => speech.tell({ kind: "complaint", code: "mutator_failed", message }),
    );
    this.shown = new Shown(this.watching, this.#predictions);
    this.handlers = {
      ...this.watching.handlers,
      outcome: (body, now) => {
        const pending = this.#queueOf(body)?.decided(numberOf(body, "mid"), now);
        if (!pending) return;
        const outcome = outcomeFromBody(body, pending);
        this.keeping?.decided(pending.id);
        for (const [channel, position] of outcome.positions) this.#own.set(channel, position);
        pending.outcome = outcome;
        pending.waits = stillToTell(this.watching, outcome.positions);
        if (pending.waits.size === 0) this.#settle(pending, outcome);
      },
      out_of_order: (body, now) => {
        this.#queueOf(body)?.isMissing(numberOf(body, "expect"), now);
      },
    };
  }

  // ------------------------------------------------------------------------------- what it knows

  /** Everything that is predicted, in the order it was made: of other tabs, too. */
  get all(): Map<number, Pending> {
    return this.#predictions.pending;
  }

  /** Mutations that are not settled, in the order they were made. */
  get pending(): Pending[] {
    return [...this.all.values()].filter(({ foreignClient }) => foreignClient === undefined);
  }

  get sizes(): number[] {
    const watches = [...this.watching.watches.values()].map(({ bytes }) => bytes);
    return [...watches, ...this.pending.map(sizeOf)];
  }

  /**
   * Return what a `read` of one partition's keys says: nothing older than what own mutations have changed is to be read, whatever
   * node this is connected to (promise READ-YOUR-WRITES, SPEC 17).
   */
  readBody(collection: string, keys: readonly string[], after?: Readonly<Record<string, Position>>): Body {
    return { collection, keys, after: this.wantedAfter(`${collection}/${keys[0]}`, after) };
  }

  /** Return how new what is told of a place has to be: the channel of that is the collection's, or the partition's. */
  wantedAfter(place: string, after?: Readonly<Record<string, Position>>): typeof after {
    for (const [channel, own] of this.#own) {
      if (`${place}/`.startsWith(`${channel}/`)) after = { [channel]: own, ...after };
    }
    return after;
  }

  // ------------------------------------------------------------------------------- the application

  /**
   * Predict a mutation, queue it, and send it when there is a connection; return its id, and what the local mutator returned.
   *
   * @param name Full name of the mutator.
   * @param args A map by name, a list by position, or null.
   * @param slot Which client of the session makes it.
   * @throws RequestFailed `too_large`; `overloaded`: 900 mutations are pending.
   * @throws MutationFailed the local mutator rejected it, by what this client knows.
   * @throws TypeError, RangeError name or arguments have no form on the wire. Or whatever the local mutator throws. In every
   *   case nothing was queued and nothing changed.
   */
  mutate(name: string, args: unknown, now: number, slot = 0): [id: number, local: unknown] {
    const queue = this.queueOf(slot);
    const bytes = utf8FromText(name).length;
    if (bytes === 0 || bytes > MAX_NAME_BYTES) {
      throw new RangeError(`A mutator's name has 1 to ${MAX_NAME_BYTES} bytes.`);
    }
    if (this.pending.length >= MAX_PENDING) {
      throw new RequestFailed("overloaded", `${MAX_PENDING} mutations are pending.`, true);
    }
    const nowMs = Math.floor(this.#wallMs + now);
    const pending = new Pending(this.#numMade + 1, slot, name, asSent(args), nowMs);
    const tooLarge = tooLargeFor(this.#speech.connection.maxFrameBytes, sizeOf(pending));
    if (tooLarge) throw tooLarge;
    const local = this.#predictions.add(pending);
    this.#numMade += 1;
    queue.add(pending);
    this.#touched.push(...pending.writes.keys());
    return [pending.id, local];
  }

  /** Return a number for a mutation. */
  nextId(): number {
    return ++this.#numMade;
  }

  /** Return the queue of this client of the session, opened if there is none. */
  queueOf(slot: number): MutationQueue {
    this.#queues[slot] ??= new MutationQueue(slot, this.#speech, () => this.keeping);
    return this.#queues[slot];
  }

  /** The pending mutations are other ones: predict them anew. */
  foldAnew(): void {
    this.#isStale = true;
  }

  // ------------------------------------------------------------------------------- connection and time

  /**
   * A session is there: send mutations, then ask for every watch. In this order, because the outcomes of what was decided
   * before then come first, and their predictions go in the very step in which a snapshot is complete.
   */
  greeted(body: Body, now: number): void {
    this.#wallMs = numberOf(body, "server_time_ms") - now;
    const clients = new Map<string, number>();
    for (const [slot, state] of listOfMaps(body, "clients").entries()) {
      const client = textOf(state, "client");
      const lastMid = numberOf(state, "last_mid");
      clients.set(client, lastMid);
      const queue = this.queueOf(slot);
      this.#dropTooLarge(queue, lastMid);
      const mids = queue.client === client ? [...queue.undecided] : [];
      const lost = queue.greeted(client, lastMid, now);
      // The server lost state, but not the client: what entries hold was said of other mutations.
      if (mids.some(([mid, pending]) => pending.mid < mid)) forgetSeen(this.watching);
      this.#end(lost, "unknown");
    }
    this.watching.clients = this.watching.others?.greeted(clients) ?? clients;
    this.watching.wentOnline();
  }

  /** Take out what this server would end the connection for, instead of meeting that for ever. */
  #dropTooLarge(queue: MutationQueue, lastMid: number): void {
    for (const pending of queue.undecided.values()) {
      if (sizeOf(pending) <= this.#speech.connection.maxFrameBytes) continue;
      if (pending.isSent && pending.mid <= lastMid) {
        queue.undecided.delete(pending.mid);
        this.#end([pending], "unknown");
      } else {
        queue.refused(pending.mid);
        this.#end([pending], "rejected", "too_large");
      }
    }
  }

  wentOffline(): void {
    this.watching.wentOffline();
    for (const queue of this.#queues) queue.wentOffline();
  }

  /** The client is over: tell what is known of what is pending. Views stay as they are. */
  endAll(): void {
    for (const pending of this.pending) {
      if (pending.outcome) this.#settle(pending, pending.outcome);
      else this.#end([pending], pending.isSent ? "unknown" : "unsent", null, "", false);
    }
    this.watching.endAll();
  }

  nextDeadline(): number {
    return Math.min(this.watching.nextDeadline(), ...this.#queues.map((queue) => queue.nextDeadline()));
  }

  tick(now: number): void {
    this.watching.tick(now);
    for (const queue of this.#queues) queue.tick(now);
  }

  // ------------------------------------------------------------------------------- the server

  refused(requestId: number, error: RequestFailed, now: number): boolean {
    return this.watching.refused(requestId, error, now);
  }

  #queueOf(body: Body): MutationQueue | undefined {
    return this.#queues.find(({ client }) => client && client === body["client"]);
  }

  mutationFailed(body: Body, error: RequestFailed, now: number): void {
    const queue = this.#queueOf(body);
    const mid = numberOf(body, "mid");
    if (error.retryable) queue?.putOff(mid, now, error.afterMs);
    else if (error.code !== "stale_term") {
      const refused = queue?.refused(mid);
      if (refused) this.#end([refused], "rejected", error.code, error.message);
    } else if (queue) queue.isBlocked = true;
  }

  reset(channel: string | null, now: number): void {
    this.watching.reset(channel, now);
  }

  forgetClient(client: string | null): void {
    for (const queue of this.#queues) {
      if (queue.client && (client ?? queue.client) === queue.client) {
        this.#end(queue.forgotten(), "unknown");
      }
    }
  }

  get needsSession(): boolean {
    return this.#queues.some((queue) => queue.needsSession);
  }

  // ------------------------------------------------------------------------------- settling

  #end(
    ended: readonly Pending[],
    status: OutcomeStatus,
    code: string | null = null,
    message = "",
    isDecided = true,
  ): void {
    for (const pending of ended) {
      if (isDecided) this.keeping?.decided(pending.id);
      const { id, name } = pending;
      this.#settle(pending, { id, name, status, value: null, code, message, positions: new Map() });
    }
  }

  /** Its prediction goes; the outcome is told once the view has changed. */
  #settle({ id }: Pending, outcome: MutationOutcome): void {
    this.all.delete(id);
    this.#outcomes.push(outcome);
    this.#isStale = true;
  }

  /** Settle what waited, predict anew where the ground has changed, and tell what is shown differently now. */
  flush(): void {
    for (const pending of this.all.values()) {
      const { outcome, waits } = pending;
      if (outcome && haveTold(this.watching, waits)) this.#settle(pending, outcome);
    }
    if (takeNews(this.watching)) this.#isStale = true;
    if (this.watching.others?.takeNews()) this.#isStale = true;
    const changed = this.watching.takeChanged();
    if (this.#isStale || this.#predictions.restsOn(changed)) {
      this.#touched.push(...this.#predictions.fold());
      this.#isStale = false;
    }
    for (const place of this.#touched.splice(0)) {
      const [collection, key] = partsOf(place);
      addAll(changed, collection, new Set([key]));
    }
    const views = this.shown.renew(changed);
    if (views.length > 0) this.#speech.tell({ kind: "views", changed: views });
    for (const outcome of this.#outcomes.splice(0)) this.#speech.tell({ kind: "outcome", outcome });
    this.keeping?.flush();
    if (this.all.size > 0) return;
    forgetSeen(this.watching);
    if (this.watching.hasLeftovers) this.watching.prune();
  }
}
