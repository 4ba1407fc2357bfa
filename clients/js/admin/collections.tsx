/** Collections: what their caches hold and do, their settings, and what can be done to them. */

import { useEffect, useId, useState } from "preact/hooks";
import type { Api } from "./api.js";
import { bytes, count, ms, share, whole } from "./format.js";
import type { Live, Sample } from "./live.js";
import { Meter, Panel, perform, question, Stale } from "./parts.js";
import { type Job, Rebuilds } from "./rebuilds.js";
import { usePolled, useValue } from "./value.js";

interface Options {
  readonly has_loader: boolean;
  readonly has_scanner: boolean;
  readonly has_on_commit: boolean;
  readonly volatile: boolean;
  readonly partitioned: boolean;
  readonly mutators: readonly string[];
}

/** Settings that may be changed while the node runs. Null of `ttl_s`: entries do not expire. */
interface Settings {
  readonly max_entries: number;
  readonly max_bytes: number;
  readonly ttl_s: number | null;
  readonly stale_s: number;
}

const SETTINGS_MS = 5000;
const JOBS_MS = 2000;

/** The page. */
export function Collections({ api, live }: { readonly api: Api; readonly live: Live }) {
  const now = useValue(live.now);
  const info = usePolled(
    (signal) => api.get<{ collections: Readonly<Record<string, Options>> }>("info", {}, signal),
    60_000,
    [api],
  );
  const config = usePolled(
    (signal) => api.get<{ collections: Readonly<Record<string, Settings>> }>("cache/config", {}, signal),
    SETTINGS_MS,
    [api],
  );
  const jobs = usePolled((signal) => api.get<{ jobs: readonly Job[] }>("rebuild", {}, signal), JOBS_MS, [
    api,
  ]);
  const names = Object.keys(info.data?.collections ?? {}).sort();
  if (info.data !== null && names.length === 0) {
    return <p class="empty">The application has no collections: this node carries channels alone.</p>;
  }
  return (
    <>
      <Stale error={info.error ?? config.error ?? jobs.error} />
      <div class="cards">
        {names.map((name) => (
          <CollectionCard
            key={name}
            name={name}
            api={api}
            live={live}
            options={info.data?.collections[name] ?? null}
            settings={config.data?.collections[name] ?? null}
            stats={now?.collections[name] ?? null}
            jobs={(jobs.data?.jobs ?? []).filter(({ collection }) => collection === name)}
            again={() => {
              config.again();
              jobs.again();
            }}
          />
        ))}
      </div>
    </>
  );
}

interface CardProps {
  readonly name: string;
  readonly api: Api;
  readonly live: Live;
  readonly options: Options | null;
  readonly settings: Settings | null;
  readonly stats: Sample | null;
  readonly jobs: readonly Job[];
  readonly again: () => void;
}

function CollectionCard(props: CardProps) {
  const { name, api, options, settings, stats, jobs, again, live } = props;
  const id = useId();
  const [isInvalidating, setInvalidating] = useState(false);
  return (
    <section class="box collection" aria-labelledby={id} data-collection={name}>
      <div class="tools">
        <h2 id={id}>{name}</h2>
        <p class="soft traits">{options === null ? "" : traits(options)}</p>
        <div class="row">
          <button type="button" class="small" onClick={() => askWarm(api, name)}>
            Warm
          </button>
          <button type="button" class="small" onClick={() => setInvalidating(true)}>
            Invalidate…
          </button>
          <button type="button" class="small" onClick={() => askClear(api, name)}>
            Clear…
          </button>
        </div>
      </div>
      {stats === null ? null : (
        <Counts
          stats={stats}
          settings={settings}
          rates={ratesOf(live, name)}
          isForwarded={options?.has_on_commit ?? false}
        />
      )}
      {settings === null ? null : <SettingsForm name={name} api={api} settings={settings} again={again} />}
      {options?.has_scanner ? <Rebuilds name={name} api={api} live={live} jobs={jobs} again={again} /> : null}
      {isInvalidating ? <Invalidating name={name} api={api} onClose={() => setInvalidating(false)} /> : null}
    </section>
  );
}

