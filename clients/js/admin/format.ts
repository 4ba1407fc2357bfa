/** Numbers and times as people read them: never wider than their column, never more exact than they are. */

const UNITS = ["", "k", "M", "G", "T"] as const;

/** `1,234`, `12.3k`, `4.5M`; fractions below ten. Null is a dash. */
export function count(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size > 0 && size < 10 && !Number.isInteger(value)) return value.toFixed(size < 1 ? 2 : 1);
  if (size < 9999.5) return Math.round(value).toLocaleString("en");
  return scaled(value, 1000, UNITS);
}

/** Whole numbers in full: `1,234,567`. */
export function whole(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");
}

/** `512 B`, `12.3 KiB`. */
export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Math.abs(value) < 1023.5) return `${Math.round(value)} B`;
  return scaled(value, 1024, ["B", " KiB", " MiB", " GiB", " TiB"]);
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let [left, unit] = [value, 0];
  while (Math.abs(left) >= step * 0.99995 && unit < units.length - 1) {
    left /= step;
    unit += 1;
  }
  return `${left.toFixed(Math.abs(left) < 99.95 ? 1 : 0)}${units[unit]}`;
}

/** Milliseconds: `0.42 ms`, `12 ms`, `1.5 s`. */
export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0 ms";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} ms`;
}

/** A length of time in its two largest units: `3 d 4 h`, `5 min 2 s`, `12 s`. */
export function duration(seconds: number): string {
  const left = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(left / 86_400), "d"],
    [Math.floor(left / 3600) % 24, "h"],
    [Math.floor(left / 60) % 60, "min"],
    [left % 60, "s"],
  ] as const;
  const first = parts.findIndex(([number]) => number > 0);
  if (first === -1) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([number]) => number > 0);
  return shown.map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** `97.3 %`. */
export function share(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : `${(value * 100).toFixed(1)} %`;
}

/** Time of day, with seconds. */
export function clock(atMs: number): string {
  return new Date(atMs).toLocaleTimeString("en-GB");
}

/** Time of day, and the day if it was another one. */
export function moment(at: number | string): string {
  const when = new Date(at);
  const time = when.toLocaleTimeString("en-GB");
  if (when.toDateString() === new Date().toDateString()) return time;
  return `${when.toLocaleDateString("en-CA")} ${time}`;
}
