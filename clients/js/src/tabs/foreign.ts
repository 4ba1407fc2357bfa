/**
 * Mutations of other tabs: predicted here as in the tab that made them, and sent by that. Pure.
 *
 * Takes part in a `StateRoom`. What an event says of such a mutation counts like what it says of our own, so its prediction goes in
 * the step in which its effect comes.
 */

import type { Mids } from "../core/entries/confirmed.js";
import { Pending } from "../core/entries/pending.js";
import type { Others, WatchTable } from "../core/entries/watching.js";
import type { Body } from "../wire/decode.js";
import { Heard } from "./heard.js";

/** A mutation of another tab. */
export interface Foreseen {
  /** The same in all tabs. */
  readonly id: string;
  /** The client that it is numbered under; null: none yet. */
  readonly client: string | null;
  readonly mid: number;
  readonly name: string;
  readonly args: unknown;
  readonly madeAtMs: number;
  /** A page that has ended may have sent it: what is shown may hold it already. */
  readonly isLeft: boolean;
}

/** Those that are not settled. Their numbers here are negative. */
export class Foreign implements Others {
  readonly #all: Map<number, Pending>;
  readonly #watching: WatchTable;
  readonly #own = new Map<string, Pending>();
  /** Of these: the server has decided them. */
  readonly #decided = new Set<string>();
  readonly #heard = new Heard();
  /** Those of pages that have ended, of which what is shown holds nothing but what was heard since. */
  readonly #left = new Set<string>();
  /** Those that what was loaded may hold, and the client they were sent under. */
  readonly #untold = new Map<string, string | null | undefined>();
  /** As of which mutations entries were loaded, as the server said it of its session's clients, since somebody looked. */
  #loads: Body[] = [];
  #numMade = 0;
  #hasNews = false;

  /** @param all Everything that is predicted. */
  constructor(all: Map<number, Pending>, watching: WatchTable) {
    this.#all = all;
    this.#watching = watching;
  }

  /** Predict these; those that are there already have another client or number now. */
  add(mutations: readonly Foreseen[]): void {
    for (const mutation of mutations) {
      const { id, client, mid, name, args, madeAtMs } = mutation;
      const known = this.#own.get(id);
      if (!known && this.#mayBeShown(mutation)) continue;
      const pending = known ?? new Pending(-++this.#numMade, 0, name, args, madeAtMs);
      pending.foreignClient = client;
      pending.mid = mid;
      pending.isSent = client !== null;
      this.#own.set(id, pending);
      this.#all.set(pending.id, pending);
    }
    this.#watching.clients = this.greeted(this.#watching.clients);
    this.#hasNews = true;
  }

  /** What is shown holds it, or may, as tabs tell each other in one way, the server in another: better shown later than twice. */
  #mayBeShown({ id, client, mid, isLeft }: Foreseen): boolean {
    if (client === null) return false;
    if (this.#heard.upTo(client) >= mid) return true;
    return isLeft ? !this.#left.delete(id) : this.#untold.get(id) === client;
  }

  /**
   * The tab that made these knows what became of them, or (not `isDecided`) is gone and will not send them.
   *
   * What became of a mutation is told to all tabs before its outcome, but a watch that is loading, or goes on from a
   * position, may have it still to come: until all are complete, the prediction stays.
   */
  drop(ids: readonly string[], isDecided: boolean): void {
    for (const id of ids) {
      this.#untold.delete(id);
      if (!this.#own.has(id)) continue;
      if (isDecided) this.#decided.add(id);
      else {
        this.#drop(id);
        this.#left.add(id);
      }
    }
  }

  #drop(id: string): void {
    this.#all.delete(this.#own.get(id)?.id ?? 0);
    this.#own.delete(id);
    this.#decided.delete(id);
    this.#hasNews = true;
  }

  /** Drop what is decided, if it can be; return whether there are others than at the last time. */
  takeNews(): boolean {
    const watches = this.#decided.size > 0 ? [...this.#watching.watches.values()] : [];
    const areComplete = watches.every(({ isLive, isSure }) => isLive && isSure);
    if (areComplete) for (const id of this.#decided) this.#drop(id);
    for (const told of this.#loads.splice(0)) this.#dropUntold(told);
    const had = this.#hasNews;
    this.#hasNews = false;
    return had;
  }

  note(client: unknown, mid: unknown): void {
    this.#heard.note(client, mid);
  }

  told(told: Body): void {
    this.#heard.noteAll(told);
  }

  loaded(told: Body): void {
    this.#left.clear();
    this.#loads.push(told);
  }

  /** Entries were loaded, as of these mutations; whether they hold what other clients sent nobody knows: better shown later than twice. */
  #dropUntold(told: Body): void {
    for (const [id, { foreignClient, isSent }] of this.#own) {
      if (!isSent || (foreignClient ?? "") in told) continue;
      this.#drop(id);
      this.#untold.set(id, foreignClient);
    }
  }

  /** Return the clients that events are looked at for: ours, and those of other tabs that have something pending. */
  greeted(clients: Mids): Mids {
    const all = new Map(clients);
    for (const { foreignClient, mid } of this.#own.values()) {
      if (foreignClient != null && !all.has(foreignClient)) all.set(foreignClient, mid - 1);
    }
    return all;
  }
}
