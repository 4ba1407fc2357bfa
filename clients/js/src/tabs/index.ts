/** What an application imports from `syncd-client/tabs`. */

import type { StateRoom } from "../core/entries/room.js";
import type { Environment } from "../shell/environment.js";
import type { PendingStore } from "../shell/pending-store.js";
import type { LocksLike } from "../storage/platform.js";
import type { KeptLike } from "./election.js";
import { Foreign } from "./foreign.js";
import { type ChannelLike, TabGroup, type TabsEnvironment } from "./group.js";

export type { KeptLike } from "./election.js";
export type { ChannelLike, TabsEnvironment } from "./group.js";

/** How tabs find each other. */
export interface SharedTabsOptions {
  /** Whose tabs they are: those of another user, or for another server, are strangers. */
  readonly user: string;
  /** What is outside, in place of the platform's; null: the platform has none. */
  readonly environment?:
    | { readonly [Name in keyof TabsEnvironment]?: TabsEnvironment[Name] | null }
    | undefined;
}

/** Gives a client the connection that all tabs share. Made by `sharedTabs`; for one client. */
export class SharedTabs {
  readonly #options: SharedTabsOptions;
  #group: TabGroup | null = null;

  /** Use `sharedTabs`. */
  constructor(options: SharedTabsOptions) {
    this.#options = options;
  }

  /** Whether this tab holds the connection, uses another's, or has its own. `solo` also before it connects. */
  get role(): "leader" | "follower" | "solo" {
    return this.#group?.role ?? "solo";
  }

  /** Return the environment for a client of this URL; the same one where tabs cannot find each other. For `createClient`. */
  share(environment: Environment, url: string): Environment {
    const outside = { ...defaultsOf(globalThis as unknown as Platform), ...this.#options.environment };
    const { locks, openChannel, kept } = outside;
    if (!locks || !openChannel) return environment;
    const name = `syncd tabs ${JSON.stringify([url, this.#options.user])}`;
    const group = new TabGroup(environment, { locks, openChannel, kept: kept ?? null }, url, name);
    this.#group = group;
    return { ...environment, WebSocket: group.WebSocket };
  }

  /** Return a store that tells the other tabs what it keeps; after `share`. For `createClient`. */
  keep(store: PendingStore | undefined): PendingStore | undefined {
    return this.#group?.keep(store) ?? store;
  }

  /** Have what the other tabs keep predicted in this room; after `keep`. For `createClient`. */
  join(room: StateRoom, run: (act: () => void) => void): void {
    if (this.#group === null) return;
    const foreign = new Foreign(room.all, room.watching);
    room.watching.others = foreign;
    this.#group.pending.listen({
      made: (mutations) => run(() => foreign.add(mutations)),
      undone: (ids, isDecided) => run(() => foreign.drop(ids, isDecided)),
    });
  }
}

/** Let all tabs of one user share one connection: pass it to `createClient` as `tabs`. */
export function sharedTabs(options: SharedTabsOptions): SharedTabs {
  return new SharedTabs(options);
}

interface Platform {
  navigator?: { locks?: LocksLike };
  BroadcastChannel?: new (name: string) => ChannelLike;
  localStorage?: KeptLike;
}

function defaultsOf(platform: Platform): { [Name in keyof TabsEnvironment]: TabsEnvironment[Name] | null } {
  const { BroadcastChannel } = platform;
  return {
    locks: orNull(() => platform.navigator?.locks),
    openChannel: BroadcastChannel ? (name) => new BroadcastChannel(name) : null,
    kept: orNull(() => platform.localStorage),
  };
}

/** A page that may store nothing throws when it is only asked. */
function orNull<Thing>(look: () => Thing | undefined): Thing | null {
  try {
    return look() ?? null;
  } catch {
    return null;
  }
}
