/** What the room of collections and mutations tells its shell. */

import type { Position } from "../../wire/messages.js";
import type { Pending } from "./pending.js";
import type { Watch } from "./watch.js";

/**
 * How a mutation ended.
 *
 * - `ok`: it took effect, and what is shown has it.
 * - `rejected`: nothing changed, and nothing will.
 * - `unknown`: it was sent, and whether it took effect cannot be found out.
 * - `unsent`: it was taken back, or the client ended, before it was sent: it did not take effect.
 */
export type OutcomeStatus = "ok" | "rejected" | "unknown" | "unsent";

/** A mutation has ended. Told after the change of the view that belongs to it. */
export interface MutationOutcome {
  /** What `mutate` returned. */
  readonly id: number;
  /** Full name of its mutator. */
  readonly name: string;
  readonly status: OutcomeStatus;
  /** `ok` only: what the mutator returned at the server; null for nothing. */
  readonly value: unknown;
  /** `rejected` only: from the application, or one of SPEC section 18. */
  readonly code: string | null;
  /** For people; may be empty. */
  readonly message: string;
  /** `ok` only: where the effect is visible, by channel. To be passed as `after` elsewhere. */
  readonly positions: ReadonlyMap<string, Position>;
}

/** Entries may have changed at their source; the server loads them anew and tells changes by itself. */
export interface Invalidation {
  readonly collection: string;
  /** Of the collection, or of one of its partitions. */
  readonly channel: string;
  readonly position: Position;
  readonly keys: readonly string[];
  readonly tags: readonly string[];
  /** Every entry of the channel. */
  readonly isAll: boolean;
  readonly cause: string | null;
}

/** Keeps mutations before they are sent: see `storage/keeping.ts`. */
export interface Keeping {
  /** A mutation has this client (null: none yet) and its number now. */
  numbered(pending: Pending, client: string | null): void;
  /** Return whether it is kept as it is; if not, the queue is told by `sendNext` when it is. */
  hasKept(pending: Pending): boolean;
  /** A mutation of this number is decided. */
  decided(id: number): void;
  /** A mutation of this number, which was never sent, will not be. */
  takenBack(id: number): void;
  /** A step is over. */
  flush(): void;
}

/** What one watch shows is different now, or whether it is live. */
export type ViewChange = readonly [watch: Watch, keys: ReadonlySet<string>];

/** One fact. */
export type EntriesNews =
  /** What is shown is different now: by watch, whose value, presence or pending flag changed. At most one a step. */
  | { readonly kind: "views"; readonly changed: readonly ViewChange[] }
  /** A mutation has ended. */
  | { readonly kind: "outcome"; readonly outcome: MutationOutcome }
  | { readonly kind: "invalidated"; readonly invalidation: Invalidation }
  /** The server ended or refused a watch; it will not come back by itself. */
  | { readonly kind: "ended"; readonly watch: number; readonly code: string; readonly message: string };
