/** `protocol/vectors/traces`: collections and mutations as the Python client has them, step by step. */

import { describe, expect, it } from "vitest";
import { StateRoom } from "../../src/core/entries/room.ts";
import { Selection, type Watch } from "../../src/core/entries/watch.ts";
import type { Fact } from "../../src/core/facts.ts";
import type { Message } from "../../src/wire/decode.ts";
import { SpokenCore } from "../driver.ts";
import { loadTraces, type Step, type Trace, TracePlayer } from "../trace.ts";
import { valueFrom } from "../vectors.ts";
import { MUTATORS } from "./mutators.ts";

const TRACES = loadTraces("traces");

type Told = Record<string, unknown>;

class Player extends TracePlayer<StateRoom> {
  /** By the trace's number. */
  readonly watches = new Map<number, Watch>();
  /** What the application did in this step. */
  done: Told = {};

  constructor({ clients = [] }: Trace) {
    const claims = clients.map((client) => ({ client, secret: `s-${client}` }));
    super(
      new SpokenCore(
        () => 0.5,
        (speech) => new StateRoom(speech, MUTATORS),
        { claims },
      ),
    );
  }

  override play(step: Step): boolean {
    this.done = {};
    switch (step.do) {
      case "watch": {
        const { collection, keys, partition } = step as unknown as {
          collection: string;
          keys?: string[];
          partition?: string;
        };
        const watch = this.core.entries.watching.watch(
          new Selection(collection, keys ?? null, partition ?? null),
        );
        this.watches.set(step["watch"] as number, watch);
        return true;
      }
      case "unwatch":
        this.core.entries.watching.unwatch(this.watches.get(step["watch"] as number)?.id ?? 0);
        return true;
      case "mutate":
        this.#mutate(step);
        return true;
      case "read":
        this.core.requests.ask(
          "read",
          this.core.entries.readBody(step["collection"] as string, step["keys"] as string[]),
        );
        return true;
      default:
        return super.play(step);
    }
  }

  #mutate(step: Step): void {
    try {
      const slot = (step["slot"] as number | undefined) ?? 0;
      const args = valueFrom(step["args"]);
      [this.done["made"]] = this.core.entries.mutate(step["name"] as string, args, this.now, slot);
    } catch (error) {
      const { code, name } = error as { code?: string; name: string };
      this.done["refused"] = code ?? name;
    }
  }

  #numberOf(id: number): number {
    const found = [...this.watches].find(([, watch]) => watch.id === id);
    return found?.[0] ?? -1;
  }

  /** What the facts of a step tell, as traces tell it. */
  told(facts: Fact[]): Told {
    const told: Told & { changes: Told; outcomes: Told[] } = { ...this.done, changes: {}, outcomes: [] };
    const add = (name: string, what: unknown) => {
      told[name] = [...((told[name] as unknown[]) ?? []), what];
    };
    for (const one of facts) {
      this.#tellNews(one, told.changes, add);
      if (one.kind !== "settled" || one.result === null || !("entries" in one.result)) continue;
      const { entries } = one.result;
      add(
        "read",
        entries.map(({ isDeleted, ...entry }) => ({ ...entry, is_deleted: isDeleted })),
      );
    }
    return told;
  }

  #tellNews(fact: Fact, changes: Told, add: (name: string, what: unknown) => void): void {
    if (fact.kind === "views") {
      for (const [{ id }, keys] of fact.changed) changes[this.#numberOf(id)] = [...keys].sort();
    }
    if (fact.kind === "outcome") {
      const { id, status, value, code } = fact.outcome;
      add("outcomes", { id, status, ...(value === null ? {} : { value }), ...(code ? { code } : {}) });
    }
    if (fact.kind === "invalidated") {
      const { channel, keys, tags, isAll } = fact.invalidation;
      add("invalidated", { channel, keys, tags, all: isAll });
    }
    if (fact.kind === "ended") add("ended", { watch: this.#numberOf(fact.watch), code: fact.code });
  }

  /** What is visible after a step. */
  visible(): Told {
    const { entries } = this.core;
    const views: Told = {};
    for (const watch of entries.watching.watches.values()) {
      if (watch.isLeaving) continue;
      const { collection } = watch.extent;
      const keys = [...entries.shown.keys(watch)].sort();
      views[this.#numberOf(watch.id)] = watch.isShown
        ? {
            entries: Object.fromEntries(keys.map((key) => [key, entries.shown.get(collection, key)])),
            pending: keys.filter((key) => entries.shown.pendingOf(collection, key).length > 0),
            current: watch.isLive,
          }
        : null;
    }
    return { views, pending: entries.pending.map(({ id, slot, mid }) => [id, slot, mid]) };
  }
}

/** Compare what was told; `changes` may name more keys than the trace. */
function compare(told: Told, step: Step, label: string): void {
  const { changes, ...rest } = told;
  const wanted: Told = { outcomes: [] };
  for (const name of ["made", "refused", "outcomes", "invalidated", "ended", "read"]) {
    if (step[name] !== undefined) wanted[name] = step[name];
  }
  expect(rest, label).toEqual(wanted);
  const named = (step["changes"] ?? {}) as Record<string, string[]>;
  for (const [watch, keys] of Object.entries(changes as Record<string, string[]>)) {
    expect(keys, `${label}, changes of ${watch}`).toEqual(expect.arrayContaining(named[watch] ?? ["?"]));
  }
  expect(Object.keys(changes as object).sort(), label).toEqual(Object.keys(named).sort());
}

describe("the traces of collections and mutations", () => {
  it("are all there", () => {
    expect(TRACES.length).toBeGreaterThanOrEqual(70);
  });

  it.each(TRACES)("$name", (trace) => {
    const player = new Player(trace);
    for (const [place, step] of trace.steps.entries()) {
      const label = `step ${place}: ${step.do}`;
      expect(player.play(step), label).toBe(true);
      const done = player.take();
      player.expectSent(
        done.sent.filter(([kind]) => kind !== "pong"),
        (step["sent"] ?? []) as Message[],
      );
      compare(player.told(done.facts), step, label);
      expect(player.visible(), label).toEqual({ views: step["views"], pending: step["pending"] });
      expect(done.hangsUp, label).toBe(step["hangs_up"] ?? false);
    }
  });
});
