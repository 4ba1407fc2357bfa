/** The settings page: the clients of this page, and for administrators the server's cache. */

import { byId, h, setText } from "./dom.js";
import type { Pane } from "./pane.js";
import { Rebuild } from "./rebuild.js";

/** How often what the page knows itself is shown anew; the server is asked every fourth time. */
const EVERY_MS = 500;
const ASK_EVERY = 4;
/** Columns of the cache's table, as `GET /api/cache/stats` names them. */
const COLUMNS = [
  "num_entries",
  "num_bytes",
  "lookups",
  "hit_rate",
  "keys_loaded",
  "evictions",
  "mutations_ok",
  "mutations_rejected",
  "conflicts",
] as const;

type Counts = Readonly<Record<string, number>>;

/** Shows figures while it is in view, read anew every two seconds. */
export class Settings {
  readonly #panes: readonly Pane[];
  readonly #form = byId("key-form", HTMLFormElement);
  readonly #error = byId("key-error", HTMLElement);
  readonly #rebuild = new Rebuild();
  #key: string | null = null;
  #turn = 0;
  #timer: ReturnType<typeof setInterval> | null = null;

  constructor(panes: readonly Pane[]) {
    this.#panes = panes;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#key = byId("key", HTMLInputElement).value.trim();
      void this.#readCache();
    });
    byId("forget-key", HTMLButtonElement).addEventListener("click", () => this.#forget(""));
  }

  /** Begin or end to keep the figures fresh. */
  show(isShown: boolean): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = isShown ? setInterval(() => this.#refresh(), EVERY_MS) : null;
    if (isShown) this.#refresh();
  }

  #refresh(): void {
    const rows = this.#panes.map((pane) => {
      const { name, state, socket, client, numOrders, numPending, kept, orders, lobby } = pane.figures();
      const pending = numPending === 0 ? "none" : `${numPending}, ${kept}`;
      return rowOf(name, [state, socket, client, String(numOrders), pending, orders, lobby]);
    });
    byId("clients", HTMLElement).replaceChildren(...rows);
    this.#turn += 1;
    if (this.#key !== null && this.#turn % ASK_EVERY === 0) void this.#readCache();
  }

  async #readCache(): Promise<void> {
    const key = this.#key;
    try {
      const answer = await fetch("/api/cache/stats", {
        headers: { Authorization: `Bearer ${key}` },
        cache: "no-store",
      });
      if (key !== this.#key) return;
      if (answer.status === 401 || answer.status === 403)
        return this.#forget("The server does not take this key.");
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      const { collections } = (await answer.json()) as { collections: Record<string, Counts> };
      this.#showCache(collections);
    } catch (error) {
      setText(
        byId("cache-note", HTMLElement),
        `Not fresh: ${error instanceof Error ? error.message : String(error)}`,
      );
      if (this.#form.hidden === false) setText(this.#error, "The server cannot be reached.");
    }
  }

  #showCache(collections: Record<string, Counts>): void {
    const rows = Object.entries(collections).map(([name, counts]) =>
      rowOf(
        name,
        COLUMNS.map((column) => textOf(column, counts[column] ?? 0)),
      ),
    );
    byId("cache-rows", HTMLElement).replaceChildren(...rows);
    setText(
      byId("cache-note", HTMLElement),
      `As of ${new Date().toLocaleTimeString([], { hour12: false })}. Since the node's start.`,
    );
    setText(this.#error, "");
    this.#form.hidden = true;
    this.#rebuild.use(this.#key);
    byId("cache", HTMLElement).hidden = false;
  }

  #forget(why: string): void {
    this.#key = null;
    this.#rebuild.use(null);
    byId("key", HTMLInputElement).value = "";
    byId("cache", HTMLElement).hidden = true;
    byId("cache-rows", HTMLElement).replaceChildren();
    this.#form.hidden = false;
    setText(this.#error, why);
  }
}

function rowOf(head: string, cells: readonly string[]): HTMLElement {
  return h("tr", {}, h("th", { scope: "row" }, head), ...cells.map((cell) => h("td", {}, cell)));
}

function textOf(column: string, value: number): string {
  if (column === "hit_rate") return `${(value * 100).toFixed(1)} %`;
  if (column === "num_bytes") return value < 1024 ? `${value} B` : `${(value / 1024).toFixed(1)} KiB`;
  return value.toLocaleString("en");
}
