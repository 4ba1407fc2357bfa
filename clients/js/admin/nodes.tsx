/** The nodes that share this one's Redis, as it knows them: who lives, with which load and version, how late. */

import type { Api } from "./api.js";
import { duration, ms, whole } from "./format.js";
import { Chip, Stale, type Tone } from "./parts.js";
import { usePolled } from "./value.js";

/** One node; what it has not told yet is null. */
interface NodeRow {
  readonly node: string | null;
  readonly is_self: boolean;
  readonly state: string;
  readonly heard_ago_s: number;
  readonly num_members: number;
  readonly version: string | null;
  readonly address: string | null;
  readonly num_connections: number | null;
  readonly num_sessions: number | null;
  readonly loop_lag_ms: number | null;
  readonly store_lag_ms: number | null;
  readonly started_at_ms: number | null;
}

/** As often as a node may be told of another: each tells how it is every 5 s. */
const EVERY_MS = 2500;
/** A loop or a store this late is worth a look, as in `docs/ops/alerts.yml`. */
const LATE_LOOP_MS = 100;
const LATE_COMMIT_MS = 250;

const TONES: Readonly<Record<string, Tone>> = { alive: "good", silent: "bad" };

/** The table; nothing where a node is alone with its file. */
export function Nodes({ api }: { readonly api: Api }) {
  const { data, error } = usePolled(
    (signal) => api.get<{ readonly nodes: readonly NodeRow[] }>("nodes", {}, signal),
    EVERY_MS,
    [api],
  );
  const nodes = data?.nodes ?? [];
  const own = nodes.find((each) => each.is_self);
  if (own === undefined || own.node === null) return null;
  const versions = new Set(nodes.map((each) => each.version).filter((each) => each !== null));
  return (
    <section class="box" aria-labelledby="nodes-title">
      <h2 id="nodes-title">
        Nodes{" "}
        <span class="soft">
          {whole(nodes.length)}
          {versions.size > 1 ? `, of ${versions.size} versions` : ""}
        </span>
      </h2>
      <Stale error={error} />
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <th scope="col">Node</th>
              <th scope="col">State</th>
              <th scope="col">Version</th>
              <th scope="col" class="number wide-only">
                Connections
              </th>
              <th scope="col" class="number">
                Sessions
              </th>
              <th scope="col" class="number wide-only">
                Present
              </th>
              <th scope="col" class="number" title="How late its event loop wakes">
                Loop lag
              </th>
              <th scope="col" class="number" title="Mean time of a commit since its start">
                Commit
              </th>
              <th scope="col" class="number wide-only">
                Up for
              </th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((row) => (
              <Row key={row.node} row={row} isOdd={versions.size > 1 && row.version !== own.version} />
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Row({ row, isOdd }: { readonly row: NodeRow; readonly isOdd: boolean }) {
  const upS = row.started_at_ms === null ? null : (Date.now() - row.started_at_ms) / 1000;
  return (
    <tr data-node={row.node}>
      <th scope="row">
        {row.address ?? row.node} <code class="soft">{row.address === null ? "" : row.node}</code>
        {row.is_self ? <span class="soft"> this one</span> : null}
      </th>
      <td>
        <Chip tone={TONES[row.state] ?? "busy"}>{row.state}</Chip>
        {row.state === "alive" ? null : <span class="soft"> for {duration(row.heard_ago_s)}</span>}
      </td>
      <td class={isOdd ? "warned" : ""}>{row.version ?? "–"}</td>
      <td class="number wide-only">{whole(row.num_connections)}</td>
      <td class="number">{whole(row.num_sessions)}</td>
      <td class="number wide-only">{whole(row.num_members)}</td>
      <td class={late(row.loop_lag_ms, LATE_LOOP_MS)}>{ms(row.loop_lag_ms)}</td>
      <td class={late(row.store_lag_ms, LATE_COMMIT_MS)}>{ms(row.store_lag_ms)}</td>
      <td class="number wide-only">{upS === null ? "–" : duration(upS)}</td>
    </tr>
  );
}

function late(value: number | null, limit: number): string {
  return value !== null && value > limit ? "number warned" : "number";
}
