/**
 * Worlds of tabs, one a seed; see world.ts.
 *
 * SYNCD_SIM_SEEDS sets how many (300 if not set), SYNCD_SIM_SEED the first of them. A failure names its seed.
 */

import { describe, expect, it } from "vitest";
import { played } from "./play.ts";

const NUM_SEEDS = Number(process.env["SYNCD_SIM_SEEDS"] ?? 300);
const FIRST_SEED = Number(process.env["SYNCD_SIM_SEED"] ?? 1);
/**
 * Worlds in which a promise was once broken, and what broke it; played without what pages take back, which came later. Presence came into the worlds later and moved their histories;
 * what was wrong with the client has tests of its own.
 */
const FOUND: readonly (readonly [seed: number, what: string])[] = [
  [378, "a client with a new id forgot what entries hold of other tabs' mutations"],
  [575, "tabs took the refusal of another's old token for one of theirs, and waited for their application"],
  [437, "what lay on the disk as never sent was sent, and another tab found it there"],
  [2437, "what was decided while a page waited for its lock was stored, and found by another page"],
  [5154, "a page let its lock go while it took over what another had left, and a third took that over"],
  [14_029, "a second refusal of a token was still on its way, and no application acted on it"],
  [4797, "a frozen tab was granted the lock of a dead one, and the leader never heard that it was dead"],
  [3334, "the session for what another tab left was denied twice, and nobody tried it again"],
  [30_751, "the network let a frame overtake others that arrive at the same time"],
  [20_551, "the oracle wanted decided what a tab made under a client that the server had just forgotten"],
  [20_312, "a token that ran out while the server could not be reached was taken for one that is no good"],
  [1072, "what a page had sent and left on the disk was predicted by others over entries that held it"],
  [6781, "a page that was left and came back noticed the end of no tab that it had met before"],
  [771, "a tab that thawed took what a leader had said of its last connection for the end of the new one"],
];

describe("tabs of two users in a world in which everything goes wrong", () => {
  it(
    `keep their promises (${NUM_SEEDS} seeds from ${FIRST_SEED})`,
    async () => {
      const sums = { numNotified: 0, numEvents: 0, numSeen: 0, numApplied: 0, numDials: 0, numCancelled: 0 };
      for (let seed = FIRST_SEED; seed < FIRST_SEED + NUM_SEEDS; seed++) {
        const world = await played(seed);
        for (const page of world.pages) {
          sums.numNotified += page.numNotified;
          sums.numEvents += page.numEvents;
          sums.numSeen += page.numSeen;
        }
        sums.numApplied += world.applied.size;
        sums.numCancelled += world.numCancelled;
        sums.numDials += world.server.ends.length;
        // Simulated time passes in microtasks alone: let the runner have a turn.
        await new Promise((resolve) => setImmediate(resolve));
      }
      // It would prove nothing if nothing happened.
      const means = Object.values(sums).map((sum) => sum / NUM_SEEDS);
      expect(means.every((mean) => mean > 10)).toBe(true);
    },
    10_000 + NUM_SEEDS * 2_000,
  );

  it.each(FOUND)("keep their promises in world %i: %s", async (seed) => {
    await played(seed, false);
  });
});
