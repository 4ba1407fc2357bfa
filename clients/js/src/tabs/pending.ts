/**
 * Mutations of this tab, told to all others before they are sent, and those of the others.
 *
 * Stands between a client and its store: what is to be kept is what the others are to show.
 */

import type { PendingStore, StoredMutation } from "../shell/pending-store.js";
import { joinStore } from "../storage/keeping.js";
import type { TabId } from "./exchange.js";
import type { Foreseen } from "./foreign.js";

/** Takes what other tabs have pending. */
export interface ForeignListener {
  /** Predict these; those that are known already have another client or number now. */
  made(mutations: readonly Foreseen[]): void;
  /** These are decided, or (not `isDecided`) will not be sent any more. */
  undone(ids: readonly string[], isDecided: boolean): void;
}

/** What tabs tell each other of their mutations. */
export type PendingWord =
  | { readonly say: "made"; readonly from: TabId; readonly mutations: readonly Foreseen[] }
  | {
      readonly say: "undone";
      readonly from: TabId;
      readonly ids: readonly string[];
      /** They were never sent; an older version of this package does not say it. */
      readonly areTakenBack: boolean;
    };

/** Pending mutations of all tabs, as one of them knows them. */
export class PendingOfTabs implements PendingStore {
  readonly join = joinStore;
  readonly #store: PendingStore | undefined;
  readonly #say: (word: PendingWord) => void;
  readonly #id: TabId;
  readonly #mine = new Map<string, Foreseen>();
  /** Who made what. */
  readonly #others = new Map<string, TabId>();
  #listener: ForeignListener | null = null;

  /** @param store Keeps them; undefined: they live in memory. */
  constructor(id: TabId, store: PendingStore | undefined, say: (word: PendingWord) => void) {
    this.#id = id;
    this.#store = store;
    this.#say = say;
  }

  /** Have what other tabs make told to this one's client. */
  listen(listener: ForeignListener): void {
    this.#listener = listener;
  }

  async load(): Promise<readonly StoredMutation[]> {
    const mutations = (await this.#store?.load()) ?? [];
    this.#note(mutations, true);
    return mutations;
  }

  onLeft(found: (left: readonly StoredMutation[]) => void): () => void {
    const stop = this.#store?.onLeft?.((left) => {
      this.#note(left, true);
      found(left);
    });
    return () => stop?.();
  }

  async append(mutations: readonly StoredMutation[]): Promise<void> {
    this.#note(mutations, false);
    await this.#store?.append(mutations);
  }

  async remove(ids: readonly string[], areTakenBack = false): Promise<void> {
    for (const id of ids) this.#mine.delete(id);
    this.#say({ say: "undone", from: this.#id, ids, areTakenBack });
    await this.#store?.remove(ids, areTakenBack);
  }

  #note(mutations: readonly StoredMutation[], areLeft: boolean): void {
    // A secret is for the server alone.
    const told = mutations.map(({ claim, ...rest }) => {
      return { ...rest, client: claim?.client ?? null, isLeft: areLeft && claim !== null };
    });
    for (const mutation of told) this.#mine.set(mutation.id, mutation);
    this.#tell(told);
  }

  #tell(mutations: readonly Foreseen[]): void {
    if (mutations.length > 0) this.#say({ say: "made", from: this.#id, mutations });
  }

  /** Another tab has come: tell it what is pending here. */
  tellAll(): void {
    this.#tell([...this.#mine.values()]);
  }

  /** Another tab told this. */
  hear(word: PendingWord): void {
    if (word.say === "made") {
      for (const { id } of word.mutations) this.#others.set(id, word.from);
      this.#listener?.made(word.mutations);
    } else this.#drop(word.ids, !word.areTakenBack);
  }

  /** Other tabs that have something pending. */
  get tabs(): Set<TabId> {
    return new Set(this.#others.values());
  }

  /** A tab is gone, and will not send what it had pending: whoever takes it over tells it anew. */
  forgetTab(tab: TabId): void {
    this.#drop(
      [...this.#others].filter(([, from]) => from === tab).map(([id]) => id),
      false,
    );
  }

  #drop(ids: readonly string[], isDecided: boolean): void {
    for (const id of ids) this.#others.delete(id);
    if (ids.length > 0) this.#listener?.undone(ids, isDecided);
  }
}
