/** The node's statistics as they come over its own protocol: a sample a second on `$node:stats`, and the last ten minutes from the start. */

import { type Client, createClient } from "../src/index.js";
import type { Api } from "./api.js";
import { Value } from "./value.js";

/** Where the node tells its statistics. */
const STATS = "$node:stats";
/** Samples kept: ten minutes, as the node does. */
const KEPT = 600;

/** One second: every number by its name, `at_ms` among them. */
export type Sample = Readonly<Record<string, number | null>>;

/** Messages that wait for an actor. */
export interface Queue {
  readonly waiting: number;
  readonly bytes: number;
  readonly peak: number | null;
  readonly refused: number;
}

/** One actor. */
export interface ActorRow {
  readonly name: string;
  readonly state: string;
  readonly num_restarts: number;
  readonly last_error: string | null;
  readonly queue: Queue | null;
}

/** How the node stands. */
export interface Now {
  readonly sample: Sample;
  readonly version: string;
  readonly uptime_s: number;
  readonly not_ready: readonly string[];
  readonly actors: readonly ActorRow[];
  readonly collections: Readonly<Record<string, Sample>>;
}

/** What the connection does, for the header. */
export type Link = "connecting" | "live" | "away" | "ended";

/** Holds the connection from `start` until `stop`. */
export class Live {
  readonly link = new Value<Link>("connecting");
  readonly now = new Value<Now | null>(null);
  /** The statistics a moment before `now`: what rates of collections are made from. */
  before: Now | null = null;
  /** By name, oldest first, all of one length. Changed in place; `now` tells when. */
  readonly columns: Record<string, (number | null)[]> = {};
  readonly #api: Api;
  readonly #client: Client;
  #leave: (() => void) | null = null;
  #turn = 0;
  readonly #onVisibility = () => (document.hidden ? this.#rest() : this.#listen());

  constructor(api: Api, url: string, token: () => string | null) {
    this.#api = api;
    this.#client = createClient({ url, getToken: token });
    this.#client.onState(({ state }) => {
      if (state === "connected") this.link.set("live");
      else if (state === "closed" || state === "failed" || state === "needs-auth") this.link.set("ended");
      else this.link.set(this.now.get() === null ? "connecting" : "away");
    });
  }

  /** Name of this page among the clients of its session. */
  get clientId(): string | null {
    return this.#client.clientId;
  }

  start(): void {
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#client.connect();
    this.#listen();
  }

  stop(): void {
    document.removeEventListener("visibilitychange", this.#onVisibility);
    this.#rest();
    this.#client.close();
  }

  /** Be called when something is told in one of the node's own channels; returns what ends that. */
  listen(channel: string, listener: (data: unknown) => void): () => void {
    return this.#client.channel(channel).subscribe({ onEvent: ({ data }) => listener(data) });
  }

  /** A page that nobody sees costs the node nothing. */
  #rest(): void {
    this.#turn += 1;
    this.#leave?.();
    this.#leave = null;
  }

  #listen(): void {
    if (this.#leave !== null) return;
    this.#leave = this.#client.channel(STATS).subscribe({
      onEvent: ({ data }) => this.#take(data as Now),
      onState: ({ state }) => {
        if (state === "subscribed") void this.#fill();
      },
    });
    void this.#fill();
  }

  /** Read what was before: at the start, and behind every gap. */
  async #fill(): Promise<void> {
    this.#turn += 1;
    const turn = this.#turn;
    try {
      const told = await this.#api.get<{ now: Now; columns: Record<string, (number | null)[]> }>(
        "admin/stats",
      );
      if (turn !== this.#turn) return;
      for (const name of Object.keys(this.columns)) delete this.columns[name];
      Object.assign(this.columns, told.columns);
      this.#show(told.now);
    } catch {
      // The header says that the node is away; the next subscription asks again.
    }
  }

  #take(now: Now): void {
    const at = now.sample["at_ms"] ?? 0;
    const times = this.columns["at_ms"];
    if (times === undefined || at <= (times.at(-1) ?? 0)) return;
    for (const [name, column] of Object.entries(this.columns)) {
      column.push(now.sample[name] ?? null);
      if (column.length > KEPT) column.shift();
    }
    this.#show(now);
  }

  #show(now: Now): void {
    this.before = this.now.get();
    this.now.set(now);
  }
}
