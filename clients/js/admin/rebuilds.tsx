/** Rebuilds of one collection: start, progress, cancel, and what became of those before. */

import { useEffect, useState } from "preact/hooks";
import type { Api } from "./api.js";
import { count, duration, moment, share, whole } from "./format.js";
import type { Live } from "./live.js";
import { Chip, notice, perform, question, type Tone } from "./parts.js";
import { usePolled } from "./value.js";

/** One rebuild as `GET /api/rebuild` tells it. */
export interface Job {
  readonly job: string;
  readonly collection: string;
  readonly mode: string;
  readonly state: string;
  readonly asked_at_ms: number;
  readonly done: number;
  readonly resumed_at: number;
  readonly total: number | null;
  readonly changed: number | null;
  readonly rate_per_s: number;
  readonly eta_ms: number | null;
  readonly error: string | null;
}

const ENDED = new Set(["done", "failed", "cancelled"]);
const TONES: Readonly<Record<string, Tone>> = { done: "good", failed: "bad", cancelled: "plain" };
/** The node tells of progress itself; a job under way is asked about besides, in case that was lost. */
const FOLLOW_MS = 500;
const UNKNOWN = { total: null, changed: null, eta_ms: null, error: null };
const HISTORY = 8;

/** The rebuilds of a collection. */
export function Rebuilds(props: {
  readonly name: string;
  readonly api: Api;
  readonly live: Live;
  readonly jobs: readonly Job[];
  readonly again: () => void;
}) {
  const { name, api, live, jobs, again } = props;
  const newest = jobs.at(-1) ?? null;
  const active = newest !== null && !ENDED.has(newest.state) ? newest : null;
  const ended = jobs.filter(({ state }) => ENDED.has(state)).reverse();
  const [told, setTold] = useState<Job | null>(null);
  useEffect(
    () => live.listen(`$rebuild:${name}`, (data) => setTold({ ...UNKNOWN, ...(data as Job) })),
    [live, name],
  );
  const isStarted = told !== null && !ENDED.has(told.state) && active === null;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `again` is anew at every render
  useEffect(() => {
    if (isStarted) again();
  }, [isStarted]);
  return (
    <div class="rebuilds">
      <div class="tools">
        <h3>Rebuild from the source</h3>
        {active === null ? <Start name={name} api={api} canResume={isLeft(ended[0])} again={again} /> : null}
      </div>
      {active === null ? null : (
        <Progress key={active.job} api={api} job={active} told={told} again={again} />
      )}
      {ended.length === 0 ? null : <History jobs={ended.slice(0, HISTORY)} />}
    </div>
  );
}

function isLeft(job: Job | undefined): boolean {
  return job?.state === "failed" && job.done > 0;
}

function Start(props: {
  readonly name: string;
  readonly api: Api;
  readonly canResume: boolean;
  readonly again: () => void;
}) {
  const { name, api, canResume, again } = props;
  const [isBusy, setBusy] = useState(false);
  const start = async (mode: string) => {
    setBusy(true);
    await perform(async () => {
      await api.post("rebuild", { collection: name, mode });
      return null;
    });
    again();
    setBusy(false);
  };
  return (
    <div class="row">
      {canResume ? (
        <button type="button" class="small" disabled={isBusy} onClick={() => void start("resume")}>
          Resume the last one
        </button>
      ) : null}
      <button type="button" class="small primary" disabled={isBusy} onClick={() => void start("full")}>
        Rebuild
      </button>
    </div>
  );
}

