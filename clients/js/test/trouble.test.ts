import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Output } from "../src/core/facts.ts";
import { at, Driver, event } from "./driver.ts";

const CHANNEL = "demo:room";

/** A stream channel whose server forgets, repeats, drops and resets, but answers `subscribe` as SPEC section 6 says. */
class Trouble {
  readonly driver = new Driver();
  readonly seen: number[] = [];
  top = 0;

  constructor() {
    this.driver.connect();
    this.driver.core.subscribe(CHANNEL);
    this.driver.subscribed(CHANNEL, at(0));
  }

  readonly acts = {
    next: () => {
      this.top += 1;
      this.#deliver(this.top);
    },
    skip: () => {
      this.top += 1;
    },
    repeat: () => {
      if (this.top > 0) this.#deliver(this.top);
    },
    ahead: () => this.#deliver(this.top + 5),
    lose: () => {
      this.driver.lose();
      this.driver.reconnect();
    },
    lagged: () => this.driver.receive(["lagged", { channel: CHANNEL }]),
    reset: () => this.driver.receive(["reset", { scope: "all", code: "epoch_changed" }]),
    mark: () => this.driver.receive(["mark", { channel: CHANNEL, position: at(this.#position) }]),
    wait: () => this.driver.pass(1000),
  };

  get #position(): number {
    return this.driver.core.findSubscription(CHANNEL)?.position?.offset ?? 0;
  }

  #deliver(offset: number): void {
    if (this.driver.core.findSubscription(CHANNEL)?.state === "subscribed") {
      this.driver.receive(["event", event(CHANNEL, offset)]);
    }
  }

  /** Perform what the core says, and answer it. */
  settle(): void {
    this.driver.take().forEach((output) => {
      this.#perform(output);
    });
    const subscription = this.driver.core.findSubscription(CHANNEL);
    if (subscription?.state !== "subscribing") return;
    const events = [];
    for (let offset = this.#position + 1; offset <= this.top; offset++) events.push(event(CHANNEL, offset));
    const answer = {
      channel: CHANNEL,
      position: at(this.top),
      was_recovering: true,
      recovered: true,
      events,
    };
    this.driver.receive(["subscribed", { id: subscription.requestId, ...answer }]);
    this.settle();
  }

  #perform(output: Output): void {
    if ("do" in output) {
      if (output.do === "hangup") this.driver.lose();
    } else if (output.kind === "event") this.seen.push(output.event.position?.offset ?? -1);
    else if (output.kind === "reset") throw new Error("Nothing was lost.");
  }
}

describe("whatever happens to a stream", () => {
  it("every event is handed out once, in order, and none is missing in the end", () => {
    const names = Object.keys(new Trouble().acts) as (keyof Trouble["acts"])[];
    const steps = fc.array(fc.constantFrom("next" as const, "next" as const, ...names), {
      minLength: 20,
      maxLength: 80,
    });
    let total = 0;
    fc.assert(
      fc.property(steps, (acts) => {
        const trouble = new Trouble();
        for (const act of acts) {
          trouble.acts[act]();
          trouble.settle();
          expect(trouble.seen).toEqual(trouble.seen.map((_, n) => n + 1));
        }
        trouble.acts.lose();
        trouble.settle();
        expect(trouble.seen.length).toBe(trouble.top);
        total += trouble.top;
      }),
      { numRuns: 200 },
    );
    expect(total).toBeGreaterThan(500);
  });
});
