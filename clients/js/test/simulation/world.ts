/**
 * Tabs of several users against a server in the same process, and everything that can happen to them. Deterministic: a seed is
 * a history.
 *
 * What is held, at every notification and in the end (names as in DESIGN's promises): ORDER and RECOVER of a stream channel;
 * SETTLE, by counters that one page alone increments; ONCE, by what the server's mutator ran for each call; DURABLE, by what
 * lay on the disk of a page that ended; GONE, by what each page announces of itself; convergence; one connection a user; what
 * was taken back never takes effect; nothing left behind.
 */

import type { ClientOptions, MutatorMap, Signal } from "../../src/index.ts";
import { pendingMutations } from "../../src/mutations/index.ts";
import type { FakeClock, FakeServer } from "../../src/testing/index.ts";
import { seeded } from "../seeded.ts";
import { FakeBrowser, FakeTab } from "../tabs/browser.ts";
import { Disks } from "./database.ts";
import { Network } from "./network.ts";
import { type BumpArgs, Page, ROOM } from "./page.ts";

export const USERS = ["ann", "bob"];
const MAX_TABS = 4;
/** A page that ended is present for so long at most: silence is noticed within 35 s, the grace is 15 s, frames are on their way. */
const GONE_MS = 60_000;
/** Tabs have heard of each other's mutations: each stores one thing after the other, and tells it then. */
const HEARD_MS = 6_000;
const WILD = new Set(["freeze", "thaw", "steal", "disk", "diskGone", "handles", "slow", "timers", "signal"]);
const SIGNALS: Signal[] = ["online", "offline", "visible", "focus", "resume", "pagehide", "pageshow"];

/** One world. */
export class Simulation {
  readonly browser: FakeBrowser;
  readonly disks = new Disks();
  readonly network: Network;
  readonly pages: Page[] = [];
  /** Calls that took effect at the server: how often each did. */
  readonly applied = new Map<string, number>();
  /** What was done, to read when it fails. */
  readonly history: string[] = [];
  numWiped = 0;
  readonly #failures: string[] = [];
  /** Clients that the server does not know any more. Tabs may still have one to give to a tab that comes. */
  readonly forgotten = new Set<string>();
  /**
   * Tabs neither freeze nor are left, disks work and nothing is slow. Then tabs show each other's predictions without a flicker;
   * else what one tab tells another and what the server tells it may meet in any order, and only what a tab made itself is
   * shown without one.
   */
  readonly isCalm: boolean;
  readonly #random: () => number;
  /** What is taken back, and when; null: nothing is. Drawn apart, so that it came into the worlds without others happening. */
  readonly #cancels: (() => number) | null;
  numCancelled = 0;
  readonly #tokens = new Map<string, number>();

  constructor(seed: number, { cancels = true } = {}) {
    this.#random = seeded(seed);
    this.#cancels = cancels ? seeded(seed + 2_000_029) : null;
    this.isCalm = seed % 2 === 0;
    this.browser = new FakeBrowser(seeded(seed + 1_000_003));
    this.network = new Network(this.clock, this.#random);
    this.browser.line = this.network;
    const { entries, presence } = this.server;
    presence.userOf = (token) => token?.split(" ")[0] ?? null;
    entries.pageSize = this.pick([1, 3, 1000]);
    entries.pageMs = 20;
    entries.mutators.set("orders.bump", (tx, args) => {
      const { key, uid, isRefused } = args as BumpArgs;
      if (isRefused) tx.reject("refused", "The server refuses it.");
      this.applied.set(uid, (this.applied.get(uid) ?? 0) + 1);
      tx.incr(key);
    });
    for (const user of USERS) for (let n = 0; n < 2; n++) this.openPage(user);
  }

  get clock(): FakeClock {
    return this.browser.world.clock;
  }

  get server(): FakeServer {
    return this.browser.world.server;
  }

  /** Pages that are open. */
  get alive(): Page[] {
    return this.pages.filter(({ isAlive }) => isAlive);
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }

  #isLikely(chance: number): boolean {
    return this.#random() < chance;
  }

  /** Open a tab; for `Page`. */
  open(user: string, client: (tab: FakeTab) => Partial<ClientOptions<MutatorMap>>): FakeTab {
    const tab = new FakeTab(this.browser, { user, client });
    this.browser.tabs.push(tab);
    return tab;
  }

  openPage(user: string): void {
    const open = this.alive.filter((page) => page.user === user);
    if (open.length >= MAX_TABS) return;
    const page = new Page(this, user, `${user}-${this.pages.length}`);
    this.pages.push(page);
    page.watch(this.#isLikely(0.7));
  }

  /** A token that the server takes. */
  token(user: string): string {
    return `${user} ${this.#tokens.get(user) ?? 0}`;
  }

  // ------------------------------------------------------------------------------- what happens

  /** A page that runs. */
  get #page(): Page | undefined {
    const running = this.alive.filter(({ tab, isAway }) => !tab.isFrozen && !isAway);
    return running.length > 0 ? this.pick(running) : undefined;
  }

