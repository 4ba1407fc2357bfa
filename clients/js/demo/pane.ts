/** One pane: a client of its own, what it shows, and what can be done to its network. */

import { type Client, type ConnectionStatus, createClient, type Position } from "../src/index.js";
import { type CardActions, Cards } from "./cards.js";
import { h, icon, setText } from "./dom.js";
import { Feed } from "./feed.js";
import type { EventLog, PaneName } from "./log.js";
import { anyOrder, PREDICTIONS } from "./orders.js";
import { anyName, hueOf, initialsOf, People } from "./people.js";
import { type Slowness, slowSockets } from "./slow.js";

/** The channel that carries who is here, and what terminals publish. */
export const LOBBY = "demo:lobby";
const DELAYS = [
  [0, "No delay"],
  [500, "0.5 s delay"],
  [2000, "2 s delay"],
] as const;

/** What the settings page tells of a pane. */
export interface PaneFigures {
  readonly name: PaneName;
  readonly state: string;
  readonly client: string;
  readonly numOrders: number;
  readonly numPending: number;
  /** Offsets: up to where it was told everything. */
  readonly orders: string;
  readonly lobby: string;
}

/** A pane of the board, to be put into the page as `element`. */
export class Pane {
  readonly element: HTMLElement;
  readonly #name: PaneName;
  readonly #client: Client<typeof PREDICTIONS>;
  readonly #feed: Feed;
  readonly #log: EventLog;
  readonly #cards: Cards;
  readonly #people: People;
  readonly #slowness: Slowness = { delayMs: 0 };
  readonly #state = h("span", { class: "state", role: "status" });
  readonly #saved = h("p", { class: "saved", role: "status" });
  readonly #alerts = h("div", { class: "alerts", role: "alert" });
  readonly #avatar = h("span", { class: "avatar", "aria-hidden": "true" });
  #numLost = 0;

