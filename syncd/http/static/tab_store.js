/**
 * What a tab keeps over a reload, in sessionStorage: its client id and secret, its name, its channels with their positions and
 * rows, and what it has published without an answer. All in one value, so that positions and rows always belong together.
 */

const DELAY_MS = 200;
const MAX_CHARS = 1_500_000; // sessionStorage holds about 5 million for a whole site

export class TabStore {
  /** `read` returns what is to be kept; it is asked when the time to write has come. */
  constructor(storage, key, { read, setTimeout }) {
    this.storage = storage;
    this.key = key;
    this.read = read;
    this.setTimeout = setTimeout;
    this.timer = null;
  }

  /** Return what was kept, or an empty object. */
  load() {
    try {
      const kept = JSON.parse(this.storage.getItem(this.key) ?? "{}");
      return kept !== null && typeof kept === "object" ? kept : {};
    } catch {
      return {};
    }
  }

  /** Write soon. */
  touch() {
    this.timer ??= this.setTimeout(() => this.flush(), DELAY_MS);
  }

  /** Write now. */
  flush() {
    this.timer = null;
    const kept = this.read();
    try {
      let text = JSON.stringify(kept);
      if (text.length > MAX_CHARS) text = JSON.stringify(withoutRows(kept));
      this.storage.setItem(this.key, text);
    } catch {
      this.storage.removeItem(this.key); // full: an old position beside new rows would be worse than none
    }
  }
}

function withoutRows(kept) {
  return { ...kept, channels: kept.channels.map((channel) => ({ ...channel, rows: [] })) };
}