  readonly #acts: Record<string, [weight: number, act: () => void]> = {
    mutate: [24, () => this.#page?.mutate(false)],
    burst: [4, () => this.#burst()],
    refused: [6, () => this.#page?.mutate(true)],
    publish: [8, () => this.#page?.publish()],
    announce: [6, () => this.#page?.announce(this.#isLikely(0.9))],
    watch: [3, () => this.#page?.watch(this.#isLikely(0.6))],
    tellAll: [1, () => this.server.presence.tellAll(ROOM)],
    backend: [5, () => this.server.publish(ROOM, "of a backend")],
    write: [4, () => this.server.entries.write("orders", this.pick(["x", "y"]), { by: "backend" })],
    undo: [2, () => this.server.entries.write("orders", this.pick(["x", "y"]), undefined)],
    dropAll: [2, () => this.server.dropAll()],
    drop: [4, () => this.#end?.drop()],
    silent: [2, () => this.#end?.goSilent()],
    mute: [2, () => this.#mute()],
    close: [2, () => this.#end?.close(this.pick([1001, 1011, 4000, 4001, 4007]))],
    expire: [2, () => this.#expire(this.pick(USERS))],
    restart: [2, () => this.server.restart()],
    wipe: [1, () => this.#wipe()],
    lag: [2, () => this.server.entries.lag("orders")],
    trim: [2, () => this.server.entries.trim("orders")],
    reach: [3, () => this.#reach()],
    slow: [3, () => this.#slow()],
    repeat: [2, () => this.#repeat()],
    wait: [3, () => this.#decide()],
    openTab: [5, () => this.openPage(this.pick(USERS))],
    kill: [4, () => this.#page?.end(false)],
    leave: [2, () => this.#page?.end(true)],
    freeze: [3, () => this.#freeze()],
    thaw: [4, () => this.#thaw()],
    steal: [2, () => this.#steal()],
    disk: [3, () => this.disks.faults.push(this.pick(["abort", "never", "committed-late"]))],
    diskGone: [1, () => this.#breakDisk()],
    handles: [2, () => this.disks.endHandles()],
    timers: [1, () => this.#slowTimers()],
    signal: [4, () => this.#signal()],
  };

  get #end() {
    const open = this.server.ends.filter(({ isOpen }) => isOpen);
    return open.length > 0 ? this.pick(open) : undefined;
  }

  #burst(): void {
    const page = this.#page;
    for (let n = 0; n < 5; n++) page?.mutate(this.#isLikely(0.2));
  }

  /** Now and then a page takes something back; most of what is pending was sent, and cannot be. */
  #cancel(): void {
    const draw = this.#cancels;
    if (draw === null || draw() < 0.5) return;
    const pages = this.alive.filter(({ tab, isAway }) => !tab.isFrozen && !isAway);
    const pending = pages.flatMap((page) => pendingMutations(page.client).map((one) => [page, one] as const));
    const [page, one] = pending[Math.floor(draw() * pending.length)] ?? [];
    if (page === undefined || one === undefined || !page.cancel(one)) return;
    this.numCancelled += 1;
    this.history.push(`${this.clock.now()} cancel of ${page.own}`);
  }

  #mute(): void {
    const end = this.#end;
    if (end !== undefined) end.isMuted = true;
  }

  /** A token runs out: the sessions that have it end, and nobody takes it again. */
  #expire(user: string): void {
    this.server.badTokens.add(this.token(user));
    this.#tokens.set(user, (this.#tokens.get(user) ?? 0) + 1);
    for (const page of this.pages.filter((one) => one.user === user)) {
      for (const end of page.tab.sockets) if (end.isOpen) end.close(4401, "The token is not accepted.");
    }
  }

  #wipe(): void {
    this.numWiped += 1;
    for (const client of this.network.clients) this.forgotten.add(client);
    this.server.restart({ keepsStore: false });
    for (const page of this.pages) page.serverForgot();
  }

  #reach(): void {
    this.server.isReachable = this.#isLikely(0.6);
    this.server.latencyMs = this.pick([0, 0, 50, 3_000]);
  }

  #slow(): void {
    this.network.maxDelayMs = this.pick([0, 0, 30, 400, 3_000]);
  }

  #repeat(): void {
    this.network.repeats = this.pick([0, 0.3]);
  }

  #decide(): void {
    this.server.entries.isDeciding = !this.server.entries.isDeciding;
    if (this.server.entries.isDeciding) this.server.entries.decideAll();
  }

  #freeze(): void {
    const page = this.#page;
    if (page === undefined || this.disks.isBusy(page.tab)) return;
    page.tab.freeze();
  }

  #thaw(): void {
    const frozen = this.alive.filter(({ tab }) => tab.isFrozen);
    if (frozen.length > 0) this.pick(frozen).tab.thaw();
  }

  /** A page that was left hears nothing until it is shown again. */
  #signal(): void {
    const running = this.alive.filter(({ tab }) => !tab.isFrozen);
    if (running.length === 0) return;
    const page = this.pick(running);
    page.hear(page.isAway ? "pageshow" : this.pick(SIGNALS));
  }

  /** The lead of a group is taken away. */
  #steal(): void {
    const held = this.browser.locks.held.filter((name) => name.endsWith(" lead"));
    if (held.length > 0) this.browser.locks.takeAway(this.pick(held))();
  }

  #breakDisk(): void {
    this.disks.isBroken = this.#isLikely(0.5);
    this.disks.endHandles();
  }

  #slowTimers(): void {
    const page = this.#page;
    if (page !== undefined) page.tab.timersAreSlow = this.#isLikely(0.5);
  }

  // ------------------------------------------------------------------------------- a history

  /** Do so many things, with some time between them. */
  async run(numSteps: number): Promise<void> {
    const acts = Object.entries(this.#acts).filter(([name]) => !this.isCalm || !WILD.has(name));
    const names = acts.flatMap(([name, [weight]]) => Array<string>(weight).fill(name));
    for (let step = 0; step < numSteps && this.failures.length === 0; step++) {
      const name = this.pick(names);
      this.history.push(`${this.clock.now()} ${name}`);
      this.#acts[name]?.[1]();
      this.#cancel();
      await this.pass(this.pick([0, 0, 0, 10, 100, 1_000, 6_000, 30_000]));
    }
  }

  /** Let time pass, in small steps first: promises settle in less time than machines take for them. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(0);
    for (let [left, step] = [ms, 10]; left > 0; left -= step, step = Math.min(step * 2, 1_000)) {
      await this.clock.advance(Math.min(left, step));
    }
    for (const page of this.alive) if (!page.tab.isFrozen) page.check(ms >= HEARD_MS);
    this.#checkGone();
  }

  /** GONE, as the server sees it. */
  #checkGone(): void {
    const states = this.server.presence.members(ROOM).flatMap((member) => member.states);
    const present = new Set((states as { state: string }[]).map(({ state }) => state.split(" ")[0]));
    for (const { own, endedAt } of this.pages) {
      const isLate = present.has(own) && this.clock.now() - endedAt > GONE_MS;
      if (isLate) this.#failures.push(`${own} is present, its page ended at ${endedAt}`);
    }
  }

  /** Everything works from now on, for long enough. */
  async heal(): Promise<void> {
    this.server.isReachable = true;
    this.server.latencyMs = 0;
    this.server.entries.isDeciding = true;
    this.server.entries.decideAll();
    this.network.maxDelayMs = this.network.repeats = 0;
    this.disks.isBroken = false;
    this.disks.faults.length = 0;
    for (const user of USERS) if (!this.alive.some((page) => page.user === user)) this.openPage(user);
    for (const page of this.alive) {
      page.tab.timersAreSlow = false;
      page.tab.thaw();
      page.hear("pageshow");
      page.client.connect();
      page.watch(true);
    }
    // A silent line is noticed within ping_ms and 10 s, a page that ended within 15 s, and a dial waits 20 s at most.
    for (let turn = 0; turn < 6; turn++) {
      await this.pass(60_000);
      // A second refusal may still have been on its way: then the application is asked, and acts.
      for (const { client } of this.alive) if (client.state === "needs-auth") client.connect();
    }
    await this.#changeGuard();
  }

  /**
   * Where all is well some pages go, and one user changes or is there no more. Who comes then is told by a leader that has seen
   * it, and nothing more comes of that user that would mend what is wrong.
   */
  async #changeGuard(): Promise<void> {
    const [changing, coming] = this.pick([USERS, [...USERS].reverse()]) as [string, string];
    for (const user of USERS) {
      const open = this.alive.filter((page) => page.user === user);
      if (open.length > 1) this.pick(open).end(this.#isLikely(0.5));
    }
    const isHere = this.#isLikely(0.5);
    for (const page of this.alive) if (page.user === changing) page.announce(isHere);
    await this.pass(GONE_MS);
    this.openPage(coming);
    for (const page of this.alive) page.watch(true);
    await this.pass(GONE_MS);
  }

  /** The browser ends and comes back with one tab a user, which sends what is left. */
  async comeBack(): Promise<void> {
    for (const page of this.alive) page.end(false);
    for (const user of USERS) this.openPage(user);
    for (const page of this.alive) page.watch(true);
    await this.pass(GONE_MS);
  }

  /** Close everything; nothing may be left to do. */
  async end(): Promise<void> {
    for (const page of this.alive) page.client.close();
    await this.pass(120_000);
  }

  /** What was not held so far. */
  get failures(): unknown[] {
    const { violations, world } = this.browser;
    return [
      ...this.#failures,
      ...this.pages.flatMap(({ failures }) => failures),
      ...violations,
      ...world.errors,
    ];
  }
}
