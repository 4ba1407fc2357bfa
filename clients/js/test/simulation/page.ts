/** One tab of a simulated user: what it does, what it is shown, and what was promised to it. */

import type {
  ChannelEvent,
  ChannelPresence,
  Client,
  Collection,
  MutatorTx,
  Position,
  Signal,
} from "../../src/index.ts";
import { cancelMutation, type PendingMutation } from "../../src/mutations/index.ts";
import { durableQueue } from "../../src/storage/index.ts";
import type { FakeTab } from "../tabs/browser.ts";
import type { Simulation } from "./world.ts";

export const ROOM = "demo:a";

/** A mutation that a tab made. */
export interface Made {
  readonly uid: string;
  readonly isRefused: boolean;
  /** How it ended, as the tab was told: once, if at all. */
  readonly outcomes: string[];
  /** The server lost what it knew while this was not decided. */
  isDoubtful: boolean;
  /** It was on the disk when its tab ended: it must take effect all the same. */
  isKept: boolean;
  /** The page that took it back: this one, or one that had it of this one's disk. */
  takenBackBy: Page | null;
  /** That page ended before the disk had forgotten it: whoever finds it there sends it. */
  mayComeBack: boolean;
}

/** A publication of a tab. */
export interface Published {
  readonly data: string;
  position: Position | null;
}

export interface BumpArgs {
  readonly key: string;
  readonly uid: string;
  readonly isRefused: boolean;
}

/** What the client predicts: it does not know what the server refuses. */
export function bump(tx: MutatorTx, { key }: BumpArgs): void {
  tx.incr(key);
}

/** A page with a client, checked whenever it is shown something. */
export class Page {
  readonly tab: FakeTab;
  readonly client: Client;
  readonly orders: Collection;
  readonly user: string;
  /** The counter that this page alone increments. */
  readonly own: string;
  readonly made: Made[] = [];
  readonly published: Published[] = [];
  readonly failures: string[] = [];
  numNotified = 0;
  numEvents = 0;
  /** How often it was told who else is there. */
  numSeen = 0;
  numResets = 0;
  /** Of `own`, but for what was taken back. */
  numMade = 0;
  /** Of `own`: others may not have heard of that. */
  numTakenBack = 0;
  /** Neither killed nor closed. */
  isAlive = true;
  /** When it was. */
  endedAt = Number.POSITIVE_INFINITY;
  /** What it announced last in the room; null: nothing, or it left. */
  announced: string | null = null;
  #numAnnounced = 0;
  #stopWatching: (() => void) | null = null;
  /** It was left, as for the back/forward cache: to others it is gone, and what it had pending with it. */
  isAway = false;
  /** What was counted in `own` is lost: the server began anew since. */
  isVoid = false;
  /** Up to where the listener was told everything; null before it knows. */
  position: Position | null = null;
  readonly #world: Simulation;
  /** Counters of others, as they were shown last. */
  readonly #shown = new Map<string, number>();

  constructor(world: Simulation, user: string, name: string) {
    this.#world = world;
    this.user = user;
    this.own = `own-${name}`;
    this.tab = world.open(user, (tab) => ({
      getToken: () => world.token(user),
      mutators: { orders: { bump } },
      store: durableQueue({
        user,
        url: "ws://test/ws",
        environment: {
          indexedDB: world.disks.page(tab),
          locks: tab.locks,
          randomName: () => name,
          setTimeout: (run, afterMs) => tab.setTimeout(run, afterMs),
          clearTimeout: (timer) => world.clock.clearTimeout(timer),
        },
      }),
    }));
    this.client = this.tab.client;
    this.orders = this.client.collection("orders");
    this.orders.watch();
    this.orders.subscribe(() => {
      this.numNotified += 1;
      this.check();
    });
    this.#listen();
    this.announce(true);
    this.client.connect();
  }

  #listen(): void {
    const channel = this.client.channel(ROOM);
    channel.subscribe({
      onState: ({ state, position }) => {
        if (state === "subscribed") this.position ??= position;
      },
      onReset: ({ position }) => {
        this.numResets += 1;
        this.position = position;
      },
      onEvent: (event) => this.#take(event),
    });
    this.client.onState(({ state }) => {
      if (state === "connected" && this.#isForgotten) this.serverForgot();
    });
    // Numbers are of this page; others', which it took over, are told too and are none of ours.
    this.client.onOutcome(({ id, status }) => this.#ids.get(id)?.outcomes.push(status));
  }

  readonly #ids = new Map<number, Made>();

  /** ORDER and RECOVER: the next event, in the epoch that is known, and none else. */
  #take({ position }: ChannelEvent): void {
    this.numEvents += 1;
    const { epoch, offset } = this.position ?? { epoch: "", offset: Number.NaN };
    if (position?.epoch !== epoch || position?.offset !== offset + 1) {
      this.failures.push(`${this.own} heard ${JSON.stringify(position)} after ${epoch} ${offset}`);
    }
    this.position = position;
  }

