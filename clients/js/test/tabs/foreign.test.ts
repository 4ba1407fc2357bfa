import { expect, it } from "vitest";
import type { Pending } from "../../src/core/entries/pending.ts";
import type { WatchTable } from "../../src/core/entries/watching.ts";
import { Foreign } from "../../src/tabs/foreign.ts";

function room() {
  const watch = { isLive: true, isSure: true };
  const watching = { watches: new Map([[1, watch]]), clients: new Map([["mine", 3]]) };
  const all = new Map<number, Pending>();
  return { watch, watching, all, foreign: new Foreign(all, watching as unknown as WatchTable) };
}

const MADE = {
  id: "x",
  client: "other",
  mid: 7,
  name: "orders.incr",
  args: null,
  madeAtMs: 1,
  isLeft: false,
};

it("a mutation of another tab stays predicted until every watch has told what became of it", () => {
  // A watch that went on from a position is live at once, and what it missed comes behind: seen in Chromium as a flicker.
  const { watch, foreign, all } = room();
  foreign.add([MADE]);
  watch.isSure = false;
  foreign.drop(["x"], true);
  expect([foreign.takeNews(), all.size]).toEqual([true, 1]);
  watch.isSure = true;
  watch.isLive = false;
  expect([foreign.takeNews(), all.size]).toEqual([false, 1]);
  watch.isLive = true;
  expect([foreign.takeNews(), all.size]).toEqual([true, 0]);
});

it("a mutation that will not be sent is not predicted any more, connected or not", () => {
  const { watch, foreign, all } = room();
  foreign.add([MADE]);
  watch.isLive = false;
  foreign.drop(["x", "nobody's"], false);
  expect([foreign.takeNews(), all.size]).toEqual([true, 0]);
});

it("events of other tabs' clients are looked at from the first mutation that is pending there", () => {
  const { foreign, watching, all } = room();
  foreign.add([MADE, { ...MADE, id: "y", mid: 8 }, { ...MADE, id: "z", client: null, mid: 0 }]);
  expect([...watching.clients]).toEqual([
    ["mine", 3],
    ["other", 6],
  ]);
  foreign.add([{ ...MADE, id: "z", client: "third", mid: 1 }]);
  expect(all.size).toBe(3);
  expect(watching.clients.get("third")).toBe(0);
});

it("a mutation that the server was heard of already is not predicted: what is shown holds it", () => {
  const { all, foreign } = room();
  foreign.note("other", 7);
  foreign.add([MADE, { ...MADE, id: "y", mid: 8 }, { ...MADE, id: "z", client: null, mid: 0 }]);
  expect([...all.values()].map(({ mid }) => mid)).toEqual([8, 0]);
});

it("a mutation is not predicted over loaded entries that do not say whether they hold it", () => {
  // It is sent by another connection than theirs: seen in the simulation as an effect that was shown twice.
  const { all, foreign } = room();
  foreign.add([MADE, { ...MADE, id: "y", client: "apart" }, { ...MADE, id: "z", client: null }]);
  foreign.takeNews();
  expect(all.size).toBe(3);
  foreign.loaded({ other: 6 });
  expect([foreign.takeNews(), [...all.keys()]]).toEqual([true, [-1, -3]]);
});

it("a mutation of a page that has ended is predicted where it was before, until entries are loaded", () => {
  // The page may have sent it, so whoever never heard of it cannot know whether what is loaded holds it.
  const { all, foreign } = room();
  const left = { ...MADE, isLeft: true };
  foreign.add([left]);
  expect(all.size).toBe(0);
  foreign.add([MADE]);
  foreign.drop(["x"], false);
  foreign.add([left]);
  expect(all.size).toBe(1);
  foreign.drop(["x"], false);
  foreign.loaded({});
  foreign.add([left]);
  expect(all.size).toBe(0);
});

it("a mutation that loaded entries may hold is not predicted when its tab tells it once more", () => {
  // Whenever a tab comes all others tell what they have pending.
  const { all, foreign } = room();
  foreign.add([MADE]);
  foreign.loaded({});
  foreign.takeNews();
  foreign.add([MADE]);
  expect(all.size).toBe(0);
  // Under another client it was not decided under this one.
  foreign.add([{ ...MADE, client: "another", mid: 1 }]);
  expect(all.size).toBe(1);
});
