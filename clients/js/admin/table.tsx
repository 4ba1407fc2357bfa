/** A table that the server sorts, filters and cuts: what is asked of it, and the frame around its rows. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Api } from "./api.js";
import { Filter, type Order, Pager, Stale } from "./parts.js";
import { type Polled, usePolled } from "./value.js";

const PAGE = 50;
const EVERY_MS = 2000;

/** What every such answer has beside its rows. */
interface Found {
  readonly num_found: number;
  readonly is_complete: boolean;
}

/** What is asked for, and what was answered last. */
export interface Listing<Rows extends Found> extends Polled<Rows> {
  /** For each `SortHead`. */
  readonly sort: { readonly order: Order; readonly onOrder: (order: Order) => void };
  readonly contains: string;
  readonly onContains: (contains: string) => void;
  readonly skip: number;
  readonly onSkip: (skip: number) => void;
}

/** Read a table of the operators' API every two seconds; another order or filter begins at its first page. */
export function useListing<Rows extends Found>(api: Api, path: string, by: string): Listing<Rows> {
  const [order, setOrder] = useState<Order>({ by, descending: true });
  const [contains, setContains] = useState("");
  const [skip, setSkip] = useState(0);
  const query = { order: order.by, descending: order.descending, contains, skip, limit: PAGE };
  const polled = usePolled((signal) => api.get<Rows>(path, query, signal), EVERY_MS, [
    api,
    order.by,
    order.descending,
    contains,
    skip,
  ]);
  const onOrder = (next: Order) => {
    setOrder(next);
    setSkip(0);
  };
  const onContains = (next: string) => {
    setContains(next);
    if (next !== contains) setSkip(0);
  };
  return { ...polled, sort: { order, onOrder }, contains, onContains, skip, onSkip: setSkip };
}

/** The frame: title and filter, head and rows as given, what is said of none, and the pages. */
export function ListingBox<Rows extends Found>(props: {
  readonly name: string;
  readonly title: string;
  readonly filter: string;
  readonly listing: Listing<Rows>;
  readonly head: ComponentChildren;
  readonly rows: ComponentChildren;
  readonly none?: string;
  /** Whatever lies over it. */
  readonly children?: ComponentChildren;
}) {
  const { name, title, filter, listing, head, rows, none, children } = props;
  const { data, error, contains, onContains, skip, onSkip } = listing;
  const id = `${name}-title`;
  return (
    <section class="box" aria-labelledby={id}>
      <div class="tools">
        <h2 id={id}>{title}</h2>
        <Filter label={filter} value={contains} onValue={onContains} />
      </div>
      <Stale error={error} />
      <div class="scroll">
        <table>
          <thead>
            <tr>{head}</tr>
          </thead>
          <tbody>{rows}</tbody>
        </table>
      </div>
      {none !== undefined && data?.num_found === 0 ? <p class="empty">{none}</p> : null}
      <Pager
        skip={skip}
        size={PAGE}
        found={data?.num_found ?? 0}
        isComplete={data?.is_complete ?? true}
        onSkip={onSkip}
      />
      {children}
    </section>
  );
}
