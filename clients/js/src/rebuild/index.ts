/** What an application imports from `syncd-client/rebuild`: for operators, a collection read anew from its source. */

import type { Client } from "../client.js";
import { RequestFailed } from "../core/errors.js";
import type { Listeners } from "../listeners.js";
import type { Progress } from "../wire/messages.js";

/** How the last job of a collection stands; `idle` where none was heard of. */
export type RebuildState = "idle" | "queued" | "running" | "swapping" | "done" | "failed" | "cancelled";

/** How far a job is. Never changed: a new one takes its place. */
export interface RebuildProgress {
  readonly job: string;
  /** Who asked for it. */
  readonly who: string;
  /** Rows read. */
  readonly done: number;
  /** Rows there are; null: the source does not say. */
  readonly total: number | null;
  readonly ratePerS: number;
  /** How long it may take yet, ms; null: not known. */
  readonly etaMs: number | null;
  /** Entries that it has changed, once it is done. */
  readonly changed: number | null;
  /** What it waits for, for people; may be empty. */
  readonly message: string;
}

/** What is known of the rebuilds of a collection. The same object until something changes. */
export interface RebuildView {
  readonly state: RebuildState;
  readonly progress: RebuildProgress | null;
  /** Why the last job failed, or why the last request was refused; for people. */
  readonly error: string | null;
  /** Whether this session may rebuild; null while the server has not said. Show nothing to who may not. */
  readonly isOperator: boolean | null;
  /** It may, and no job is under way. */
  readonly canStart: boolean;
}

/** How a collection is rebuilt; SPEC section 19. */
export interface RebuildOptions {
  /** `full` if not given. */
  readonly mode?: "full" | "resume" | "keys" | "tag" | undefined;
  readonly keys?: readonly string[] | undefined;
  readonly tag?: string | undefined;
  /** Entries that the source does not have any more stay. */
  readonly keepMissing?: boolean | undefined;
  readonly maxRowsPerS?: number | undefined;
}

/** The parts of a client that are used. */
export type RebuildClient = Pick<Client, "channel" | "newId" | "onState" | "request">;

/** Before anything is known. */
export const UNKNOWN: RebuildView = {
  state: "idle",
  progress: null,
  error: null,
  isOperator: null,
  canStart: false,
};

const UNDER_WAY = new Set(["queued", "running", "swapping"]);

/** The rebuilds of one collection. Made by `cacheRebuild`. */
export class CacheRebuild {
  readonly #client: RebuildClient;
  readonly #collection: string;
  readonly #listeners: Listeners<void> = new Set();
  #view = UNKNOWN;
  /** What was told last; of a job, a higher `seq` is newer. */
  #last: Progress | null = null;
  #stop: (() => void) | null = null;

  /** Use `cacheRebuild`. */
  constructor(client: RebuildClient, collection: string) {
    this.#client = client;
    this.#collection = collection;
  }

  /** What is known. */
  get view(): RebuildView {
    return this.#view;
  }

  /** Call `changed` after every change of `view`; return the function that ends that. The server is asked while anybody listens. */
  subscribe(changed: () => void): () => void {
    const own = { call: changed };
    this.#listeners.add(own);
    this.#stop ??= this.#listen();
    return () => {
      if (!this.#listeners.delete(own) || this.#listeners.size > 0) return;
      this.#stop?.();
      this.#stop = null;
    };
  }

  #listen(): () => void {
    let leave = this.#subscribe();
    const stop = this.#client.onState(({ state }) => {
      // With another token this may be an operator now.
      if (state !== "connected" || this.#view.isOperator !== false) return;
      leave();
      leave = this.#subscribe();
    });
    return () => {
      stop();
      leave();
    };
  }

  #subscribe(): () => void {
    return this.#client.channel(`$rebuild:${this.#collection}`).subscribe({
      onEvent: ({ data }) => this.#heard(data as Progress),
      onState: ({ state }) => {
        if (state === "subscribed") this.#change({ isOperator: true });
        if (state === "ended") this.#change({ ...UNKNOWN, isOperator: false });
      },
    });
  }

  /**
   * Have the collection read anew; a job that is under way is joined. What comes of it is told by `view`, also that the server
   * refuses it.
   */
  start({ mode, keys, tag, keepMissing, maxRowsPerS }: RebuildOptions = {}): void {
    void this.#ask("rebuild", {
      collection: this.#collection,
      mode,
      keys,
      tag,
      keep_missing: keepMissing,
      max_rows_per_s: maxRowsPerS,
      join: true,
      uid: this.#client.newId(),
    });
  }

  /** Have the job that is under way end without effect; without one nothing happens. */
  cancel(): void {
    const { progress, state } = this.#view;
    if (progress !== null && UNDER_WAY.has(state)) void this.#ask("rebuild_cancel", { job: progress.job });
  }

  async #ask(kind: "rebuild" | "rebuild_cancel", body: object): Promise<void> {
    this.#change({ error: null });
    try {
      const { job } = await this.#client.request(kind, body);
      if (job) this.#heard(job as Progress);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      const isDenied = error instanceof RequestFailed && error.code === "permission_denied";
      this.#change({ error: error.message, ...(isDenied ? { isOperator: false } : {}) });
    }
  }

  #heard(told: Progress): void {
    const last = this.#last;
    const isOlder =
      last?.job === told.job ? told.seq <= last.seq : told.asked_at_ms < (last?.asked_at_ms ?? 0);
    if (isOlder) return;
    this.#last = told;
    this.#change({
      state: told.state as RebuildState,
      error: told.error ?? null,
      progress: {
        job: told.job,
        who: told.who,
        done: told.done,
        total: told.total ?? null,
        ratePerS: told.rate_per_s,
        etaMs: told.eta_ms ?? null,
        changed: told.changed ?? null,
        message: told.message ?? "",
      },
    });
  }

  #change(news: Partial<RebuildView>): void {
    const view = { ...this.#view, ...news };
    this.#view = { ...view, canStart: view.isOperator === true && !UNDER_WAY.has(view.state) };
    for (const listener of [...this.#listeners]) listener.call();
  }
}

/** Follow the rebuilds of a collection. Only operators hear of them: `view.isOperator`. */
export function cacheRebuild(client: RebuildClient, collection: string): CacheRebuild {
  return new CacheRebuild(client, collection);
}
