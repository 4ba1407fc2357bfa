/** What tabs tell each other over their channel, which keeps the order of each tab's words. */

import type { ClientClaim } from "../wire/messages.js";
import type { TabId } from "./exchange.js";
import type { PendingWord } from "./pending.js";

/** What tabs tell each other. */
export type Word =
  | ConnectionWord
  | PendingWord
  /** This tab is there; or no more, as it says itself or the leader does for it. */
  | { readonly say: "here"; readonly from: TabId }
  | { readonly say: "gone"; readonly from: TabId };

/** Of the connection they share. */
export type ConnectionWord =
  /** The leader is there. */
  | { readonly say: "lead"; readonly term: number }
  /** Is it? And: this tab speaks for these clients. */
  | { readonly say: "ask"; readonly from: TabId; readonly claims: readonly ClientClaim[] }
  | {
      readonly say: "up";
      readonly from: TabId;
      readonly term: number;
      readonly turn: number;
      readonly data: Uint8Array;
    }
  | { readonly say: "left"; readonly from: TabId; readonly term: number }
  | { readonly say: "down"; readonly term: number; readonly to: Addressed; readonly data: Uint8Array }
  | {
      readonly say: "shut";
      readonly term: number;
      readonly to: Addressed;
      readonly code: number;
      readonly reason: string;
      readonly isRefused: boolean;
    };

/** Tabs, and which of its connections each has: what is said of one that is over may come late, as to a tab that was frozen. */
export type Addressed = ReadonlyMap<TabId, number>;