  /** It speaks for a client that the server does not know any more. */
  get #isForgotten(): boolean {
    return this.#world.forgotten.has(this.client.clientId ?? "");
  }

  // ------------------------------------------------------------------------------- what it does

  /** Increment the page's own counter, or make what the server will refuse. */
  mutate(isRefused: boolean): void {
    const uid = `${this.own} ${this.made.length}`;
    const key = isRefused ? `not-${this.own}` : this.own;
    // Sent under an id that the server has forgotten meanwhile, it may end as unknown.
    const isDoubtful = this.#isForgotten;
    const made = {
      uid,
      isRefused,
      outcomes: [],
      isDoubtful,
      isKept: false,
      takenBackBy: null,
      mayComeBack: false,
    };
    if (!isRefused) this.numMade += 1;
    this.made.push(made);
    const { id, server } = this.client.mutate("orders.bump", { key, uid, isRefused });
    this.#ids.set(id, made);
    server.catch(() => undefined);
    this.check();
  }

  /** Take back what is pending here; return whether that could be. */
  cancel({ id, args, status }: PendingMutation): boolean {
    const { uid } = args as BumpArgs;
    if (status !== "queued") {
      if (cancelMutation(this.client, id)) this.failures.push(`${uid} was ${status}, and taken back`);
      return false;
    }
    // What is shown follows at once.
    const undo = this.#world.pages.map((page) => page.#takeBack(uid, this));
    const isDone = cancelMutation(this.client, id);
    if (!isDone) for (const one of undo) one();
    this.check();
    return isDone;
  }

  /** One that this page may have made is taken back; return what undoes that. */
  #takeBack(uid: string, by: Page): () => void {
    const made = this.made.find((one) => one.uid === uid);
    if (made === undefined) return () => undefined;
    const count = (num: number): void => {
      if (made.isRefused) return;
      this.numMade -= num;
      this.numTakenBack += num;
    };
    made.takenBackBy = by;
    count(1);
    return () => {
      made.takenBackBy = null;
      count(-1);
    };
  }

  publish(): void {
    const one: Published = { data: `${this.own} ${this.published.length}`, position: null };
    this.published.push(one);
    const answer = this.client.channel(ROOM).publish(one.data);
    answer.then(
      (position) => {
        one.position = position;
      },
      () => undefined,
    );
  }

  get presence(): ChannelPresence {
    return this.client.channel(ROOM).presence;
  }

  /** Tell the others something new of itself, or leave them. */
  announce(isHere: boolean): void {
    this.#numAnnounced += 1;
    this.announced = isHere ? `${this.own} ${this.#numAnnounced}` : null;
    this.presence.set(this.announced).catch(() => undefined);
  }

  /** Look at who is there, or look away. */
  watch(isWatching: boolean): void {
    this.#stopWatching?.();
    const see = (): void => {
      this.numSeen += 1;
    };
    this.#stopWatching = isWatching ? this.presence.subscribe(see) : null;
  }

  /** Its browser tells it something. */
  hear(signal: Signal): void {
    if (signal === "pagehide") this.isAway = true;
    if (signal === "pageshow") this.isAway = false;
    this.tab.signal(signal);
  }

  /** The server begins anew: what is not decided may have been, and what was counted is gone. */
  serverForgot(): void {
    this.isVoid = true;
    for (const made of this.made) {
      made.isDoubtful ||= !made.outcomes.some((status) => status === "ok" || status === "rejected");
    }
  }

  /** The page ends, by closing or by a crash; what it has stored is to be sent by another. */
  end(isClean: boolean): void {
    const stored = new Set(this.#world.disks.records.map((one) => (one as { args?: BumpArgs }).args?.uid));
    for (const made of this.made) made.isKept = stored.has(made.uid) && made.outcomes.length === 0;
    for (const page of this.#world.pages) {
      for (const made of page.made) {
        if (made.takenBackBy !== this || !stored.has(made.uid)) continue;
        made.mayComeBack = true;
        if (!made.isRefused) page.numMade += 1;
      }
    }
    if (isClean) this.client.close();
    this.isAlive = false;
    this.endedAt = this.#world.clock.now();
    this.tab.kill();
    this.#world.disks.forget(this.tab);
  }

  // ------------------------------------------------------------------------------- what it is shown

  #number(key: string): number {
    return (this.orders.get(key) ?? 0) as number;
  }

  /**
   * `view = fold(pending, confirmed)`, seen from outside: each effect shows once, at once, and stays.
   *
   * @param hasHeard The page has heard what others did.
   */
  check(hasHeard = false): void {
    if (!this.isAlive) return;
    const isShown = ["current", "stale"].includes(this.orders.status());
    const own = this.#number(this.own);
    if (!this.isVoid && isShown && own !== this.numMade) {
      this.failures.push(`${this.own} shows ${own} of its own, made were ${this.numMade}`);
    }
    if (!this.#world.isCalm) return;
    for (const other of this.#world.pages) if (other !== this) this.#checkOther(other, isShown, hasHeard);
  }

  #checkOther(other: Page, isShown: boolean, hasHeard: boolean): void {
    const shown = this.#number(other.own);
    if (shown > other.numMade + (hasHeard ? 0 : other.numTakenBack)) {
      this.failures.push(`${this.own} shows ${shown} of ${other.own}, made were ${other.numMade}`);
    }
    const before = this.#shown.get(other.own) ?? 0;
    const isHere = other.isAlive && !other.isAway && !this.isAway;
    const isSteady = isShown && isHere && !other.isVoid && !this.isVoid;
    if (isSteady && shown < before - other.numTakenBack) {
      this.failures.push(`${this.own} shows ${shown} of ${other.own}, after ${before}`);
    }
    this.#shown.set(other.own, isShown ? shown : 0);
  }
}
