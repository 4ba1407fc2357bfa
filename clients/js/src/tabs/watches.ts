/**
 * The collections that all tabs watch over one session. Pure; owned by `Hub`.
 *
 * A session has one watch a channel, which every further `watch` widens and which is answered for what it asks (SPEC section
 * 17), so each tab's `watch` is passed on and what follows goes to all who watch the channel: versions tell a tab what it has
 * already, and what it does not watch it ignores. Invariant: what any tab watches is watched by the session.
 */

import type { Body } from "../wire/decode.js";
import type { Exchange, Passed, TabId } from "./exchange.js";

/** What a tab watches of a channel: keys, or null for all. */
type Watched = Set<string> | null;

/** All channels of collections that tabs watch. */
export class SharedWatches {
  readonly #exchange: Exchange;
  readonly #watchers = new Map<string, Map<TabId, Watched>>();

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** Take a tab's `watch`. */
  watch(tab: TabId, body: Body): void {
    this.#exchange.pass(tab, "watch", body);
  }

  /** Take the answer. */
  watched({ tab, body: asked }: Passed, body: Body): void {
    const channel = body["channel"] as string;
    let watchers = this.#watchers.get(channel);
    if (watchers === undefined) {
      watchers = new Map();
      this.#watchers.set(channel, watchers);
    }
    const before = watchers.get(tab);
    const keys = asked["keys"] as string[] | null | undefined;
    watchers.set(tab, before === null || !keys ? null : new Set([...(before ?? []), ...keys]));
  }

  /** Take a tab's `unwatch`. */
  unwatch(tab: TabId, body: Body): void {
    const { id, collection, partition } = body;
    const keys = (body["keys"] ?? null) as string[] | null;
    const part = partition ?? keys?.[0]?.split("/")[0];
    const channel = [`${collection}/${part}`, `${collection}`].find((name) =>
      this.#watchers.get(name)?.has(tab),
    );
    if (channel !== undefined) this.#release(channel, tab, keys);
    this.#exchange.down([tab], "ok", { id });
  }

  /** A tab is gone. */
  forgetTab(tab: TabId): void {
    for (const channel of this.#watchers.keys()) this.#release(channel, tab, null);
  }

  /** The session is gone. */
  forgetAll(): void {
    this.#watchers.clear();
  }

  /** Take keys, or all, from a tab; end with the server what nobody watches any more. */
  #release(channel: string, tab: TabId, keys: readonly string[] | null): void {
    const watchers = this.#watchers.get(channel);
    const own = watchers?.get(tab);
    if (watchers === undefined || own === undefined) return;
    const gone = keys ?? (own === null ? null : [...own]);
    if (keys === null) watchers.delete(tab);
    else for (const key of keys) own?.delete(key);
    const [collection = "", partition] = channel.split("/");
    // A watch on its way may be of this channel, so nothing of the collection is ended: too much is told, never too little.
    if (this.#exchange.ofKind("watch").some(({ body }) => body["collection"] === collection)) return;
    if (watchers.size === 0) {
      this.#watchers.delete(channel);
      this.#exchange.ask("unwatch", { collection, partition });
      return;
    }
    const left = [...watchers.values()];
    if (gone === null || left.includes(null)) return;
    const unused = gone.filter((key) => !left.some((others) => others?.has(key)));
    if (unused.length > 0) this.#exchange.ask("unwatch", { collection, keys: unused });
  }

  /** Take a message about a channel; return the tabs that are to get it. */
  take(kind: string, body: Body): TabId[] {
    const channel = body["channel"] as string;
    const tabs = [...(this.#watchers.get(channel)?.keys() ?? [])];
    if (kind === "lagged" || kind === "unsubscribed") this.#watchers.delete(channel);
    return tabs;
  }
}
