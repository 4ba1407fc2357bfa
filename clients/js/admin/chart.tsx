/** One chart of the last minutes: its title, what each line stands at, and the lines. All charts share the crosshair. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { clock } from "./format.js";
import type { Live } from "./live.js";
import { useValue, type Value } from "./value.js";

/** One line of a chart. */
export interface Line {
  /** A number of the samples. */
  readonly name: string;
  readonly label: string;
  /** Which of the page's colours for lines: 1 to 4. */
  readonly hue: 1 | 2 | 3 | 4;
}

/** What a chart shows. */
export interface ChartProps {
  readonly live: Live;
  readonly title: string;
  readonly hint: string;
  readonly lines: readonly Line[];
  readonly format: (value: number | null | undefined) => string;
  /** The axis reaches at least this high, so that a quiet node does not look wild. */
  readonly least: number;
  /** The axis is in bytes: its steps are powers of two. */
  readonly isBinary?: boolean;
  readonly windowS: number;
  /** Index of the sample under the pointer, in any chart; null: none, show the newest. */
  readonly cursor: Value<number | null>;
}

/** Steps of the axis of time, seconds. */
const STEPS_S = [5, 10, 15, 20, 30, 60, 120, 180, 300];
/** Steps of an axis of bytes. */
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const HEIGHT = 132;
const AXIS_WIDTH = 54;

/** A chart as a figure; what it shows is said in words as well. */
export function Chart(props: ChartProps) {
  const { live, title, hint, lines, format, least, windowS, cursor, isBinary = false } = props;
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shown = useMemo(() => ({ first: 0 }), []);
  useValue(live.now);
  const at = useValue(cursor);
  const columns = live.columns;
  const times = columns["at_ms"] ?? [];
  const index = at ?? times.length - 1;
  const names = lines.map(({ name }) => name);

  useEffect(() => {
    const made =
      holder.current === null
        ? null
        : draw(holder.current, { lines, format, least, isBinary, cursor }, shown);
    plot.current = made;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => made?.redraw(false, true);
    dark.addEventListener("change", redraw);
    return () => {
      dark.removeEventListener("change", redraw);
      made?.destroy();
    };
  }, [lines, format, least, isBinary, shown, cursor]);

  useEffect(() => {
    const newest = (times.at(-1) ?? 0) / 1000;
    const from = newest - windowS;
    shown.first = Math.max(
      0,
      times.findIndex((time) => (time ?? 0) / 1000 >= from),
    );
    const data = [
      times.slice(shown.first).map((time) => (time ?? 0) / 1000),
      ...names.map((name) => (columns[name] ?? []).slice(shown.first)),
    ];
    plot.current?.batch(() => {
      plot.current?.setData(data as uPlot.AlignedData, false);
      plot.current?.setScale("x", { min: from, max: newest });
    });
  });

  const told = lines.map(({ name, label }) => `${label} ${format(columns[name]?.[index])}`).join(", ");
  return (
    <figure class="chart" aria-label={`${title}: ${told}`}>
      <figcaption>
        <h3 title={hint}>{title}</h3>
        <span class="when" aria-hidden="true">
          {at === null ? "" : clock(times[index] ?? 0)}
        </span>
      </figcaption>
      <dl class="keys">
        {lines.map(({ name, label, hue }) => (
          <div key={name} class={`key hue-${hue}`}>
            <dt>{label}</dt>
            <dd>{format(columns[name]?.[index])}</dd>
          </div>
        ))}
      </dl>
      <div class="plot" ref={holder} aria-hidden="true" />
    </figure>
  );
}

function draw(
  holder: HTMLElement,
  spec: Required<Pick<ChartProps, "lines" | "format" | "least" | "isBinary" | "cursor">>,
  shown: { first: number },
): uPlot {
  const { lines, format, least, isBinary, cursor } = spec;
  const colour = (name: string) => () => getComputedStyle(holder).getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "11px system-ui, sans-serif",
  };
  const made = new uPlot(
    {
      width: holder.clientWidth || 300,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 20, 0, 0],
      cursor: { sync: { key: "node" }, drag: { x: false, y: false }, points: { size: 6 }, y: false },
      scales: { x: { time: true }, y: { range: (_plot, _low, high) => [0, top(high ?? 0, least)] } },
      axes: [
        { ...axis, space: 58, incrs: STEPS_S, values: (_plot, splits) => splits.map(timeOf), size: 24 },
        {
          ...axis,
          space: 26,
          size: AXIS_WIDTH,
          values: (_plot, splits) => splits.map((y) => format(y)),
          ...(isBinary ? { incrs: POWERS } : {}),
        },
      ],
      series: [
        {},
        ...lines.map(({ label, hue }, number) => ({
          label,
          stroke: colour(`--line-${hue}`),
          width: 1.75,
          points: { show: false },
          spanGaps: true,
          ...(number === 0 ? { fill: colour(`--line-${hue}-tint`) } : {}),
        })),
      ],
      hooks: {
        setCursor: [
          (plot) => {
            const under = plot.cursor.idx;
            cursor.set(under === null || under === undefined ? null : under + shown.first);
          },
        ],
      },
    },
    [[], ...lines.map(() => [])] as unknown as uPlot.AlignedData,
    holder,
  );
  const sized = new ResizeObserver(() => {
    const width = holder.clientWidth;
    if (width > 0 && width !== made.width) made.setSize({ width, height: HEIGHT });
  });
  sized.observe(holder);
  made.hooks["destroy"] = [() => sized.disconnect()];
  return made;
}

/** `14:05`, or `14:05:20` between whole minutes. */
function timeOf(at: number): string {
  const text = clock(at * 1000);
  return at % 60 === 0 ? text.slice(0, 5) : text;
}

/** A little above the highest value, on a round number. */
function top(high: number, least: number): number {
  const wanted = Math.max(high * 1.08, least);
  const step = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((times) => times * step).find((edge) => edge >= wanted) ?? wanted;
}

/** The choice of how much time the charts show, kept for the next visit. */
export function useWindow(): [number, (seconds: number) => void] {
  const [seconds, setSeconds] = useState(() => Number(localStorage.getItem("syncd.admin.window") ?? 300));
  return [
    [60, 300, 600].includes(seconds) ? seconds : 300,
    (next) => {
      localStorage.setItem("syncd.admin.window", String(next));
      setSeconds(next);
    },
  ];
}
