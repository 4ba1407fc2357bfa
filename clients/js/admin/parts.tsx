/** Small pieces that several pages are made of. */

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { bytes, share } from "./format.js";
import { Value } from "./value.js";

const ICONS = {
  overview: "M4 13h4l2.5-7 4 12 2.5-5h3",
  channels: "M5 9h14M5 15h14M10 4L8 20M16 4l-2 16",
  sessions:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6.500M18 14.500c2.200.800 3.500 2.700 3.500 5.500",
  collections:
    "M4 6c0-1.700 3.600-3 8-3s8 1.300 8 3-3.600 3-8 3-8-1.300-8-3zM4 6v12c0 1.700 3.600 3 8 3s8-1.300 8-3V6M4 12c0 1.700 3.600 3 8 3s8-1.300 8-3",
  log: "M5 5h14M5 10h14M5 15h9M5 20h6",
  close: "M6 6l12 12M18 6L6 18",
  up: "M6 15l6-6 6 6",
  down: "M6 9l6 6 6-6",
} as const;

/** Names of the page's drawings. */
export type IconName = keyof typeof ICONS;

/** A drawing; it says nothing to a screen reader. */
export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}

/** A word with a colour that says the same: good, busy, bad or plain. */
export function Chip({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return <span class={`chip ${tone}`}>{children}</span>;
}

/** How something stands. */
export type Tone = "good" | "busy" | "bad" | "plain";

/** How full something is, as a bar with the numbers beside it. */
export function Meter(props: {
  readonly label: string;
  readonly value: number;
  readonly limit: number | null;
  readonly text: string;
  /** The fuller the better. */
  readonly isGood?: boolean;
}) {
  const part = props.limit ? Math.min(1, props.value / props.limit) : 0;
  return (
    <div class="meter">
      <span class="meter-label">{props.label}</span>
      <span class="meter-text">{props.text}</span>
      <div class="track" aria-hidden="true">
        <div class={`fill ${part > 0.9 && !props.isGood ? "hot" : ""}`} style={{ width: `${part * 100}%` }} />
      </div>
    </div>
  );
}

/** An outbox: how much waits, and how much of what may. */
export function Outbox({ size, budget }: { readonly size: number; readonly budget: number }) {
  if (size === 0) return <span class="soft">empty</span>;
  return (
    <Meter label="Outbox" value={size} limit={budget} text={`${bytes(size)} · ${share(size / budget)}`} />
  );
}

/** How a table is sorted. */
export interface Order {
  readonly by: string;
  readonly descending: boolean;
}

/** The head of a column that sorts its table. */
export function SortHead(props: {
  readonly name: string;
  readonly label: string;
  readonly order: Order;
  readonly onOrder: (order: Order) => void;
  readonly isText?: boolean;
  /** Left out where there is little room. */
  readonly isWide?: boolean;
}) {
  const { name, label, order, onOrder, isText = false, isWide = false } = props;
  const isBy = order.by === name;
  const next = { by: name, descending: isBy ? !order.descending : !isText };
  const sorted = isBy ? (order.descending ? "descending" : "ascending") : "none";
  return (
    <th scope="col" aria-sort={sorted} class={`${isText ? "" : "number"} ${isWide ? "wide-only" : ""}`}>
      <button type="button" class="sort" onClick={() => onOrder(next)}>
        {label}
        <span class={isBy ? "arrow" : "arrow off"}>
          <Icon name={isBy && !order.descending ? "up" : "down"} />
        </span>
      </button>
    </th>
  );
}

/** Which rows of how many are in view, and the way to others. */
export function Pager(props: {
  readonly skip: number;
  readonly size: number;
  readonly found: number;
  readonly isComplete: boolean;
  readonly onSkip: (skip: number) => void;
}) {
  const { skip, size, found, isComplete, onSkip } = props;
  const last = Math.min(skip + size, found);
  return (
    <div class="pager">
      <p>
        {found === 0 ? "None" : `${(skip + 1).toLocaleString("en")}–${last.toLocaleString("en")}`} of{" "}
        {found.toLocaleString("en")}
        {isComplete ? "" : " (only the first 20,000 are looked at)"}
      </p>
      <button type="button" disabled={skip === 0} onClick={() => onSkip(Math.max(0, skip - size))}>
        Previous
      </button>
      <button type="button" disabled={last >= found} onClick={() => onSkip(skip + size)}>
        Next
      </button>
    </div>
  );
}

/** A field that filters a table; `/` goes there from anywhere. */
export function Filter(props: {
  readonly label: string;
  readonly value: string;
  readonly onValue: (value: string) => void;
}) {
  const id = useId();
  const [typed, setTyped] = useState(props.value);
  const { onValue } = props;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `onValue` is anew at every render
  useEffect(() => {
    const timer = setTimeout(() => onValue(typed.trim()), 200);
    return () => clearTimeout(timer);
  }, [typed]);
  return (
    <div class="filter">
      <label class="hidden" for={id}>
        {props.label}
      </label>
      <input
        id={id}
        type="search"
        data-filter
        placeholder={props.label}
        autocomplete="off"
        spellcheck={false}
        value={typed}
        onInput={(event) => setTyped(event.currentTarget.value)}
      />
      <span class="hint" aria-hidden="true">
        /
      </span>
    </div>
  );
}

/** Why a table is not fresh. */
export function Stale({ error }: { readonly error: string | null }) {
  return error === null ? null : (
    <p class="stale" role="status">
      Not fresh: {error}
    </p>
  );
}

/** A panel over the page; Escape closes it, and the focus goes back where it was. */
export function Panel(props: {
  readonly title: string;
  readonly kind?: "side" | "ask";
  readonly onClose: () => void;
  readonly children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      class={`panel ${props.kind ?? "side"}`}
      aria-labelledby={id}
      onClose={props.onClose}
      onMouseDown={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="panel-body">
        <header>
          <h2 id={id}>{props.title}</h2>
          <button
            type="button"
            class="plain square"
            aria-label="Close"
            onClick={() => dialog.current?.close()}
          >
            <Icon name="close" />
          </button>
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

/** A question before something that cannot be taken back. */
export interface Question {
  readonly title: string;
  readonly text: string;
  readonly verb: string;
  readonly isDire?: boolean;
  readonly act: () => Promise<string>;
}

/** Asked by `Asking`; null: nothing is. */
export const question = new Value<Question | null>(null);
/** What was done last, or why it was not; shown by the page for a while, and told to screen readers. */
export const notice = new Value<{ readonly text: string; readonly isBad: boolean } | null>(null);

/** Do something and tell what came of it, if it returns a text, or why it failed; true when it did not. */
export async function perform(act: () => Promise<string | null>): Promise<boolean> {
  try {
    const text = await act();
    notice.set(text === null ? null : { text, isBad: false });
    return true;
  } catch (error) {
    notice.set({ text: error instanceof Error ? error.message : String(error), isBad: true });
    return false;
  }
}

/** The question that is open. */
export function Asking({ asked }: { readonly asked: Question }) {
  const [isBusy, setBusy] = useState(false);
  const close = () => question.set(null);
  const act = async () => {
    setBusy(true);
    await perform(asked.act);
    close();
  };
  return (
    <Panel title={asked.title} kind="ask" onClose={close}>
      <p>{asked.text}</p>
      <div class="row end">
        <button type="button" onClick={close}>
          Leave it
        </button>
        <button
          type="button"
          class={asked.isDire ? "dire" : "primary"}
          disabled={isBusy}
          onClick={() => void act()}
        >
          {asked.verb}
        </button>
      </div>
    </Panel>
  );
}