function traits(options: Options): string {
  const told = [
    options.has_loader ? "loaded from a source" : "owned by syncd",
    options.has_scanner ? "can be rebuilt" : "",
    options.has_on_commit ? "forwards changes" : "",
    options.volatile ? "in memory only" : "",
    options.partitioned ? "partitioned" : "",
  ];
  return told.filter((one) => one !== "").join(" · ");
}

/** Counts a second, from the last two samples; 0 until there are two. */
function ratesOf(live: Live, name: string): (count: string) => number {
  const now = live.now.get();
  const before = live.before;
  const passed = ((now?.sample["at_ms"] ?? 0) - (before?.sample["at_ms"] ?? 0)) / 1000;
  return (count) => {
    const gained = (now?.collections[name]?.[count] ?? 0) - (before?.collections[name]?.[count] ?? 0);
    return before === null || passed <= 0 || gained < 0 ? 0 : gained / passed;
  };
}

function Counts(props: {
  readonly stats: Sample;
  readonly settings: Settings | null;
  readonly rates: (count: string) => number;
  readonly isForwarded: boolean;
}) {
  const { stats, settings, rates, isForwarded } = props;
  const of = (name: string) => stats[name] ?? 0;
  const figures: readonly (readonly [string, string, string])[] = [
    ["Hits", whole(of("hits") + of("stale_hits")), `${count(rates("hits"))} a second`],
    ["Misses", whole(of("misses")), `${count(rates("misses"))} a second`],
    ["Evictions", whole(of("evictions")), "since the start"],
    ["Loads", whole(of("loads")), `${whole(of("load_failures"))} failed`],
    ["Load time", ms(of("loads") > 0 ? of("load_ms_mean") : null), `at most ${ms(of("load_ms_max"))}`],
    ["Mutations", whole(of("mutations_ok")), `${whole(of("mutations_rejected"))} rejected`],
    ["Invalidations", whole(of("invalidations")), "since the start"],
    ...(isForwarded
      ? [["Not forwarded", whole(of("dirty")), `${whole(of("forward_failures"))} failures`] as const]
      : []),
  ];
  return (
    <div class="counts">
      <div class="meters">
        <Meter
          label="Hit rate"
          value={of("hit_rate")}
          limit={1}
          isGood
          text={of("lookups") > 0 ? share(of("hit_rate")) : "no lookups yet"}
        />
        <Meter
          label="Entries"
          value={of("num_entries")}
          limit={settings?.max_entries ?? null}
          text={`${whole(of("num_entries"))} of ${whole(settings?.max_entries)}`}
        />
        <Meter
          label="Memory"
          value={of("num_bytes")}
          limit={settings?.max_bytes ?? null}
          text={`${bytes(of("num_bytes"))} of ${bytes(settings?.max_bytes)}`}
        />
      </div>
      <dl class="figures">
        {figures.map(([label, value, more]) => (
          <div key={label}>
            <dt>{label}</dt>
            <dd>{value}</dd>
            <dd class="soft">{more}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

const FIELDS = [
  ["max_entries", "Entries at most", 1, 1],
  ["max_bytes", "Bytes at most", 1, 1],
  ["ttl_s", "Fresh for, seconds", 0, "any"],
  ["stale_s", "Served stale for, seconds", 0, "any"],
] as const;

type Typed = Readonly<Record<(typeof FIELDS)[number][0], string>>;

function typedOf(settings: Settings): Typed {
  return {
    max_entries: String(settings.max_entries),
    max_bytes: String(settings.max_bytes),
    ttl_s: settings.ttl_s === null ? "" : String(settings.ttl_s),
    stale_s: String(settings.stale_s),
  };
}

/** What was typed stays until it is saved or taken back, whatever is read meanwhile. */
function SettingsForm(props: {
  readonly name: string;
  readonly api: Api;
  readonly settings: Settings;
  readonly again: () => void;
}) {
  const { name, api, settings, again } = props;
  const id = useId();
  const [typed, setTyped] = useState<Partial<Typed>>({});
  const held = typedOf(settings);
  const changed = FIELDS.map(([field]) => field).filter(
    (field) => typed[field] !== undefined && typed[field] !== held[field],
  );
  const save = async () => {
    const changes = Object.fromEntries(
      changed.map((field) => [field, typed[field] === "" ? null : Number(typed[field])]),
    );
    const isSaved = await perform(async () => {
      await api.post("cache/config", { collection: name, ...changes });
      return `Settings of ${name} are changed, until the node restarts.`;
    });
    again();
    if (isSaved) setTyped({});
  };
  return (
    <details class="settings">
      <summary>Settings</summary>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        {FIELDS.map(([field, label, least, step]) => (
          <div key={field} class="field">
            <label for={`${id}-${field}`}>{label}</label>
            <input
              id={`${id}-${field}`}
              name={field}
              type="number"
              min={least}
              step={step}
              placeholder={field === "ttl_s" ? "for ever" : ""}
              required={field !== "ttl_s"}
              value={typed[field] ?? held[field]}
              onInput={(event) => setTyped({ ...typed, [field]: event.currentTarget.value })}
            />
          </div>
        ))}
        <div class="row">
          <button type="submit" class="primary" disabled={changed.length === 0}>
            Save
          </button>
          <button type="button" disabled={changed.length === 0} onClick={() => setTyped({})}>
            Undo
          </button>
        </div>
      </form>
      <p class="soft">
        In force at once, and until the node restarts; what is to last belongs in syncd.toml.
      </p>
    </details>
  );
}

function askClear(api: Api, name: string): void {
  question.set({
    title: `Clear the cache of ${name}?`,
    text: "Every entry is forgotten in memory; what is stored stays. Reads go to the store and the source until they are warm again.",
    verb: "Clear",
    isDire: true,
    act: async () => {
      const { total } = await api.post<{ total: number }>("cache/clear", { collection: name });
      return `${whole(total)} entries of ${name} left memory.`;
    },
  });
}

function askWarm(api: Api, name: string): void {
  void perform(async () => {
    const { total } = await api.post<{ total: number }>("cache/warm", { collection: name });
    return `${whole(total)} entries of ${name} were brought into memory.`;
  });
}

/** Which entries are out of date: some keys, some tags, or all. */
function Invalidating(props: { readonly name: string; readonly api: Api; readonly onClose: () => void }) {
  const { name, api, onClose } = props;
  const id = useId();
  const [kind, setKind] = useState<"keys" | "tags" | "all">("keys");
  const [text, setText] = useState("");
  const [isDone, setDone] = useState(false);
  useEffect(() => {
    if (isDone) onClose();
  }, [isDone, onClose]);
  const named = text.split(/[\s,]+/).filter((word) => word !== "");
  const act = async () => {
    const what = kind === "all" ? { all: true } : { [kind]: named };
    const isOk = await perform(async () => {
      await api.post("invalidate", { collection: name, ...what });
      return kind === "all"
        ? `All of ${name} is invalid.`
        : `${named.length} ${kind} of ${name} are invalid.`;
    });
    if (isOk) setDone(true);
  };
  return (
    <Panel title={`Invalidate ${name}`} kind="ask" onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          void act();
        }}
      >
        <fieldset class="choice" aria-label="What is invalid">
          {(["keys", "tags", "all"] as const).map((each) => (
            <button key={each} type="button" aria-pressed={kind === each} onClick={() => setKind(each)}>
              {each === "all" ? "Everything" : each === "keys" ? "Keys" : "Tags"}
            </button>
          ))}
        </fieldset>
        {kind === "all" ? (
          <p>
            Every entry is read anew from its source when it is next asked for, and every watcher is told.
          </p>
        ) : (
          <div class="field">
            <label for={id}>{kind === "keys" ? "Keys" : "Tags"}, with spaces between</label>
            <input id={id} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
          </div>
        )}
        <div class="row end">
          <button type="button" onClick={onClose}>
            Leave it
          </button>
          <button type="submit" class="primary" disabled={kind !== "all" && named.length === 0}>
            Invalidate
          </button>
        </div>
      </form>
    </Panel>
  );
}
