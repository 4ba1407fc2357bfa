/** What must hold in the end, when everything works again and time has passed. */

import { expect } from "vitest";
import type { Member } from "../../src/index.ts";
import { type Page, ROOM } from "./page.ts";
import { type Simulation, USERS } from "./world.ts";

/** Check a healed world. */
export function checkAll(world: Simulation): void {
  expect(world.failures.map(String).slice(0, 5)).toEqual([]);
  for (const page of world.alive) {
    checkConvergence(world, page);
    for (const made of page.made) {
      const isRight = made.takenBackBy ? ["unsent"] : made.isRefused ? ["rejected"] : ["ok"];
      if (made.isDoubtful && !made.takenBackBy) isRight.push("ok", "rejected", "unknown");
      expect([made.uid, made.outcomes.length, isRight.includes(made.outcomes[0] ?? "")]).toEqual([
        made.uid,
        1,
        true,
      ]);
    }
  }
  for (const page of world.pages) {
    checkOnce(world, page, false);
    checkPublished(world, page);
  }
  checkPresence(world);
  checkTabs(world);
}

/** Everybody shows what the server has, hears what there is, and waits for nothing. */
function checkConvergence(world: Simulation, { client, orders, position, own, numResets }: Page): void {
  expect([own, client.state, orders.status(), client.numPending]).toEqual([own, "connected", "current", 0]);
  const shown = Object.fromEntries(orders.list().map(({ key, value }) => [key, value]));
  expect(shown, own).toEqual(world.server.entries.all("orders"));
  expect([own, position?.offset]).toEqual([own, world.server.events(ROOM).length]);
  expect(numResets, `resets of ${own}`).toBeLessThanOrEqual(world.numWiped);
}

/** Everybody sees each user once, with the newest state of each of the pages that are there, and none else. */
function checkPresence(world: Simulation): void {
  const present = USERS.map((user): Shown => {
    const pages = world.alive.filter((page) => page.user === user && page.announced !== null);
    return [user, pages.map(({ client, announced }) => `${client.clientId} ${announced}`).sort()];
  });
  const expected = present.filter(([, states]) => states.length > 0);
  for (const { own, user, announced, presence } of world.alive) {
    expect([own, shownAs(presence.members)]).toEqual([own, expected]);
    if (announced === null) continue;
    expect([own, shownAs(presence.others)]).toEqual([own, expected.filter(([other]) => other !== user)]);
  }
}

/** A user, and what is known of each of the clients. */
type Shown = [user: string | null, states: string[]];

function shownAs(members: readonly Member[]): Shown[] {
  const shown = members.map(
    ({ user, states }): Shown => [user, states.map(({ client, state }) => `${client} ${state}`).sort()],
  );
  return shown.sort(([one], [other]) => String(one).localeCompare(String(other)));
}

/** No call took effect twice; what was acknowledged, or kept on a disk, took effect once; what was taken back never did. */
function checkOnce(world: Simulation, page: Page, isAllSent: boolean): void {
  const { own, made, numMade, isVoid } = page;
  for (const { uid, outcomes, isKept, isRefused, takenBackBy, mayComeBack } of made) {
    const times = world.applied.get(uid) ?? 0;
    const isOk = outcomes.includes("ok");
    const least = isOk || (isAllSent && isKept && !isRefused && !takenBackBy && world.numWiped === 0) ? 1 : 0;
    const most = isRefused || outcomes.includes("rejected") || (takenBackBy && !mayComeBack) ? 0 : 1;
    const isRight = times >= least && times <= most && outcomes.length <= 1;
    expect(isRight, `${uid} took effect ${times} times, told ${outcomes}, kept ${isKept}`).toBe(true);
  }
  const counted = (world.server.entries.get("orders", own) ?? 0) as number;
  const numApplied = made.filter(({ uid }) => world.applied.has(uid)).length;
  if (!isVoid) expect([own, counted]).toEqual([own, numApplied]);
  expect(counted).toBeLessThanOrEqual(numMade);
}

function checkPublished(world: Simulation, { published, isAlive }: Page): void {
  for (const { data, position } of published) {
    const found = world.server.events(ROOM).filter((event) => event.data === data);
    if (world.numWiped > 0) expect(found.length, data).toBeLessThanOrEqual(1);
    else if (position !== null) expect(found.map(({ offset }) => offset)).toEqual([position.offset]);
    else expect([data, isAlive, found.length <= 1]).toEqual([data, false, true]);
  }
}

/** One tab of each user leads, and has the one connection. */
function checkTabs(world: Simulation): void {
  for (const user of USERS) {
    const roles = world.alive.filter((page) => page.user === user).map(({ tab }) => tab.tabs.role);
    expect([user, roles.filter((role) => role === "leader").length]).toEqual([user, 1]);
    expect([user, roles.filter((role) => role === "solo").length]).toEqual([user, 0]);
  }
  expect(world.browser.numConnected).toBe(USERS.length);
}

/** Check a world whose pages have all ended, and others come: nothing is left behind, and nothing was done twice for it. */
export function checkComeback(world: Simulation): void {
  for (const page of world.pages) checkOnce(world, page, true);
  const left = world.disks.records.map(({ id }) => id);
  expect(left, "mutations that nobody sends").toEqual([]);
  for (const page of world.alive) checkConvergence(world, page);
  checkPresence(world);
}

/** Check a world that has ended. */
export function checkEnd(world: Simulation): void {
  expect(world.failures.map(String).slice(0, 5)).toEqual([]);
  expect([world.browser.numConnected, world.clock.numTimers]).toEqual([0, 0]);
  expect(world.server.presence.members(ROOM)).toEqual([]);
}
