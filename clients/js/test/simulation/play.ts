/** Plays one seed from its beginning to its end. */

import { checkAll, checkComeback, checkEnd } from "./oracles.ts";
import { Simulation } from "./world.ts";

export const NUM_STEPS = 110;

/**
 * Play a seed and check everything; return the world as it ended.
 *
 * @param cancels Whether pages take back what they have not sent.
 * @throws Error a promise was not held; its message says how to play it alone, its cause what.
 */
export async function played(seed: number, cancels = true): Promise<Simulation> {
  const world = new Simulation(seed, { cancels });
  try {
    await world.run(NUM_STEPS);
    if (world.failures.length > 0) throw new Error(world.failures.map(String).join("\n"));
    await world.heal();
    checkAll(world);
    await world.comeBack();
    checkComeback(world);
    await world.end();
    checkEnd(world);
  } catch (error) {
    const last = world.history.slice(-12).join(", ");
    throw new Error(
      `SYNCD_SIM_SEED=${seed} SYNCD_SIM_SEEDS=1 shows it: ${(error as Error).message}\nLast: ${last}`,
      { cause: error },
    );
  }
  return world;
}
