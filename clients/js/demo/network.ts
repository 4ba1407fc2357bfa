/**
 * The network of a pane, as slow as its "delay" says, and cut while it is "offline".
 *
 * It lies under the client, which is not told: what it does is what it does when a cable is pulled. All tabs of a pane have the
 * same network, whichever of them holds the connection.
 */

import type { SocketLike, SocketMaker } from "../src/index.js";
import { Kept } from "./kept.js";

type Told = "onopen" | "onmessage" | "onclose" | "onerror";

const ABNORMAL_CLOSE = 1006;

/** What tabs share of a network, and the sockets that this one has in it. */
export class Network {
  readonly #delay: Kept;
  readonly #cut: Kept;
  readonly #sockets = new Set<() => void>();

  /** @param pane Whose network it is: other panes have others. */
  constructor(pane: string) {
    this.#delay = new Kept(`board.delay.${pane}`);
    this.#cut = new Kept(`board.offline.${pane}`);
    this.#cut.onChange(() => {
      if (this.isCut) for (const end of [...this.#sockets]) end();
    });
  }

  /** How long it takes there and back. The client takes a server for gone that has not answered for 4 s: stay below. */
  get delayMs(): number {
    return Number(this.#delay.value) || 0;
  }

  set delayMs(ms: number) {
    this.#delay.set(String(ms));
  }

  get isCut(): boolean {
    return this.#cut.value === "yes";
  }

  set isCut(isCut: boolean) {
    this.#cut.set(isCut ? "yes" : "no");
  }

  /** Be called whenever the delay is another. */
  onDelay(listener: () => void): void {
    this.#delay.onChange(listener);
  }

  /** Be called whenever it is cut, or is there again. */
  onCut(listener: () => void): void {
    this.#cut.onChange(listener);
  }

  /** What the client is to take for `WebSocket`. */
  get WebSocket(): SocketMaker {
    const network = this;
    const sockets = this.#sockets;
    return class extends SlowSocket {
      constructor(url: string, protocol: string) {
        super(network, url, protocol);
        const end = () => this.drop();
        sockets.add(end);
        this.ended = () => sockets.delete(end);
      }
    };
  }
}

/** A WebSocket in a network. */
class SlowSocket implements SocketLike {
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  ended: () => void = () => undefined;
  readonly #socket: WebSocket | null;
  readonly #up: Lane;
  readonly #down: Lane;

  constructor(network: Network, url: string, protocol: string) {
    this.#up = new Lane(network);
    this.#down = new Lane(network);
    this.#socket = network.isCut ? null : new WebSocket(url, protocol);
    if (this.#socket === null) setTimeout(() => this.drop(), 0);
    for (const told of ["onopen", "onmessage", "onclose", "onerror"] as const) {
      if (this.#socket) this.#socket[told] = (event) => this.#down.put(() => this.#tell(told, event));
    }
  }

  get binaryType(): string {
    return this.#socket?.binaryType ?? "blob";
  }

  set binaryType(kind: string) {
    if (this.#socket) this.#socket.binaryType = kind as BinaryType;
  }

  send(data: never): void {
    this.#up.put(() => this.#socket?.send(data));
  }

  /** What is still under way up is lost. */
  close(code?: number, reason?: string): void {
    this.#up.cut();
    this.#socket?.close(code, reason);
  }

  /** The cable was pulled: what is under way is lost both ways. */
  drop(): void {
    this.#up.cut();
    this.#down.cut();
    this.#socket?.close();
    this.#tell("onclose", new CloseEvent("close", { code: ABNORMAL_CLOSE, reason: "The network is cut." }));
  }

  #tell(told: Told, event: Event): void {
    if (told === "onclose") this.ended();
    this[told]?.(event as never);
  }
}

/** One direction: everything comes out as it went in, in order, later. */
class Lane {
  readonly #network: Network;
  #dueAt = 0;
  #isCut = false;

  constructor(network: Network) {
    this.#network = network;
  }

  put(run: () => void): void {
    if (this.#isCut) return;
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now + this.#network.delayMs / 2);
    if (this.#dueAt <= now) run();
    else {
      setTimeout(() => {
        if (!this.#isCut) run();
      }, this.#dueAt - now);
    }
  }

  cut(): void {
    this.#isCut = true;
  }
}
