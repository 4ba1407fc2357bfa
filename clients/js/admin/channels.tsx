/** Channels with somebody in them or events in memory: a table that the server sorts and cuts, and a panel for each. */

import { useState } from "preact/hooks";
import type { Api } from "./api.js";
import { count, whole } from "./format.js";
import { Outbox, Panel, SortHead, Stale } from "./parts.js";
import { askUnsubscribe, type SessionTable } from "./sessions.js";
import { ListingBox, useListing } from "./table.js";
import { usePolled } from "./value.js";

interface ChannelRow {
  readonly channel: string;
  readonly num_subscribers: number;
  readonly rate_per_s: number | null;
  readonly epoch: string | null;
  readonly offset: number | null;
}

interface ChannelTable {
  readonly channels: readonly ChannelRow[];
  readonly num_found: number;
  readonly is_complete: boolean;
}

const EVERY_MS = 2000;
const MAX_MEMBERS = 200;

/** The page. */
export function Channels({ api }: { readonly api: Api }) {
  const [open, setOpen] = useState<string | null>(null);
  const listing = useListing<ChannelTable>(api, "admin/channels", "num_subscribers");
  const { data, contains, sort } = listing;
  const head = (
    <>
      <SortHead name="channel" label="Channel" isText {...sort} />
      <SortHead name="num_subscribers" label="Subscribers" {...sort} />
      <SortHead name="rate_per_s" label="Events a second" {...sort} />
      <SortHead name="offset" label="Offset" {...sort} />
    </>
  );
  const rows = (data?.channels ?? []).map((row) => (
    <tr key={row.channel} data-channel={row.channel}>
      <th scope="row">
        <button type="button" class="link" onClick={() => setOpen(row.channel)}>
          <code>{row.channel}</code>
        </button>
      </th>
      <td class="number">{whole(row.num_subscribers)}</td>
      <td class="number">
        {row.rate_per_s ? count(row.rate_per_s) : <span class="soft">{count(row.rate_per_s)}</span>}
      </td>
      <td class="number">{whole(row.offset)}</td>
    </tr>
  ));
  const none = contains === "" ? "No channel is in use." : "No channel has that in its name.";
  return (
    <ListingBox name="channels" title="Channels" filter="Channel name" {...{ listing, head, rows, none }}>
      {open === null ? null : <ChannelPanel api={api} channel={open} onClose={() => setOpen(null)} />}
    </ListingBox>
  );
}

interface Presence {
  readonly num_members: number;
  readonly members: readonly {
    /** The user, or the client of somebody without a token. */
    readonly member: string;
    readonly user?: string;
    readonly states: readonly { readonly client: string; readonly state: unknown }[];
  }[];
}

function ChannelPanel(props: { readonly api: Api; readonly channel: string; readonly onClose: () => void }) {
  const { api, channel } = props;
  const sessions = usePolled(
    (signal) =>
      api.get<SessionTable>(
        "admin/sessions",
        { channel, order: "outbox_bytes", descending: true, limit: MAX_MEMBERS },
        signal,
      ),
    EVERY_MS,
    [api, channel],
  );
  const isOwn = channel.startsWith("$");
  return (
    <Panel title={channel} onClose={props.onClose}>
      <Members api={api} channel={channel} />
      <h3>Subscribers ({whole(sessions.data?.num_found)})</h3>
      <Stale error={sessions.error} />
      <ul class="lines">
        {(sessions.data?.sessions ?? []).map((row) => (
          <li key={row.session}>
            <span class="who">
              {row.user ?? "anonymous"} <code>{row.session}</code>
            </span>
            {row.outbox_bytes > 0 ? (
              <Outbox size={row.outbox_bytes} budget={row.outbox_budget_bytes} />
            ) : null}
            {channel.includes(":") && !isOwn ? (
              <button
                type="button"
                class="small"
                aria-label={`Unsubscribe ${row.session}`}
                onClick={() => askUnsubscribe(api, row.session, channel, sessions.again)}
              >
                Unsubscribe
              </button>
            ) : null}
          </li>
        ))}
      </ul>
      {sessions.data?.num_found === 0 ? <p class="empty">Nobody is subscribed.</p> : null}
    </Panel>
  );
}

function Members({ api, channel }: { readonly api: Api; readonly channel: string }) {
  const { data, error } = usePolled(
    (signal) => api.get<Presence>("presence", { channel, limit: MAX_MEMBERS }, signal),
    EVERY_MS,
    [api, channel],
  );
  if (data === null) {
    return (
      <p class="empty">{error === null ? "Looking who is present…" : "This channel has no presence."}</p>
    );
  }
  return (
    <>
      <h3>Present ({whole(data.num_members)})</h3>
      <ul class="lines">
        {data.members.map(({ member, user, states }) => (
          <li key={member}>
            <span class="who">{user ?? "anonymous"}</span>
            {states.map(({ client, state }) => (
              <span key={client} class="state">
                <code>{client}</code> <code>{JSON.stringify(state)}</code>
              </span>
            ))}
          </li>
        ))}
      </ul>
      {data.num_members === 0 ? <p class="empty">Nobody has announced anything.</p> : null}
    </>
  );
}
