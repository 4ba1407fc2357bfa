/**
 * Where mutations are kept until the server has decided them, so that they survive the page.
 *
 * Exactly once rests on this: a mutation is sent under one client id and one number, and both are stored before it is
 * sent. Whoever loads it sends it under the same again, and the server never runs a number twice. So a store may return a
 * mutation that was decided meanwhile, but must not lose one that it took, nor give one to two clients at a time.
 */

import type { ClientClaim } from "../wire/messages.js";
import type { Kept, StoreHost } from "./keeping.js";

/** A mutation as it is kept. Plain data: structured clone and msgpack take it. */
export interface StoredMutation {
  /** Unique over all clients and pages. */
  readonly id: string;
  /** The client it is numbered under, and its secret; null while the client has none: then it was never sent. */
  readonly claim: ClientClaim | null;
  /** Its number under that client; without meaning while `claim` is null. */
  readonly mid: number;
  readonly name: string;
  /** A map by name, a list by position, or null. */
  readonly args: unknown;
  /** The server's wall clock when it was made, as this client knew it; ms since 1970. */
  readonly madeAtMs: number;
}

/**
 * A queue of mutations. The client calls one method after the other has settled, but for `load`, which comes first and once; what
 * `onLeft` found is removed at any time.
 */
export interface PendingStore {
  /** Return what is kept, in the order in which it was first appended. A rejection is reported; the client begins with nothing. */
  load(): Promise<readonly StoredMutation[]>;
  /**
   * Keep these, behind all others. One whose `id` is there already takes its place in the order: it has another claim or number now.
   *
   * The mutations are sent once this is fulfilled. A rejection is reported, and they are sent all the same: they live in
   * memory alone then.
   */
  append(mutations: readonly StoredMutation[]): Promise<void>;
  /**
   * Forget these: they are decided, or (`areTakenBack`) were never sent and will not be. Ids that are not there are ignored. A
   * rejection is reported.
   */
  remove(ids: readonly string[], areTakenBack?: boolean): Promise<void>;
  /** How a client uses it: `joinStore` of `syncd-client/storage`, which is not in the code of those who keep nothing. */
  readonly join: (this: PendingStore, host: StoreHost) => Kept;
  /** Call `found` with what pages that have ended meanwhile left, in order; it is this page's to send from then on. Return what ends that. */
  onLeft?(found: (left: readonly StoredMutation[]) => void): () => void;
}
