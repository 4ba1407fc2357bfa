/** What went wrong lately, and what operators did. */

import { useState } from "preact/hooks";
import type { Api } from "./api.js";
import { moment } from "./format.js";
import { Chip, Filter, Stale } from "./parts.js";
import { usePolled } from "./value.js";

/** A warning or error of the log; besides these, any fields. */
interface Problem {
  readonly timestamp: string;
  readonly level: string;
  readonly event: string;
  readonly exception?: string;
}

interface Action {
  readonly at_ms: number;
  readonly who: string;
  readonly what: string;
  readonly outcome: string;
  readonly details: Readonly<Record<string, unknown>>;
}

const EVERY_MS = 3000;
const USUAL = new Set(["timestamp", "level", "event", "exception"]);

/** The page. */
export function Log({ api }: { readonly api: Api }) {
  const [contains, setContains] = useState("");
  return (
    <>
      <div class="tools alone">
        <h2>Log</h2>
        <Filter label="Any text" value={contains} onValue={setContains} />
      </div>
      <div class="pair wide">
        <Errors api={api} contains={contains.toLowerCase()} />
        <Audit api={api} contains={contains.toLowerCase()} />
      </div>
    </>
  );
}

function isIn(contains: string): (row: object) => boolean {
  return (row) => contains === "" || JSON.stringify(row).toLowerCase().includes(contains);
}

function Errors({ api, contains }: { readonly api: Api; readonly contains: string }) {
  const { data, error } = usePolled(
    (signal) => api.get<{ errors: readonly Problem[] }>("admin/errors", { limit: 200 }, signal),
    EVERY_MS,
    [api],
  );
  const rows = (data?.errors ?? []).filter(isIn(contains));
  return (
    <section class="box" aria-labelledby="errors-title">
      <h2 id="errors-title">Warnings and errors</h2>
      <Stale error={error} />
      <ul class="log" data-log="errors">
        {rows.map((row) => (
          <li key={`${row.timestamp} ${row.event}`}>
            <time dateTime={row.timestamp}>{moment(row.timestamp)}</time>
            <Chip tone={row.level === "warning" ? "busy" : "bad"}>{row.level}</Chip>
            <strong>{row.event}</strong>
            <Fields of={row} />
            {row.exception === undefined ? null : (
              <details>
                <summary>Traceback</summary>
                <pre>{row.exception}</pre>
              </details>
            )}
          </li>
        ))}
      </ul>
      {data !== null && rows.length === 0 ? (
        <p class="empty">Nothing to tell since the node started.</p>
      ) : null}
    </section>
  );
}

function Fields({ of }: { readonly of: object }) {
  const fields = Object.entries(of).filter(([name, value]) => !USUAL.has(name) && value !== null);
  if (fields.length === 0) return null;
  return (
    <span class="fields">
      {fields.map(([name, value]) => (
        <span key={name}>
          {name}=<code>{typeof value === "string" ? value : JSON.stringify(value)}</code>{" "}
        </span>
      ))}
    </span>
  );
}

function Audit({ api, contains }: { readonly api: Api; readonly contains: string }) {
  const { data, error } = usePolled(
    (signal) => api.get<{ entries: readonly Action[] }>("audit", { limit: 200 }, signal),
    EVERY_MS,
    [api],
  );
  const rows = (data?.entries ?? []).filter(isIn(contains));
  return (
    <section class="box" aria-labelledby="audit-title">
      <h2 id="audit-title">What operators did</h2>
      <Stale error={error} />
      <ul class="log" data-log="audit">
        {rows.map((row) => (
          <li key={`${row.at_ms} ${row.who} ${row.what} ${JSON.stringify(row.details)}`}>
            <time dateTime={new Date(row.at_ms).toISOString()}>{moment(row.at_ms)}</time>
            <Chip tone={toneOf(row.outcome)}>{row.outcome}</Chip>
            <strong>{row.what.replaceAll("_", " ")}</strong> <span class="soft">{row.who}</span>
            <Fields of={row.details} />
          </li>
        ))}
      </ul>
      {data !== null && rows.length === 0 ? <p class="empty">Nothing yet.</p> : null}
    </section>
  );
}

function toneOf(outcome: string): "good" | "plain" | "bad" {
  if (outcome === "ok" || outcome === "done") return "good";
  return outcome === "cancelled" || outcome === "queued" ? "plain" : "bad";
}
