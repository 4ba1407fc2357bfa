/** A WebSocket over a network that takes its time: what the page's "Delay" chooses, each way. */

import type { SocketLike, SocketMaker } from "../src/index.js";

type Told = "onopen" | "onmessage" | "onclose" | "onerror";

/** How slow the network is, ms each way; it may be changed at any time. */
export interface Slowness {
  delayMs: number;
}

/** Return a maker of sockets that are as slow as `slowness` says at each frame. */
export function slowSockets(slowness: Slowness): SocketMaker {
  return class implements SocketLike {
    onopen: ((event: never) => void) | null = null;
    onmessage: ((event: never) => void) | null = null;
    onclose: ((event: never) => void) | null = null;
    onerror: ((event: never) => void) | null = null;
    readonly #socket: WebSocket;
    readonly #up = new Lane(slowness);
    readonly #down = new Lane(slowness);

    constructor(url: string, protocol: string) {
      this.#socket = new WebSocket(url, protocol);
      for (const told of ["onopen", "onmessage", "onclose", "onerror"] as const) {
        this.#socket[told] = (event: Event) => this.#down.put(() => this.#tell(told, event));
      }
    }

    get binaryType(): string {
      return this.#socket.binaryType;
    }

    set binaryType(kind: string) {
      this.#socket.binaryType = kind as BinaryType;
    }

    send(data: never): void {
      this.#up.put(() => this.#socket.send(data));
    }

    /** What is still under way is lost, as with a cable that is pulled. */
    close(code?: number, reason?: string): void {
      this.#up.cut();
      this.#socket.close(code, reason);
    }

    #tell(told: Told, event: Event): void {
      this[told]?.(event as never);
    }
  };
}

/** One direction: everything comes out as it went in, in order, later. */
class Lane {
  readonly #slowness: Slowness;
  #dueAt = 0;
  #isCut = false;

  constructor(slowness: Slowness) {
    this.#slowness = slowness;
  }

  put(run: () => void): void {
    const now = performance.now();
    this.#dueAt = Math.max(this.#dueAt, now + this.#slowness.delayMs);
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
