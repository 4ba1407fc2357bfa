/** The first page: charts of the last minutes, the actors, and whom the node waits for. */

import { useMemo } from "preact/hooks";
import type { Api } from "./api.js";
import { Chart, type Line, useWindow } from "./chart.js";
import { bytes, count, duration, ms, whole } from "./format.js";
import type { ActorRow, Live } from "./live.js";
import { Nodes } from "./nodes.js";
import { Chip, Outbox } from "./parts.js";
import type { SessionTable } from "./sessions.js";
import { usePolled, useValue, Value } from "./value.js";

interface ChartSpec {
  readonly title: string;
  readonly hint: string;
  readonly lines: readonly Line[];
  readonly format: (value: number | null | undefined) => string;
  readonly least: number;
  readonly isBinary?: boolean;
}

const CHARTS: readonly ChartSpec[] = [
  {
    title: "Connections",
    hint: "Open connections, and those past hello.",
    format: whole,
    least: 4,
    lines: [
      { name: "connections", label: "open", hue: 1 },
      { name: "sessions", label: "sessions", hue: 2 },
    ],
  },
  {
    title: "Messages a second",
    hint: "Messages of clients, messages to them, and of those the deliveries of events.",
    format: count,
    least: 10,
    lines: [
      { name: "deliveries_per_s", label: "deliveries", hue: 1 },
      { name: "messages_out_per_s", label: "out", hue: 2 },
      { name: "messages_in_per_s", label: "in", hue: 3 },
    ],
  },
  {
    title: "Latency",
    hint: "From a publication until its subscribers are written to, commits, and how late the event loop wakes: means of a second.",
    format: ms,
    least: 5,
    lines: [
      { name: "age_ms", label: "publish to write", hue: 1 },
      { name: "commit_ms", label: "commit", hue: 2 },
      { name: "loop_lag_ms", label: "loop lag", hue: 3 },
    ],
  },
  {
    title: "Work a second",
    hint: "Events taken from publishers, mutations and reads that clients asked for, commits of the store.",
    format: count,
    least: 10,
    lines: [
      { name: "published_per_s", label: "published", hue: 1 },
      { name: "mutations_per_s", label: "mutations", hue: 2 },
      { name: "reads_per_s", label: "reads", hue: 3 },
      { name: "commits_per_s", label: "commits", hue: 4 },
    ],
  },
  {
    title: "Bytes out a second",
    hint: "What sockets took.",
    format: bytes,
    least: 1024,
    isBinary: true,
    lines: [{ name: "bytes_out_per_s", label: "sent", hue: 1 }],
  },
  {
    title: "Trouble a second",
    hint: "Errors told to clients, connections that ended, subscriptions that fell behind, messages that newer ones took the place of.",
    format: count,
    least: 4,
    lines: [
      { name: "errors_per_s", label: "errors", hue: 4 },
      { name: "disconnects_per_s", label: "disconnects", hue: 2 },
      { name: "lagged_per_s", label: "lagged", hue: 3 },
      { name: "conflated_per_s", label: "conflated", hue: 1 },
    ],
  },
];

const WINDOWS = [
  [60, "1 min"],
  [300, "5 min"],
  [600, "10 min"],
] as const;

/** The page. */
export function Overview({ live, api }: { readonly live: Live; readonly api: Api }) {
  const now = useValue(live.now);
  const [seconds, setSeconds] = useWindow();
  const cursor = useMemo(() => new Value<number | null>(null), []);
  if (now === null) return <p class="empty">Waiting for the first sample…</p>;
  return (
    <>
      <div class="bar">
        <Standing live={live} />
        <fieldset class="choice" aria-label="Time that the charts show">
          {WINDOWS.map(([value, label]) => (
            <button
              key={value}
              type="button"
              aria-pressed={seconds === value}
              onClick={() => setSeconds(value)}
            >
              {label}
            </button>
          ))}
        </fieldset>
      </div>
      <div class="charts">
        {CHARTS.map((spec) => (
          <Chart key={spec.title} {...spec} live={live} windowS={seconds} cursor={cursor} />
        ))}
      </div>
      <Nodes api={api} />
      <div class="pair">
        <Actors actors={now.actors} />
        <Slow api={api} />
      </div>
    </>
  );
}

function Standing({ live }: { readonly live: Live }) {
  const now = useValue(live.now);
  if (now === null) return null;
  const { sample } = now;
  return (
    <dl class="standing">
      <div>
        <dt>Channels</dt>
        <dd>{whole(sample["channels"])}</dd>
      </div>
      <div>
        <dt>Present</dt>
        <dd>{whole(sample["members"])}</dd>
      </div>
      <div>
        <dt>Queued</dt>
        <dd>{whole(sample["queued"])}</dd>
      </div>
      <div>
        <dt>Up for</dt>
        <dd>{duration(now.uptime_s)}</dd>
      </div>
    </dl>
  );
}

const TONES: Readonly<Record<string, "good" | "busy" | "bad">> = {
  ok: "good",
  failed: "bad",
  stopped: "bad",
};

function Actors({ actors }: { readonly actors: readonly ActorRow[] }) {
  return (
    <section class="box" aria-labelledby="actors-title">
      <h2 id="actors-title">Actors</h2>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Actor</th>
              <th scope="col">State</th>
              <th scope="col" class="number">
                Restarts
              </th>
              <th scope="col" class="number">
                Mailbox
              </th>
              <th scope="col" class="number wide-only">
                Most
              </th>
              <th scope="col" class="number">
                Refused
              </th>
            </tr>
          </thead>
          <tbody>
            {actors.map((actor) => (
              <tr key={actor.name} data-actor={actor.name}>
                <th scope="row">{actor.name.replaceAll("_", " ")}</th>
                <td>
                  <Chip tone={TONES[actor.state] ?? "busy"}>{actor.state}</Chip>
                  {actor.last_error === null ? null : (
                    <span class="soft clip" title={actor.last_error}>
                      {actor.last_error}
                    </span>
                  )}
                </td>
                <td class={actor.num_restarts > 0 ? "number warned" : "number"}>
                  {whole(actor.num_restarts)}
                </td>
                <td class="number" title={actor.queue === null ? "" : bytes(actor.queue.bytes)}>
                  {whole(actor.queue?.waiting)}
                </td>
                <td class="number wide-only">{whole(actor.queue?.peak)}</td>
                <td class={actor.queue?.refused ? "number warned" : "number"}>
                  {whole(actor.queue?.refused)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Slow({ api }: { readonly api: Api }) {
  const { data } = usePolled(
    (signal) =>
      api.get<SessionTable>("admin/sessions", { order: "outbox_bytes", descending: true, limit: 5 }, signal),
    3000,
    [api],
  );
  const slow = (data?.sessions ?? []).filter((row) => row.outbox_bytes > 0);
  return (
    <section class="box" aria-labelledby="slow-title">
      <h2 id="slow-title">
        Slow clients <a href="#sessions">All sessions</a>
      </h2>
      {slow.length === 0 ? (
        <p class="empty">Nobody is behind: every outbox is empty.</p>
      ) : (
        <ul class="slow">
          {slow.map((row) => (
            <li key={row.session}>
              <span class="who">
                {row.user ?? "anonymous"} <code>{row.session}</code>
              </span>
              <Outbox size={row.outbox_bytes} budget={row.outbox_budget_bytes} />
              <span class="soft">nothing taken for {duration(row.behind_s)}</span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
