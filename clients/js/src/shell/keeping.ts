/** The seam at which a store joins a client: see `storage/keeping.ts`. */

import type { ToKeep } from "../core/entries/facts.js";
import type { StateRoom } from "../core/entries/room.js";
import type { Engine } from "./engine.js";
import type { PendingStore } from "./pending-store.js";

/** What a store needs of its client. */
export interface StoreHost {
  readonly engine: Engine<StateRoom>;
  /** Make another client like this one, with this store. */
  another(store: PendingStore): {
    connect(): void;
    close(): void;
    onOutcome(listener: () => void): () => void;
  };
}

/** A store that a client uses. */
export interface Keeping {
  /** Load what earlier pages left, once; fulfilled when it is restored, or could not be loaded. */
  load(): Promise<void>;
  /** Have these kept, and the core told so. */
  keep(mutations: readonly ToKeep[]): void;
  /** These are decided. */
  drop(ids: readonly number[]): void;
  /** Look for what pages that have ended left, until `stop`. */
  look(): void;
  /** The client is over. */
  stop(): void;
}