  constructor(name: PaneName, url: string, log: EventLog) {
    this.#name = name;
    this.#log = log;
    this.#client = createClient({
      url,
      mutators: PREDICTIONS,
      environment: { WebSocket: slowSockets(this.#slowness) },
    });
    this.#feed = new Feed(this.#client, (position, text) => log.sawUpTo(name, "orders", position, text));
    this.#cards = new Cards(this.#actions());
    const board = h("div", { class: "board" }, this.#cards.list);
    const called = stored(`board.name.${name}`) ?? anyName();
    this.#people = new People(this.#client.channel(LOBBY), board, called);
    this.element = this.#build(board, called);
    this.#listen();
  }

  /** Publish to the lobby; a refusal is told in the log. */
  async say(text: string): Promise<void> {
    try {
      await this.#client.channel(LOBBY).publish({ text });
    } catch (error) {
      this.#log.note(this.#name, `Not published: ${String(error)}`, "bad");
    }
  }

  /** Return what the settings page shows of it. */
  figures(): PaneFigures {
    const { position } = this.#client.channel(LOBBY);
    return {
      name: this.#name,
      state: TEXTS[this.#client.state],
      client: this.#client.clientId?.slice(0, 10) ?? "none yet",
      numOrders: this.#feed.orders().length,
      numPending: this.#feed.numPending,
      orders: offsetOf(this.#feed.position),
      lobby: offsetOf(position),
    };
  }

  #actions(): CardActions {
    return {
      ship: (key) => void this.#watchOver(key, this.#feed.ship(key)),
      approve: (key) => void this.#watchOver(key, this.#feed.approve(key)),
      change: (key, by) => void this.#watchOver(key, this.#feed.change(key, by)),
      remove: (key) => void this.#watchOver(key, this.#feed.remove(key)),
    };
  }

  /** Wait for the server's word on a change, and say so if it refuses. */
  async #watchOver(key: string, decided: Promise<string | null>): Promise<void> {
    const problem = await decided;
    if (problem === null) return;
    this.#log.note(this.#name, `Rolled back: ${problem}`, "bad");
    if (this.#cards.complain(key, problem)) return;
    const close = h(
      "button",
      {
        type: "button",
        class: "square plain",
        "aria-label": "Dismiss",
        click: () => this.#alerts.replaceChildren(),
      },
      icon("close"),
    );
    this.#alerts.replaceChildren(
      h("div", { class: "problem" }, h("p", {}, h("b", {}, "Rolled back. "), problem), close),
    );
  }

  // ------------------------------------------------------------------------------- building

  #build(board: HTMLElement, called: string): HTMLElement {
    const name = this.#name;
    const title = `pane-${name}-title`;
    const input = h("input", {
      class: "name",
      value: called,
      maxlength: 24,
      autocomplete: "off",
      "aria-label": `Your name in pane ${name}`,
      change: (event) => this.#rename(event),
    });
    const offline = h("input", { type: "checkbox", role: "switch", change: (event) => this.#cut(event) });
    const delay = h("select", {
      "aria-label": `Network delay of pane ${name}`,
      change: (event) => this.#slow(event),
    });
    delay.append(...DELAYS.map(([ms, text]) => h("option", { value: ms }, text)));
    const create = h(
      "button",
      { type: "button", class: "create", click: () => this.#create() },
      icon("plus"),
      "New order",
    );
    setText(this.#avatar, initialsOf(called));
    return h(
      "section",
      { class: "pane", "data-pane": name, "aria-labelledby": title },
      h(
        "header",
        {},
        h("h2", { id: title }, `Pane ${name}`),
        this.#state,
        h("span", { class: "fill" }),
        h("label", { class: "switch" }, offline, h("span", {}, "Offline")),
      ),
      h(
        "div",
        { class: "tools" },
        h("div", { class: "me" }, this.#avatar, input),
        h("span", { class: "fill" }),
        delay,
      ),
      h(
        "div",
        { class: "tools" },
        this.#people.badges,
        this.#people.count,
        h("span", { class: "fill" }),
        create,
      ),
      this.#alerts,
      board,
      h("footer", {}, this.#saved),
    );
  }

  #rename(event: Event): void {
    const name = (event.target as HTMLInputElement).value.trim() || anyName();
    (event.target as HTMLInputElement).value = name;
    store(`board.name.${this.#name}`, name);
    setText(this.#avatar, initialsOf(name));
    this.#people.rename(name);
  }

  #cut(event: Event): void {
    if ((event.target as HTMLInputElement).checked) this.#client.disconnect();
    else this.#client.connect();
  }

  #slow(event: Event): void {
    this.#slowness.delayMs = Number((event.target as HTMLSelectElement).value);
  }

  #create(): void {
    const order = anyOrder();
    void this.#watchOver(order.order_id, this.#feed.create(order));
    this.#cards.list.scrollTo({ top: 0 });
  }

  // ------------------------------------------------------------------------------- listening

  #listen(): void {
    this.#client.onState((status) => this.#showState(status));
    this.#showState(this.#client.status);
    this.#feed.subscribe(() => this.#show());
    this.#show();
    this.#client.channel(LOBBY).subscribe({
      onEvent: ({ position, data, name }) => {
        if (position !== null)
          this.#log.saw(this.#name, LOBBY, position, `${name ?? ""} ${JSON.stringify(data)}`.trim());
      },
      onReset: () =>
        this.#log.note(this.#name, `The history of ${LOBBY} does not reach back: starting afresh.`, "bad"),
      onState: ({ state, recovered }) => {
        if (state === "subscribed" && recovered)
          this.#log.note(this.#name, "Back: everything missed is here, in order.", "good");
        if (state === "ended") this.#log.note(this.#name, `The server refuses ${LOBBY}.`, "bad");
      },
    });
    this.#client.connect();
  }

  #show(): void {
    this.#cards.show(this.#feed.orders());
    const num = this.#feed.numPending;
    this.element.toggleAttribute("data-pending", num > 0);
    setText(
      this.#saved,
      num === 0 ? "Everything is saved." : `${num} change${num === 1 ? "" : "s"} pending.`,
    );
    this.#people.place();
  }

  #showState(status: ConnectionStatus): void {
    const { state, reason, attempt } = status;
    this.element.dataset["state"] = state;
    setText(this.#state, TEXTS[state]);
    this.#state.title = attempt > 1 ? `Attempt ${attempt}. ${reason}` : reason;
    if (state === "connected") {
      this.#avatar.dataset["hue"] = String(hueOf(this.#client.clientId ?? ""));
      this.#numLost = 0;
    }
    if (state !== "offline" || this.#numLost > 0) return;
    this.#numLost += 1;
    this.#log.note(this.#name, "Offline: changes are kept and sent later.", "bad");
  }
}

function offsetOf(position: Position | null): string {
  return position === null ? "–" : String(position.offset);
}

const TEXTS: Record<ConnectionStatus["state"], string> = {
  idle: "Starting",
  connecting: "Connecting",
  connected: "Connected",
  offline: "Offline",
  "needs-auth": "Needs a token",
  failed: "Stopped",
  closed: "Closed",
};

/** Session storage may be forbidden: then names last as long as the page. */
function stored(key: string): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function store(key: string, value: string): void {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // As above.
  }
}
