/** Rebuilds of the product list, for administrators: started, followed, cancelled over the HTTP API with their key. */

import { byId, setText } from "./dom.js";

/** The collection that has a source to be read anew. */
const COLLECTION = "products";
/** Slow enough to be watched: 2,400 rows take some four seconds. */
const MAX_ROWS_PER_S = 600;
/** How often it is asked how far the job is. */
const EVERY_MS = 250;

/** A job, as `/api/rebuild` tells it. */
interface Job {
  readonly job: string;
  readonly state: "queued" | "running" | "swapping" | "done" | "failed" | "cancelled";
  readonly done: number;
  readonly total: number | null;
  readonly changed: number | null;
  readonly error: string | null;
}

const UNDER_WAY = new Set(["queued", "running", "swapping"]);

/** The rebuild box; empty and hidden while there is no key. */
export class Rebuild {
  readonly #box = byId("rebuild", HTMLElement);
  readonly #start = byId("rebuild-start", HTMLButtonElement);
  readonly #cancel = byId("rebuild-cancel", HTMLButtonElement);
  readonly #bar = byId("rebuild-bar", HTMLProgressElement);
  readonly #state = byId("rebuild-state", HTMLElement);
  readonly #error = byId("rebuild-error", HTMLElement);
  #key: string | null = null;
  #job: Job | null = null;
  /** Answers to what was asked before count no more. */
  #turn = 0;

  constructor() {
    this.#start.addEventListener("click", () => {
      const wish = { collection: COLLECTION, join: true, max_rows_per_s: MAX_ROWS_PER_S };
      void this.#ask("POST", "", wish);
    });
    this.#cancel.addEventListener("click", () => void this.#ask("DELETE", `/${this.#job?.job}`));
  }

  /** Use this key, and show the box; null: hide it, and forget what it showed. */
  use(key: string | null): void {
    if (key === this.#key) return;
    this.#key = key;
    this.#turn += 1;
    this.#job = null;
    this.#box.hidden = key === null;
    this.#show("");
  }

  async #ask(method: string, path: string, body?: object): Promise<void> {
    this.#turn += 1;
    const turn = this.#turn;
    try {
      const answer = await fetch(`/api/rebuild${path}`, {
        method,
        headers: { Authorization: `Bearer ${this.#key}`, "Content-Type": "application/json" },
        ...(body ? { body: JSON.stringify(body) } : {}),
        cache: "no-store",
      });
      const told = (await answer.json()) as Job & { error?: { message?: string } | string | null };
      if (turn !== this.#turn) return;
      if (!answer.ok) throw new Error(messageOf(told, answer.status));
      this.#job = told as Job;
      this.#show("");
    } catch (error) {
      if (turn === this.#turn) this.#show(error instanceof Error ? error.message : String(error));
    }
    if (turn === this.#turn && this.#isUnderWay) setTimeout(() => this.#follow(turn), EVERY_MS);
  }

  #follow(turn: number): void {
    if (turn === this.#turn) void this.#ask("GET", `/${this.#job?.job}`);
  }

  get #isUnderWay(): boolean {
    return this.#job !== null && UNDER_WAY.has(this.#job.state);
  }

  #show(error: string): void {
    const job = this.#job;
    this.#start.disabled = this.#isUnderWay;
    this.#cancel.hidden = !this.#isUnderWay;
    this.#bar.hidden = job === null;
    this.#bar.max = job?.total || 1;
    this.#bar.value = job?.state === "done" ? this.#bar.max : (job?.done ?? 0);
    this.#box.dataset["state"] = job?.state ?? "idle";
    setText(this.#state, job === null ? "" : textOf(job));
    setText(this.#error, error || (job?.error ?? ""));
  }
}

function textOf({ state, done, total, changed }: Job): string {
  const rows = `${done.toLocaleString("en")}${total ? ` of ${total.toLocaleString("en")}` : ""} rows`;
  switch (state) {
    case "queued":
      return "Waiting for its turn.";
    case "running":
      return `Reading: ${rows}.`;
    case "swapping":
      return `${rows} read; putting them in place.`;
    case "done":
      return `Done: ${rows} read, ${(changed ?? 0).toLocaleString("en")} entries changed.`;
    case "cancelled":
      return `Cancelled after ${rows}; nothing has changed.`;
    case "failed":
      return `Failed after ${rows}; nothing has changed.`;
  }
}

function messageOf(told: { error?: { message?: string } | string | null }, status: number): string {
  const { error } = told;
  const message = typeof error === "object" ? error?.message : error;
  return message || `The server answered ${status}.`;
}
