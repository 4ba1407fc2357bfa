/** Rebuilds of the fake server: SPEC section 19, for jobs that stand still until a test moves them. */

import type { Body } from "../wire/decode.js";
import type { Progress } from "../wire/messages.js";
import type { FakeClock } from "./clock.js";
import type { FakeServerEnd } from "./socket.js";

/** Begins the names of the channels on which it is told how jobs stand. */
export const REBUILD_CHANNEL = "$rebuild:";

const UNDER_WAY = new Set(["queued", "running", "swapping"]);

/** Every collection's last job. */
export class FakeRebuilds {
  /** Whether sessions are those of operators; what they had subscribed to before stays. */
  areOperators = false;
  readonly #clock: FakeClock;
  readonly #publish: (channel: string, data: unknown) => void;
  readonly #jobs = new Map<string, Progress>();
  #numMade = 0;

  constructor(clock: FakeClock, publish: (channel: string, data: unknown) => void) {
    this.#clock = clock;
    this.#publish = publish;
  }

  /** The last job of a collection. */
  job(collection: string): Progress | undefined {
    return this.#jobs.get(collection);
  }

  /** Move the job of a collection on, and tell it. */
  tell(collection: string, news: Partial<Progress>): void {
    const job = this.#jobs.get(collection);
    if (job === undefined) throw new Error(`Nobody rebuilds ${collection}.`);
    const next = { ...job, ...news, seq: job.seq + 1 };
    this.#jobs.set(collection, next);
    this.#publish(`${REBUILD_CHANNEL}${collection}`, next);
  }

  /** Answer a request; return whether it is one of these. */
  answer(end: FakeServerEnd, kind: string, body: Body): boolean {
    if (kind !== "rebuild" && kind !== "rebuild_cancel") return false;
    const id = body["id"] as number;
    const refuse = (code: string, message: string): void =>
      end.send("error", { id, code, message, retryable: false });
    if (!this.areOperators) refuse("permission_denied", "Only operators may.");
    else if (kind === "rebuild_cancel") this.#cancel(end, id, body["job"] as string);
    else this.#start(end, id, body, refuse);
    return true;
  }

  #start(
    end: FakeServerEnd,
    id: number,
    { collection, mode, join }: Body,
    refuse: (code: string, message: string) => void,
  ): void {
    const name = collection as string;
    const present = this.#jobs.get(name);
    const isBusy = present !== undefined && UNDER_WAY.has(present.state);
    if (isBusy && join !== true) {
      refuse("rebuild_running", "A rebuild of this collection is under way.");
      return;
    }
    if (!isBusy) {
      this.#numMade += 1;
      this.#jobs.set(name, {
        job: `job-${this.#numMade}`,
        collection: name,
        mode: (mode ?? "full") as string,
        seq: 0,
        state: "queued",
        who: "tests",
        asked_at_ms: this.#clock.wallNow(),
        done: 0,
        resumed_at: 0,
        rate_per_s: 0,
      });
      this.tell(name, {});
    }
    end.send("ok", { id, job: this.#jobs.get(name) });
  }

  #cancel(end: FakeServerEnd, id: number, job: string): void {
    const found = [...this.#jobs.values()].find((one) => one.job === job);
    if (found !== undefined && UNDER_WAY.has(found.state))
      this.tell(found.collection, { state: "cancelled" });
    end.send("ok", { id, job: found && this.#jobs.get(found.collection) });
  }
}
