/** What the server was heard to have decided of all clients, ours or not: entries that are shown may hold it. Pure. Owned by `WatchTable`. */

import type { Body } from "../../wire/decode.js";
import { isMap } from "../../wire/frames.js";
import type { Mids } from "./confirmed.js";

/** Clients that are remembered; past it all are forgotten, and a prediction of another tab may show for too long. */
const MAX_HEARD = 1_000;

/** The last mutation of each client that an event, or a page of a snapshot, was heard of. */
export class Heard {
  /** As of which mutations entries were loaded, as the server said it of its session's clients, since somebody looked. */
  readonly loads: Body[] = [];
  readonly #mids = new Map<unknown, number>();

  /** What became of this mutation, and of all before it, is known. */
  note(client: unknown, mid: unknown): void {
    if (this.#mids.size >= MAX_HEARD) this.#mids.clear();
    if (typeof mid === "number") this.#mids.set(client, Math.max(mid, this.upTo(client)));
  }

  /** What a page says of our clients, who had these before the session; what it says of others is noted as well. */
  decided(body: Body, clients: Mids): Mids {
    const told = toldOf(body);
    for (const client in told) this.note(client, told[client]);
    return new Map([...clients].map(([client, mid]) => [client, (told[client] ?? mid) as number]));
  }

  /** The last mutation of a client, 0 for none. */
  upTo(client: unknown): number {
    return this.#mids.get(client) ?? 0;
  }
}

/** What a page says that its entries are as of. */
export function toldOf({ decided }: Body): Body {
  return isMap(decided) ? decided : {};
}
