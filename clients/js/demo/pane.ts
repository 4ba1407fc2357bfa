/** One pane: a client of its own, what it shows, and what can be done to its network. */

import { type Client, type ConnectionStatus, createClient, type Position } from "../src/index.js";
import { type DurableQueue, durableQueue } from "../src/storage/index.js";
import { type SharedTabs, sharedTabs } from "../src/tabs/index.js";
import { type CardActions, Cards } from "./cards.js";
import { h, icon, setText } from "./dom.js";
import { EmptyBoard } from "./empty.js";
import { Feed } from "./feed.js";
import { Kept } from "./kept.js";
import type { EventLog, PaneName } from "./log.js";
import { Network } from "./network.js";
import { anyOrder, PREDICTIONS } from "./orders.js";
import { anyName, People } from "./people.js";
import { delaySelect, type Me, nameField, offlineSwitch } from "./tools.js";

/** The channel that carries who is here, and what terminals publish. */
export const LOBBY = "demo:lobby";

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
  /** Whose socket it uses. */
  readonly socket: string;
  /** Where pending changes are. */
  readonly kept: string;
}

/**
 * A pane of the board, to be put into the page as `element`.
 *
 * Each pane is a user of its own. Tabs of this browser that show the same pane share its connection, its network, its name and
 * what it has pending.
 */
export class Pane {
  readonly element: HTMLElement;
  readonly #name: PaneName;
  readonly #client: Client<typeof PREDICTIONS>;
  readonly #feed: Feed;
  readonly #log: EventLog;
  readonly #cards: Cards;
  readonly #people: People;
  readonly #network: Network;
  readonly #tabs: SharedTabs;
  readonly #queue: DurableQueue;
  readonly #state = h("span", { class: "state", role: "status" });
  readonly #saved = h("p", { class: "saved", role: "status" });
  readonly #alerts = h("div", { class: "alerts", role: "alert" });
  readonly #via = h("span", { class: "via" });
  readonly #empty: EmptyBoard;
  #numLost = 0;
  #role: SharedTabs["role"] | null = null;

