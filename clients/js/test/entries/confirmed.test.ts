import { expect, it } from "vitest";
import { Entries } from "../../src/core/entries/confirmed.ts";

const patchOf = (key: string, version: number) => ({
  key,
  version,
  patch: { n: version },
  base: version - 1,
  by: null,
});

it("a thousand patches wait for the page with their base; one more is a hole, until some are applied", () => {
  const entries = new Entries("e", () => 0);
  const taken = (count: number, key: string) =>
    Array.from({ length: count }, (_, n) => entries.take(patchOf(key, 2 + n), true)).filter(Boolean).length;
  expect(taken(400, "a")).toBe(400);
  expect(taken(601, "b")).toBe(600);
  expect(entries.take(patchOf("c", 2), true)).toBe(false);
  entries.takeTold("a", 1, { n: 1 });
  expect([entries.value("a"), entries.version("a")]).toEqual([{ n: 401 }, 401]);
  expect(taken(401, "c")).toBe(400);
  // What still waits when every snapshot is complete has no base any more.
  entries.settle();
  expect(taken(1_001, "d")).toBe(1_000);
});
