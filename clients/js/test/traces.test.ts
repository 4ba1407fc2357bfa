/** `protocol/vectors/channels`: the same connection and channels as the Python client's, step by step. */

import { describe, expect, it } from "vitest";
import { openNoEntries } from "../src/core/entries.ts";
import { RequestFailed } from "../src/core/errors.ts";
import type { Fact, RequestResult } from "../src/core/facts.ts";
import type { Position } from "../src/index.ts";
import { SpokenCore } from "./driver.ts";
import { loadTraces, type Step, TracePlayer } from "./trace.ts";

const TRACES = loadTraces("channels");

class Player extends TracePlayer<ReturnType<typeof openNoEntries>> {
  /** Request id to its number among those of the application. */
  readonly numbers = new Map<number, number>();

  constructor() {
    super(new SpokenCore(() => 0.5, openNoEntries));
  }

  override play(step: Step): boolean {
    const channel = step["channel"] as string;
    switch (step.do) {
      case "subscribe":
        this.core.subscribe(channel, step["from_position"] as Position | null, step["presence"] === true);
        return true;
      case "unsubscribe":
        this.core.unsubscribe(channel);
        return true;
      case "publish":
        this.#number(this.core.publish({ channel, data: step["data"], uid: step["uid"] as string }));
        return true;
      case "history":
        this.#number(this.core.history(channel, { limit: step["limit"] as number }));
        return true;
      case "presence":
        this.#number(this.core.setPresence(channel, step["state"]));
        return true;
      case "close":
        this.core.close();
        return true;
      default:
        return super.play(step);
    }
  }

  #number(requestId: number): void {
    this.numbers.set(requestId, this.numbers.size + 1);
  }

  /** A fact as the traces tell it; null for those they do not tell. */
  words(fact: Fact): unknown[] | null {
    switch (fact.kind) {
      case "event":
        return ["event", fact.channel, fact.event.position?.offset ?? null, fact.event.data];
      case "reset":
        return ["reset", fact.channel, fact.position, fact.cause];
      case "mark":
        return ["mark", fact.channel, fact.position];
      case "subscription":
        return fact.code === null ? null : ["ended", fact.channel, fact.code];
      case "presence": {
        const members = fact.members.map(({ member, states }) => [
          member,
          states.map(({ client, state }) => [client, state]),
        ]);
        return ["presence", fact.channel, members];
      }
      case "settled":
        return ["settled", this.numbers.get(fact.requestId), resultOf(fact.result), codeOf(fact.error)];
      case "state":
        return ["state", fact.state, fact.code];
      case "complaint":
        return ["complaint", fact.code];
      default:
        return null;
    }
  }
}

function resultOf(result: RequestResult): unknown {
  if (result === null || !("events" in result)) return result;
  return [result.position, result.events.map((event) => event.position?.offset ?? null)];
}

function codeOf(error: Error | null): string | null {
  if (error instanceof RequestFailed) return error.code;
  return error?.name ?? null;
}

describe("the traces of channels", () => {
  it("are all there", () => {
    expect(TRACES.length).toBeGreaterThanOrEqual(25);
  });

  it.each(TRACES)("$name", ({ steps }) => {
    const player = new Player();
    for (const [place, step] of steps.entries()) {
      const label = `step ${place}: ${step.do}`;
      expect(player.play(step), label).toBe(true);
      const done = player.take();
      player.expectSent(done.sent, (step["sent"] ?? []) as [string, Record<string, unknown>][]);
      const told = done.facts.map((fact) => player.words(fact)).filter((words) => words !== null);
      // The way to a connection is the shell's: `open` dials whatever the state was.
      const isNews = (words: unknown[]) => step.do !== "open" || words[0] !== "state";
      const wanted = ((step["told"] ?? []) as unknown[][]).filter(isNews);
      expect(told.filter(isNews), label).toEqual(wanted);
      expect(done.hangsUp, label).toBe(step["hangs_up"] ?? false);
      expect(player.core.findSubscription("demo:room")?.position ?? null, label).toEqual(step["position"]);
    }
  });
});