  constructor(name: PaneName, url: string, log: EventLog) {
    this.#name = name;
    this.#log = log;
    this.#network = new Network(name);
    this.#tabs = sharedTabs({ user: name });
    this.#queue = durableQueue({ user: name, url });
    this.#client = createClient({
      url,
      mutators: PREDICTIONS,
      store: this.#queue,
      tabs: this.#tabs,
      environment: { WebSocket: this.#network.WebSocket },
    });
    this.#feed = new Feed(
      this.#client,
      (position, text) => log.sawUpTo(name, "orders", position, text),
      (problem) => this.#refused(problem),
    );
    this.#cards = new Cards(this.#actions());
    this.#empty = new EmptyBoard(this.#queue);
    const board = h("div", { class: "board" }, this.#empty.element, this.#cards.list);
    const me = this.#whoAmI();
    this.#people = new People(this.#client.channel(LOBBY), board, me.user, me.called.value ?? "");
    this.element = this.#build(board, me);
    this.#listen(me.called);
  }

  #whoAmI(): Me {
    const called = new Kept(`board.name.${this.#name}`);
    if (called.value === null) called.set(anyName());
    const user = new Kept(`board.user.${this.#name}`);
    if (user.value === null) user.set(this.#client.newId().slice(0, 12));
    return { called, user: user.value ?? "" };
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
      socket: SOCKETS[this.#tabs.role],
      kept: this.#queue.status.mode === "disk" ? "in this browser" : "in memory",
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
    if (this.#cards.complain(key, problem)) this.#log.note(this.#name, `Rolled back: ${problem}`, "bad");
    else this.#refused(problem);
  }

  /** Say that a change was refused that no card is there for. */
  #refused(problem: string): void {
    this.#log.note(this.#name, `Rolled back: ${problem}`, "bad");
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

  #build(board: HTMLElement, me: Me): HTMLElement {
    const name = this.#name;
    const title = `pane-${name}-title`;
    const fill = () => h("span", { class: "fill" });
    const create = h(
      "button",
      { type: "button", class: "create", click: () => this.#create() },
      icon("plus"),
      "New order",
    );
    return h(
      "section",
      { class: "pane", "data-pane": name, "aria-labelledby": title },
      h(
        "header",
        {},
        h("h2", { id: title }, `Pane ${name}`),
        this.#state,
        fill(),
        offlineSwitch(this.#network),
      ),
      h("div", { class: "tools" }, nameField(name, me), fill(), delaySelect(name, this.#network)),
      h("div", { class: "tools" }, this.#people.badges, this.#people.count, fill(), create),
      this.#alerts,
      board,
      h("footer", {}, this.#saved, fill(), this.#via),
    );
  }

  #create(): void {
    const order = anyOrder();
    void this.#watchOver(order.order_id, this.#feed.create(order));
    this.#cards.list.scrollTo({ top: 0 });
  }

  // ------------------------------------------------------------------------------- listening

  #listen(called: Kept): void {
    called.onChange(() => this.#people.rename(called.value ?? ""));
    this.#network.onCut(() => this.#networkChanged());
    this.#client.onState((status) => this.#showState(status));
    this.#showState(this.#client.status);
    this.#feed.subscribe(() => this.#show());
    this.#queue.onStatus(() => this.#show());
    this.#show();
    this.#client.channel(LOBBY).subscribe({
      onEvent: ({ position, data, name }) => {
        if (position !== null)
          this.#log.saw(this.#name, LOBBY, position, `${name ?? ""} ${JSON.stringify(data)}`.trim());
      },
      onReset: () => this.#note(`The history of ${LOBBY} does not reach back: starting afresh.`, "bad"),
      onState: ({ state, recovered }) => {
        if (state === "subscribed" && recovered)
          this.#note("Back: everything missed is here, in order.", "good");
        if (state === "ended") this.#note(`The server refuses ${LOBBY}.`, "bad");
      },
    });
    this.#client.connect();
  }

  #note(text: string, tone: "plain" | "good" | "bad" = "plain"): void {
    this.#log.note(this.#name, text, tone);
  }

  /** As a browser that says `online`: dial at once. */
  #networkChanged(): void {
    if (!this.#network.isCut) this.#client.wake();
    this.#showState(this.#client.status);
  }

  #show(): void {
    const orders = this.#feed.orders();
    this.#cards.show(orders);
    const num = this.#feed.numPending;
    const why = this.#feed.status === "current" ? "none" : this.#shownState;
    this.#empty.show(orders.length > 0 ? null : why, num);
    this.element.toggleAttribute("data-pending", num > 0);
    const changes = `${num} change${num === 1 ? "" : "s"} pending`;
    const where = this.#queue.status.mode === "disk" ? "" : ", in memory only";
    setText(this.#saved, num === 0 ? "Everything is saved." : `${changes}${where}.`);
    this.#people.place();
  }

  /** While its network is cut it goes on dialling, which is nothing to be told of. */
  get #shownState(): ConnectionStatus["state"] {
    const { state } = this.#client;
    return this.#network.isCut && state === "connecting" ? "offline" : state;
  }

  #showState({ reason, attempt }: ConnectionStatus): void {
    const state = this.#shownState;
    this.element.dataset["state"] = state;
    setText(this.#state, TEXTS[state]);
    this.#state.title = attempt > 1 ? `Attempt ${attempt}. ${reason}` : reason;
    this.#showRole();
    this.#show();
    if (state === "connected") this.#numLost = 0;
    if (state !== "offline" || this.#numLost > 0) return;
    this.#numLost += 1;
    this.#note("Offline: changes are kept and sent later.", "bad");
  }

  /** It changes with the connection alone. */
  #showRole(): void {
    const { role } = this.#tabs;
    if (this.#client.state === "connected" && this.#role !== role) {
      if (this.#role !== null) this.#note(`Now over the socket of ${SOCKETS[role]}.`);
      this.#role = role;
    }
    this.element.dataset["role"] = role;
    setText(this.#via, this.#client.state === "connected" ? `Socket of ${SOCKETS[role]}` : "");
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

const SOCKETS: Record<SharedTabs["role"], string> = {
  leader: "this tab",
  follower: "another tab",
  solo: "this tab alone",
};
