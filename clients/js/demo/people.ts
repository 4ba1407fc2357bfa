/** Who is here: names, avatars, and where others point. Presence of one channel carries it all. */

import type { Channel, Member } from "../src/index.js";
import { h, icon, setText } from "./dom.js";

const NAMES = ["Ada", "Grace", "Emmy", "Alan", "Mary", "Katherine", "Edsger", "Barbara", "Donald", "Radia"];
const NUM_HUES = 8;
const CURSOR_EVERY_MS = 80;
const LONGEST_NAME = 24;

/** Where somebody points: an order, and where on its card, in parts of its width and height. */
interface Pointer {
  readonly key: string;
  readonly x: number;
  readonly y: number;
}

/** Somebody as others see them. */
interface Person {
  /** The same in all tabs of theirs. */
  readonly user: string;
  readonly name: string;
  readonly hue: number;
  readonly pointer: Pointer | null;
}

/** Return a name to begin with, one that no other pane of this page has. */
export function anyName(): string {
  const [name = "Ada"] = NAMES.splice(Math.floor(Math.random() * NAMES.length), 1);
  return name;
}

/** Return one of eight colours, always the same for the same text. */
export function hueOf(text: string): number {
  let sum = 0;
  for (const letter of text) sum = (sum * 31 + (letter.codePointAt(0) ?? 0)) % 65_521;
  return sum % NUM_HUES;
}

/** Make somebody's round badge. */
export function avatar(name: string, hue: number): HTMLElement {
  return h("span", { class: "avatar", "data-hue": hue, "aria-hidden": "true" }, initialsOf(name));
}

/** Return up to two letters for a name. */
export function initialsOf(name: string): string {
  const words = name.trim().split(/\s+/).slice(0, 2);
  return words.map((word) => [...word][0]?.toUpperCase() ?? "").join("") || "?";
}

/** Announces this pane in a channel, and shows the others of it: badges, and cursors over the cards. */
export class People {
  readonly badges = h("ul", { class: "badges", "aria-label": "Others on this board" });
  readonly count = h("span", { class: "people-count", role: "status" });
  readonly #channel: Channel;
  readonly #board: HTMLElement;
  readonly #cursors = new Map<string, HTMLElement>();
  #others: readonly Person[] = [];
  readonly #user: string;
  #name: string;
  #pointer: Pointer | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** @param user Whose pane it is: in all tabs of theirs the same. */
  constructor(channel: Channel, board: HTMLElement, user: string, name: string) {
    this.#channel = channel;
    this.#board = board;
    this.#user = user;
    this.#name = name;
    this.#announce();
    channel.presence.subscribe((others) => this.#show(others));
    this.#show([]);
    board.addEventListener("pointermove", (event) => this.#point(event));
    board.addEventListener("pointerleave", () => this.#pointAt(null));
    board.addEventListener("focusin", (event) => {
      const card = cardOf(event.target);
      if (card) this.#pointAt({ key: card.dataset["key"] ?? "", x: 0.5, y: 0.5 });
    });
  }

  rename(name: string): void {
    this.#name = name;
    this.#announce();
  }

  /** Move the cursors to where their cards are now. */
  place(): void {
    const wanted = new Set<string>();
    for (const person of this.#others) {
      const card =
        person.pointer &&
        this.#board.querySelector<HTMLElement>(`[data-key="${CSS.escape(person.pointer.key)}"]`);
      if (!card || !person.pointer) continue;
      wanted.add(person.user);
      const cursor = this.#cursorOf(person);
      const left = card.offsetLeft + person.pointer.x * card.offsetWidth;
      const top = card.offsetTop + person.pointer.y * card.offsetHeight;
      cursor.style.transform = `translate(${left}px, ${top}px)`;
      // Put in only now: a new cursor appears where it is and does not fly there.
      if (!cursor.isConnected) this.#board.append(cursor);
    }
    for (const [user, cursor] of this.#cursors) {
      if (wanted.has(user)) continue;
      cursor.remove();
      this.#cursors.delete(user);
    }
  }

  #cursorOf(person: Person): HTMLElement {
    let cursor = this.#cursors.get(person.user);
    if (cursor === undefined) {
      cursor = h("div", { class: "cursor", "aria-hidden": "true" }, icon("pointer"), h("span"));
      this.#cursors.set(person.user, cursor);
    }
    cursor.dataset["hue"] = String(person.hue);
    if (cursor.lastChild) cursor.lastChild.textContent = person.name;
    return cursor;
  }

  #point(event: PointerEvent): void {
    const card = cardOf(event.target);
    if (!card) return;
    const box = card.getBoundingClientRect();
    const x = (event.clientX - box.left) / box.width;
    const y = (event.clientY - box.top) / box.height;
    this.#pointAt({ key: card.dataset["key"] ?? "", x: rounded(x), y: rounded(y) });
  }

  #pointAt(pointer: Pointer | null): void {
    this.#pointer = pointer;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#announce();
    }, CURSOR_EVERY_MS);
  }

  #announce(): void {
    // What the server refuses here is told where the subscription is: the pane's state.
    const state = { user: this.#user, name: this.#name, pointer: this.#pointer };
    this.#channel.presence.set(state).catch(() => undefined);
  }

  #show(others: readonly Member[]): void {
    const people = others.flatMap(peopleOf).filter(({ user }) => user !== this.#user);
    this.#others = [...new Map(people.sort(byPointer).map((person) => [person.user, person])).values()];
    this.badges.replaceChildren(
      ...this.#others.map(({ name, hue }) =>
        h("li", { title: name }, avatar(name, hue), h("span", { class: "hidden" }, name)),
      ),
    );
    const { length } = this.#others;
    setText(this.count, length === 0 ? "Nobody else is here" : `${length} other${length === 1 ? "" : "s"}`);
    this.place();
  }
}

function cardOf(target: EventTarget | null): HTMLElement | null {
  return target instanceof Element ? target.closest<HTMLElement>("[data-key]") : null;
}

function rounded(part: number): number {
  return Math.round(Math.min(1, Math.max(0, part)) * 1000) / 1000;
}

/**
 * Read what somebody announced, who may be anybody and announce anything.
 *
 * To the server every anonymous tab is somebody else, so who they are is announced as well. Where users log in, the server
 * knows, and a member has the states of all tabs.
 */
function peopleOf({ member, states }: Member): Person[] {
  return states.map((announced) => {
    const { user: id, name: given, pointer } = recordOf(announced.state);
    const user = typeof id === "string" ? id.slice(0, LONGEST_NAME) : member;
    const name = typeof given === "string" && given.trim() !== "" ? given.slice(0, LONGEST_NAME) : "Somebody";
    return { user, name, hue: hueOf(user), pointer: pointerOf(pointer) };
  });
}

/** Who points comes last: of one user's tabs it is the one in use. */
function byPointer(one: Person, other: Person): number {
  return Number(one.pointer !== null) - Number(other.pointer !== null);
}

function pointerOf(value: unknown): Pointer | null {
  const { key, x, y } = recordOf(value);
  if (typeof key !== "string" || typeof x !== "number" || typeof y !== "number") return null;
  return { key, x: rounded(x), y: rounded(y) };
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
