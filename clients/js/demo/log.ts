/** The event log: every event once, with its offset, and a light for each pane that has seen it. */

import type { Position } from "../src/index.js";
import { h } from "./dom.js";

const MAX_LINES = 200;
/** Lines that come in between come together: nobody reads faster, and each time the whole list moves and is painted anew. */
const EVERY_MS = 100;

/** A pane's letter. */
export type PaneName = "A" | "B";

interface Line {
  readonly channel: string;
  readonly position: Position;
  readonly element: HTMLElement;
  readonly lights: Readonly<Record<PaneName, HTMLElement>>;
}

/** Lines, newest first; the oldest leave. */
export class EventLog {
  readonly #list: HTMLElement;
  readonly #names: readonly PaneName[];
  readonly #lines = new Map<string, Line>();
  /** Lines that are not in the list yet, newest first. */
  readonly #waiting: HTMLElement[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(list: HTMLElement, names: readonly PaneName[]) {
    this.#list = list;
    this.#names = names;
  }

  /** A pane has seen an event; the first that does writes the line. */
  saw(pane: PaneName, channel: string, position: Position, text: string): void {
    const id = `${channel} ${position.epoch} ${position.offset}`;
    let line = this.#lines.get(id);
    if (line === undefined) {
      line = this.#lineOf(channel, position, text);
      this.#lines.set(id, line);
      this.#add(line.element);
    }
    lightUp(line, pane);
  }

  /** A pane has what all events up to this one have made of a collection. */
  sawUpTo(pane: PaneName, channel: string, position: Position, text: string): void {
    this.saw(pane, channel, position, text);
    for (const line of this.#lines.values()) if (isUpTo(line, channel, position)) lightUp(line, pane);
  }

  /** Something happened to a pane. */
  note(pane: PaneName, text: string, tone: "plain" | "good" | "bad" = "plain"): void {
    const tag = h("span", { class: "light", "data-lit": "" }, pane);
    this.#add(
      h(
        "li",
        { class: "note", "data-tone": tone },
        h("span", { class: "lights" }, tag),
        clock(),
        h("p", {}, text),
      ),
    );
  }

  #lineOf(channel: string, position: Position, text: string): Line {
    const make = (name: PaneName) =>
      h("span", { class: "light", title: `Pane ${name} has not seen it` }, name);
    const lights = { A: make("A"), B: make("B") };
    const at = h("span", { class: "at" }, `${channel} `, h("b", {}, String(position.offset)));
    const shown = this.#names.map((name) => lights[name]);
    const element = h(
      "li",
      { "data-channel": channel, "data-offset": position.offset },
      h("span", { class: "lights" }, ...shown),
      at,
      clock(),
      h("p", {}, text),
    );
    return { channel, position, element, lights };
  }

  #add(element: HTMLElement): void {
    this.#waiting.unshift(element);
    if (this.#timer !== null) return;
    this.#show();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#show();
    }, EVERY_MS);
  }

  #show(): void {
    this.#list.prepend(...this.#waiting.splice(0));
    while (this.#list.childElementCount > MAX_LINES) this.#list.lastElementChild?.remove();
    if (this.#lines.size > 2 * MAX_LINES) {
      for (const [id, line] of this.#lines) if (!line.element.isConnected) this.#lines.delete(id);
    }
  }
}

function isUpTo(line: Line, channel: string, { epoch, offset }: Position): boolean {
  return line.channel === channel && line.position.epoch === epoch && line.position.offset <= offset;
}

/** Attributes that are set alike cost as much as others. */
function lightUp({ lights }: Line, pane: PaneName): void {
  if ("lit" in lights[pane].dataset) return;
  lights[pane].dataset["lit"] = "";
  lights[pane].title = `Pane ${pane} has seen it`;
}

function clock(): HTMLElement {
  return h("time", {}, new Date().toLocaleTimeString([], { hour12: false }));
}