function Progress(props: {
  readonly api: Api;
  readonly job: Job;
  /** What the node told last of the collection. */
  readonly told: Job | null;
  readonly again: () => void;
}) {
  const { api, again, told } = props;
  const { data } = usePolled((signal) => api.get<Job>(`rebuild/${props.job.job}`, {}, signal), FOLLOW_MS, [
    api,
    props.job.job,
  ]);
  const job = newest(told, data, props.job);
  const isOver = ENDED.has(job.state);
  // biome-ignore lint/correctness/useExhaustiveDependencies: `again` is anew at every render
  useEffect(() => {
    if (!isOver) return;
    again();
    notice.set({ text: outcomeOf(job), isBad: job.state === "failed" });
  }, [isOver]);
  const part = job.total ? Math.min(1, job.done / job.total) : null;
  const text =
    job.total === null ? `${whole(job.done)} rows` : `${whole(job.done)} of ${whole(job.total)} rows`;
  return (
    <div class="progress" data-job={job.job} data-state={job.state}>
      <div class="progress-head">
        <Chip tone={TONES[job.state] ?? "busy"}>{job.state}</Chip>
        <strong>{part === null ? text : share(part)}</strong>
        {part === null ? null : <span>{text}</span>}
        <span class="soft">
          {count(job.rate_per_s)} a second
          {job.eta_ms === null ? "" : ` · about ${duration(Math.max(1, job.eta_ms / 1000))} to go`}
          {job.resumed_at > 0 ? ` · resumed at ${whole(job.resumed_at)}` : ""}
        </span>
        <button type="button" class="small" disabled={isOver} onClick={() => askCancel(api, job, again)}>
          Cancel
        </button>
      </div>
      <progress
        aria-label={`Rebuild of ${job.collection}`}
        max={1}
        {...(part === null ? {} : { value: part })}
      />
      <p class="soft">Readers are served what was there before, until everything is swapped in at once.</p>
    </div>
  );
}

/** Return what is furthest of several tellings of a job: those of the node itself come first, but not always last. */
function newest(told: Job | null, read: Job | null, job: Job): Job {
  const tellings = [told, read].filter((each) => each !== null && each.job === job.job) as Job[];
  const ended = tellings.find(({ state }) => ENDED.has(state));
  return ended ?? tellings.reduce((far, each) => (each.done >= far.done ? each : far), job);
}

function outcomeOf({ collection, state, changed, error }: Job): string {
  const about = `The rebuild of ${collection}`;
  if (state === "done") return `${about} is done: ${whole(changed)} entries are different.`;
  return state === "failed" ? `${about} failed: ${error ?? "see the log."}` : `${about} was cancelled.`;
}

function askCancel(api: Api, job: Job, then: () => void): void {
  question.set({
    title: `Cancel the rebuild of ${job.collection}?`,
    text: `${whole(job.done)} rows were read, which are thrown away. Entries stay as they are.`,
    verb: "Cancel the rebuild",
    isDire: true,
    act: async () => {
      const told = await api.delete<Job>(`rebuild/${job.job}`).finally(then);
      return ENDED.has(told.state)
        ? `The rebuild of ${job.collection} is ${told.state}.`
        : `The rebuild of ${job.collection} is about to end.`;
    },
  });
}

function History({ jobs }: { readonly jobs: readonly Job[] }) {
  return (
    <div class="scroll">
      <table class="history">
        <caption class="hidden">Rebuilds that have ended, the newest first</caption>
        <thead>
          <tr>
            <th scope="col">Asked for</th>
            <th scope="col">Outcome</th>
            <th scope="col" class="wide-only">
              Mode
            </th>
            <th scope="col" class="number">
              Rows
            </th>
            <th scope="col" class="number">
              Changed
            </th>
            <th scope="col" class="number wide-only">
              Rows a second
            </th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.job}>
              <td>
                <time dateTime={new Date(job.asked_at_ms).toISOString()}>{moment(job.asked_at_ms)}</time>
              </td>
              <td>
                <Chip tone={TONES[job.state] ?? "plain"}>{job.state}</Chip>{" "}
                {job.error === null ? null : <span class="soft">{job.error}</span>}
              </td>
              <td class="wide-only">{job.mode}</td>
              <td class="number">{whole(job.done)}</td>
              <td class="number">{whole(job.changed)}</td>
              <td class="number wide-only">{count(job.rate_per_s)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
