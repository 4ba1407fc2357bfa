/** Every planted bug is found, soon: by one of the first seeds. */

import { describe, expect, it } from "vitest";
import { BUGS, withBug } from "./bugs.ts";
import { played } from "./play.ts";

const MAX_SEEDS = 24;

async function firstThatFails(): Promise<number | null> {
  for (let seed = 1; seed <= MAX_SEEDS; seed++) {
    try {
      await played(seed);
    } catch {
      return seed;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return null;
}

describe("the simulation finds", () => {
  it.each(Object.entries(BUGS))(
    "that %s",
    async (_name, plant) => {
      let found: number | null = null;
      await withBug(plant, async () => {
        found = await firstThatFails();
      });
      expect(found).not.toBeNull();
    },
    120_000,
  );
});
