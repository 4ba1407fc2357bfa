/** Sessions, those with the fullest outboxes first: who is slow, what each is in, and the ways to end it. */

import { useState } from "preact/hooks";
import type { Api } from "./api.js";
import { duration, whole } from "./format.js";
import type { Live } from "./live.js";
import { Chip, Icon, Outbox, Panel, question, SortHead, Stale } from "./parts.js";
import { ListingBox, useListing } from "./table.js";
import { usePolled } from "./value.js";

/** One session as `GET /api/admin/sessions` tells it. */
export interface SessionRow {
  readonly session: string;
  readonly user: string | null;
  readonly clients: readonly string[];
  readonly peer: string;
  readonly num_subscriptions: number;
  readonly outbox_bytes: number;
  readonly outbox_budget_bytes: number;
  readonly behind_s: number;
  readonly silent_s: number;
  readonly is_paused: boolean;
}

/** A page of them. */
export interface SessionTable {
  readonly sessions: readonly SessionRow[];
  readonly num_found: number;
  readonly is_complete: boolean;
}

const EVERY_MS = 2000;

/** The page. */
export function Sessions({ api, live }: { readonly api: Api; readonly live: Live }) {
  const [open, setOpen] = useState<SessionRow | null>(null);
  const listing = useListing<SessionTable>(api, "admin/sessions", "outbox_bytes");
  const { data, again, sort } = listing;
  const isOwn = (row: SessionRow) => live.clientId !== null && row.clients.includes(live.clientId);
  const head = (
    <>
      <SortHead name="session" label="Session" isText {...sort} />
      <SortHead name="user" label="User" isText {...sort} />
      <th scope="col" class="wide-only">
        Address
      </th>
      <SortHead name="num_subscriptions" label="Channels" isWide {...sort} />
      <SortHead name="outbox_bytes" label="Outbox" {...sort} />
      <SortHead name="behind_s" label="Behind" isWide {...sort} />
      <SortHead name="silent_s" label="Silent" isWide {...sort} />
      <th scope="col">
        <span class="hidden">Actions</span>
      </th>
    </>
  );
  const rows = (data?.sessions ?? []).map((row) => (
    <tr key={row.session} data-session={row.session}>
      <th scope="row">
        <button type="button" class="link" onClick={() => setOpen(row)}>
          <code>{row.session}</code>
        </button>{" "}
        {isOwn(row) ? <Chip tone="plain">this page</Chip> : null}
        {row.is_paused ? <Chip tone="busy">paused</Chip> : null}
      </th>
      <td>{row.user ?? <span class="soft">anonymous</span>}</td>
      <td class="wide-only">{row.peer}</td>
      <td class="number wide-only">{whole(row.num_subscriptions)}</td>
      <td class="outbox">
        <Outbox size={row.outbox_bytes} budget={row.outbox_budget_bytes} />
      </td>
      <td class="number wide-only">{row.behind_s > 0 ? duration(row.behind_s) : "–"}</td>
      <td class="number wide-only">{duration(row.silent_s)}</td>
      <td class="number">
        <button
          type="button"
          class="small"
          aria-label={`Disconnect ${row.session}`}
          onClick={() => askDisconnect(api, row, again)}
        >
          <span class="wide-only">Disconnect</span>
          <span class="narrow-only">
            <Icon name="close" />
          </span>
        </button>
      </td>
    </tr>
  ));
  const filter = "User, client, address or session";
  return (
    <ListingBox name="sessions" title="Sessions" {...{ filter, listing, head, rows }}>
      {open === null ? null : <SessionPanel api={api} row={open} onClose={() => setOpen(null)} />}
    </ListingBox>
  );
}

/** Ask whether a session is to be ended, and end it. */
export function askDisconnect(api: Api, row: SessionRow, then: () => void): void {
  question.set({
    title: `Disconnect ${row.session}?`,
    text: `The connection of ${row.user ?? "an anonymous client"} is closed, and its client stays away until it is told to connect again. To have it come back at once, choose "Reconnect" in the session's own panel.`,
    verb: "Disconnect",
    isDire: true,
    act: () => disconnect(api, row.session, false).finally(then),
  });
}

async function disconnect(api: Api, session: string, reconnect: boolean): Promise<string> {
  const told = await api.post<{ num_sessions: number }>("disconnect", {
    session,
    reconnect,
    reason: "ended by an operator",
  });
  if (told.num_sessions === 0) return `${session} was gone already.`;
  return reconnect ? `${session} was told to connect anew.` : `${session} is disconnected.`;
}

/** One session: what it is in, and what can be done to it. */
export function SessionPanel(props: {
  readonly api: Api;
  readonly row: SessionRow;
  readonly onClose: () => void;
}) {
  const { api, row, onClose } = props;
  const { data, error, again } = usePolled(
    (signal) => api.get<{ channels: readonly string[] }>(`admin/sessions/${row.session}`, {}, signal),
    EVERY_MS,
    [api, row.session],
  );
  return (
    <Panel title={`Session ${row.session}`} onClose={onClose}>
      <dl class="facts">
        <div>
          <dt>User</dt>
          <dd>{row.user ?? "anonymous"}</dd>
        </div>
        <div>
          <dt>Address</dt>
          <dd>{row.peer}</dd>
        </div>
        <div>
          <dt>Clients</dt>
          <dd>
            {row.clients.map((client) => (
              <code key={client}>{client} </code>
            ))}
          </dd>
        </div>
      </dl>
      <h3>Channels</h3>
      <Stale error={error} />
      <ul class="lines">
        {(data?.channels ?? []).map((channel) => (
          <li key={channel}>
            <code>{channel}</code>
            {channel.includes(":") && !channel.startsWith("$") ? (
              <button
                type="button"
                class="small"
                aria-label={`Unsubscribe from ${channel}`}
                onClick={() => askUnsubscribe(api, row.session, channel, again)}
              >
                Unsubscribe
              </button>
            ) : null}
          </li>
        ))}
      </ul>
      {data?.channels.length === 0 ? <p class="empty">It is in no channel.</p> : null}
      <div class="row">
        <button
          type="button"
          onClick={() =>
            question.set({
              title: `Have ${row.session} reconnect?`,
              text: "Its connection is closed, and its client connects again at once, with a fresh look at what it may do.",
              verb: "Reconnect",
              act: () => disconnect(api, row.session, true).finally(onClose),
            })
          }
        >
          Reconnect
        </button>
        <button type="button" class="dire" onClick={() => askDisconnect(api, row, onClose)}>
          Disconnect
        </button>
      </div>
    </Panel>
  );
}

/** Ask whether a session's subscription is to end, and end it. */
export function askUnsubscribe(api: Api, session: string, channel: string, then: () => void): void {
  question.set({
    title: `Unsubscribe ${session}?`,
    text: `It is told that its subscription to ${channel} has ended; what waits for it of that channel is dropped.`,
    verb: "Unsubscribe",
    isDire: true,
    act: async () => {
      const told = await api
        .post<{ num_sessions: number }>("unsubscribe", { session, channel })
        .finally(then);
      return told.num_sessions === 0 ? "It was not subscribed any more." : `${session} has left ${channel}.`;
    },
  });
}
