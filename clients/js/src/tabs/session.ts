/** What a hub knows of its session with the server: its limits, and which client is whose. Pure. */

import type { Body } from "../wire/decode.js";
import type { ClientClaim } from "../wire/messages.js";
import type { TabId } from "./exchange.js";

/**
 * Ids that are asked for beside those that tabs have: a session's clients are named in its `hello` alone, so a tab that comes
 * when none is left makes the hub begin another session.
 */
const NUM_SPARE = 8;
/** The first frame has 4,096 bytes for the token, of some 2 kB at most, and the claims, of some 120 bytes each. */
export const MAX_CLIENTS = 16;

interface Known {
  readonly client: string;
  readonly secret: string;
  lastMid: number;
  owner: TabId | null;
  /** Given to no tab yet. */
  isSpare: boolean;
}

/** What a tab is told. */
interface Admission {
  readonly claims: readonly ClientClaim[];
  readonly welcome: Body;
  /** Its clients that the server knows no more. */
  readonly forgotten: readonly string[];
}

/** One session. */
export class Session {
  readonly pingMs: number;
  readonly maxFrameBytes: number;
  /** The longest frame that was sent, and the tab whose messages it had: where one was too big, this was, too. */
  longest: { readonly bytes: number; readonly tab: TabId | null } = { bytes: 0, tab: null };
  readonly #body: Body;
  readonly #welcomedAt: number;
  /** By the id that was claimed, and by the one that the server gave for it. */
  readonly #clients = new Map<string, Known>();

  /** Return what `hello` claims: these clients, and ids that no server has issued, for which it gives new ones. */
  static claimsFor(claims: readonly ClientClaim[]): ClientClaim[] {
    const own = claims.slice(0, MAX_CLIENTS);
    const numSpare = Math.max(Math.min(NUM_SPARE, MAX_CLIENTS - own.length), 1);
    const spare = Array.from({ length: numSpare }, (_, place) => ({ client: `new-${place}`, secret: "-" }));
    return [...own, ...spare];
  }

  /**
   * @param body Of the server's `welcome`.
   * @param claimed What was claimed, in order.
   */
  constructor(body: Body, claimed: readonly ClientClaim[], now: number) {
    this.#body = body;
    this.#welcomedAt = now;
    this.pingMs = body["ping_ms"] as number;
    this.maxFrameBytes = body["max_frame_bytes"] as number;
    for (const [place, state] of ((body["clients"] ?? []) as Body[]).entries()) {
      const client = state["client"] as string;
      const claim = claimed[place];
      const secret = (state["secret"] ?? claim?.secret ?? "") as string;
      const isSpare = claim === undefined || claim.client.startsWith("new-");
      const known = { client, secret, lastMid: state["last_mid"] as number, owner: null, isSpare };
      this.#clients.set(client, known);
      if (claim !== undefined) this.#clients.set(claim.client, known);
    }
  }

  /** Give a tab its clients, or a new one; null: this session cannot. */
  admit(tab: TabId, claims: readonly ClientClaim[], now: number): Admission | null {
    const known = claims.map(({ client }) => this.#clients.get(client));
    if (known.length === 0) known.push([...this.#clients.values()].find(({ isSpare }) => isSpare));
    const clients = known.filter((one) => one !== undefined);
    if (clients.length < known.length) return null;
    const states = clients.map((one, place) => {
      const isNew = claims[place]?.client !== one.client;
      one.owner = tab;
      one.isSpare = false;
      return { client: one.client, secret: isNew ? one.secret : null, last_mid: one.lastMid };
    });
    const serverTimeMs = (this.#body["server_time_ms"] as number) + Math.round(now - this.#welcomedAt);
    return {
      claims: clients.map(({ client, secret }) => ({ client, secret })),
      welcome: { ...this.#body, clients: states, server_time_ms: serverTimeMs },
      forgotten: claims
        .filter(({ client }, place) => client !== clients[place]?.client)
        .map(({ client }) => client),
    };
  }

  /** Note a frame with messages of this tab; null: of none. */
  sent({ length: bytes }: Uint8Array, tab: TabId | null): void {
    if (bytes > this.longest.bytes) this.longest = { bytes, tab };
  }

  /** A tab is gone: its clients are nobody's. */
  release(tab: TabId): void {
    for (const known of this.#clients.values()) if (known.owner === tab) known.owner = null;
  }

  /** Which tab has this client; null: none. */
  ownerOf(client: string): TabId | null {
    return this.#clients.get(client)?.owner ?? null;
  }

  /** Add to what entries are as of where the clients stand that are not named there (SPEC 17): a tab knows its own alone. */
  completed(decided: Body): Body {
    const all: Body = {};
    for (const { client, lastMid } of this.#clients.values()) all[client] = lastMid;
    return { ...all, ...decided };
  }

  /** Note an outcome. */
  decided(client: string, mid: number): void {
    const known = this.#clients.get(client);
    if (known !== undefined) known.lastMid = Math.max(known.lastMid, mid);
  }
}
