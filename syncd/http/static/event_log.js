/** What one channel's list shows: the newest rows, bounded. A row is an event or a note; rows are plain data, so they can be kept. */

import { textFromValue } from "./values.js";

export const MAX_ROWS = 500;
const MAX_TEXT_CHARS = 8_000;
const MAX_SAVED_ROWS = 150;

export class EventLog {
  rows = [];
  /** Grows whenever rows changed otherwise than by adding at the end and trimming at the front. */
  version = 0;
  /** Of this log's life: rows added at the end, and trimmed at the front. */
  numAdded = 0;
  numTrimmed = 0;
  numRecovered = 0;
  /** The oldest event is there: nothing earlier to load. */
  isComplete = false;

  /** Whether earlier events can be loaded and have room. */
  get canGrow() {
    return !this.isComplete && this.rows.length < MAX_ROWS;
  }

  /** Add an event at the end. `byName` is what its author goes by, if anything. */
  addEvent(event, { how, isChecked, byName }) {
    if (how === "recovered") this.numRecovered += 1;
    this.add(rowFromEvent(event, { how, isChecked, byName }));
  }

  /** Add a line that is no event; tone is plain, good or bad. */
  addNote(text, tone, atMs) {
    this.add({ kind: "note", text, tone, atMs });
  }

  add(row) {
    this.rows.push(row);
    this.numAdded += 1;
    if (this.rows.length <= MAX_ROWS) return;
    this.rows.shift();
    this.numTrimmed += 1;
    this.isComplete = false;
  }

  /** Put older events, ascending, before all others; those already there are left out. */
  prepend(events, nameOf) {
    const oldest = this.oldest();
    const older = events.filter((event) => oldest === null || isBefore(event, oldest));
    const rows = older.map((event) => rowFromEvent(event, { how: "history", isChecked: false, byName: nameOf(event) }));
    this.rows = [...rows, ...this.rows];
    this.version += 1;
  }

  clear() {
    this.rows = [];
    this.version += 1;
    this.isComplete = false;
  }

  /** Return the position of the oldest event shown, or null. */
  oldest() {
    const row = this.rows.find(({ kind, offset }) => kind === "event" && offset !== null);
    return row === undefined ? null : { epoch: row.epoch, offset: row.offset };
  }

  saved() {
    return this.rows.slice(-MAX_SAVED_ROWS);
  }

  restore(rows) {
    this.rows = rows;
    this.version += 1;
  }
}

function isBefore(event, position) {
  return event.epoch === position.epoch && event.offset < position.offset;
}

function rowFromEvent(event, { how, isChecked, byName }) {
  const text = textFromValue(event.data);
  return {
    kind: "event",
    how,
    isChecked,
    epoch: event.epoch ?? null,
    offset: event.offset ?? null,
    prev: event.prev ?? null,
    name: event.name ?? null,
    key: event.key ?? null,
    text: text.slice(0, MAX_TEXT_CHARS),
    isCut: text.length > MAX_TEXT_CHARS,
    by: event.by?.client ?? null,
    byName: byName ?? null,
    atMs: event.at_ms,
  };
}
