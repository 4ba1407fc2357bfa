/**
 * When the prediction of a mutation may go: what its outcome waits for, and which entries hold what became of it. Pure.
 *
 * The rule (promise SETTLE): a prediction is laid over an entry exactly as long as what is shown of the entry does not hold
 * what became of its mutation. Events say whose change they are, pages of snapshots up to which mutation of each client they
 * are as of (SPEC 17); so nothing has to be guessed from when something came.
 */

import type { Position } from "../../wire/messages.js";
import type { WatchTable } from "./watching.js";

/**
 * Return, by watch, how far those of these channels have to come whose events an outcome may overtake: all but the complete
 * ones, which are live, and nothing that they missed is still to come.
 */
export function stillToTell(
  watching: WatchTable,
  positions: ReadonlyMap<string, Position>,
): Map<number, Position> {
  const waits = new Map<number, Position>();
  for (const [channel, position] of positions) {
    for (const watch of watching.mayBeOn(channel)) {
      if (!watch.isLive || !watch.isSure) waits.set(watch.id, position);
    }
  }
  return waits;
}

/** Return whether each of these watches is over or has told, and shows, what happened up to there. */
export function haveTold(watching: WatchTable, waits: ReadonlyMap<number, Position>): boolean {
  return [...waits].every(([id, position]) => {
    const watch = watching.watches.get(id);
    // One that is left shows nothing, and may never have its answer. With `next` a watch waits for others in its epoch.
    return (
      !watch ||
      watch.isLeaving ||
      (!watching.channels.get(watch.channel ?? "")?.next && watch.hasTold(position))
    );
  });
}

/** Return whether what is shown holds what became of further mutations, since this was asked last. */
export function takeNews(watching: WatchTable): boolean {
  let hasNews = false;
  for (const { shown } of watching.channels.values()) {
    if (!shown?.hasNews) continue;
    shown.hasNews = false;
    hasNews = true;
  }
  return hasNews;
}

/** Nothing is pending, or what is has other numbers now: what entries hold is not asked for any more. */
export function forgetSeen(watching: WatchTable): void {
  for (const channel of watching.channels.values()) channel.forgetSeen();
}
