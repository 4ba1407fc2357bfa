/**
 * Known bugs, planted from outside: a simulation that finds none of them proves nothing by finding no others.
 *
 * Each replaces a method for as long as `withBug` runs. Some are bugs that the simulation found when it was written.
 */

import { Entries } from "../../src/core/entries/confirmed.ts";
import { MutationQueue } from "../../src/core/entries/queue.ts";
import { SubscriptionCore } from "../../src/core/subscription.ts";
import { OwnerLock } from "../../src/storage/owner-lock.ts";
import { DurableQueue } from "../../src/storage/queue.ts";
import { Exchange } from "../../src/tabs/exchange.ts";
import { Foreign } from "../../src/tabs/foreign.ts";
import { PendingOfTabs } from "../../src/tabs/pending.ts";
import { Session } from "../../src/tabs/session.ts";

type Plant = () => () => void;

// biome-ignore lint/suspicious/noExplicitAny: methods of all kinds are replaced.
type Method = (this: any, ...args: any[]) => any;

/** Put `make(original)` in a method's place; return what undoes that. */
function replaced(owner: { prototype: object }, name: string, make: (original: Method) => Method): Plant {
  return () => {
    const methods = owner.prototype as Record<string, Method>;
    const original = methods[name] as Method;
    methods[name] = make(original);
    return () => {
      methods[name] = original;
    };
  };
}

/** By what is wrong. */
export const BUGS: Readonly<Record<string, Plant>> = {
  "an outcome does not end the mutation, which is sent and told again": replaced(
    MutationQueue,
    "decided",
    (original) =>
      function (mid, now) {
        const pending = this.undecided.get(mid);
        const decided = original.call(this, mid, now);
        if (pending !== undefined) this.undecided.set(mid, pending);
        return decided;
      },
  ),
  "events do not say whose effect they are, so that it shows twice until the outcome": replaced(
    Entries,
    "see",
    () => () => undefined,
  ),
  "predictions of other tabs stay for ever": replaced(Foreign, "drop", () => () => undefined),
  "what was missed while the connection was away is not told": replaced(
    SubscriptionCore,
    "answered",
    (original) =>
      function (answer) {
        original.call(this, { ...answer, events: [] });
      },
  ),
  "what is kept under another number is kept once more": replaced(
    DurableQueue,
    "append",
    (original) =>
      function (mutations) {
        const apart = mutations.map((one: { id: string; mid: number }) => ({
          ...one,
          id: `${one.id}.${one.mid}`,
        }));
        return original.call(this, apart);
      },
  ),
  "a page takes over what living pages speak for": replaced(
    OwnerLock,
    "whileFree",
    () => async (_owner, act) => {
      await act();
      return true;
    },
  ),
  "nothing is taken from the disk": replaced(DurableQueue, "remove", () => async () => undefined),
  "a hub does not say where the clients of all tabs stand": replaced(
    Session,
    "completed",
    () => (decided) => decided ?? {},
  ),
  "what a tab that died had pending is shown for ever": replaced(
    PendingOfTabs,
    "forgetTab",
    () => () => undefined,
  ),
  "what was taken back stays on the disk": replaced(
    DurableQueue,
    "remove",
    (original) =>
      async function (ids, areTakenBack) {
        if (!areTakenBack) await original.call(this, ids);
      },
  ),
  "other tabs take what was taken back for decided, and show it until they are connected": replaced(
    PendingOfTabs,
    "hear",
    (original) =>
      function (word) {
        original.call(this, { ...word, areTakenBack: false });
      },
  ),
  "what follows a mutation that was taken back is numbered from the beginning": replaced(
    MutationQueue,
    "renumber",
    (original) =>
      function (kept, lastMid) {
        original.call(this, kept, kept.length < this.undecided.size ? 0 : lastMid);
      },
  ),
  "a hub never takes back what a tab that ended announced": replaced(
    Exchange,
    "ask",
    (original) =>
      function (kind, body) {
        return kind === "presence" ? 0 : original.call(this, kind, body);
      },
  ),
};

/** Run this with a bug. */
export async function withBug(plant: Plant, run: () => Promise<void>): Promise<void> {
  const undo = plant();
  try {
    await run();
  } finally {
    undo();
  }
}
