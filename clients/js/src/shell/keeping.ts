/** The seam at which a store joins a client: see `storage/keeping.ts`. */

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
    onState(listener: (status: { readonly state: string }) => void): () => void;
  };
}

/** A store that a client uses, as its shell knows it; `Keeping` is what its room does. */
export interface Kept {
  /** Load what earlier pages left, once; fulfilled when it is restored, or could not be loaded. */
  load(): Promise<void>;
  /** Look for what pages that have ended left, until `stop`. */
  look(): void;
  /** The client is over. */
  stop(): void;
}
