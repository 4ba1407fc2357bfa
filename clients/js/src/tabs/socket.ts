/** What a client takes for its WebSocket, and leads to the tab that has one. */

import type { SocketLike } from "../shell/environment.js";

/** Takes what the client does. */
export interface TabSocketOwner {
  sent(frame: Uint8Array): void;
  /** The client ended it; nothing is told to it any more. */
  closed(): void;
}

/** Calls its client back later, never from within a call; in order. */
export class TabSocket implements SocketLike {
  binaryType = "arraybuffer";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly #owner: TabSocketOwner;
  #isOver = false;
  #greetings = new Set<"hello" | "welcome">(["hello", "welcome"]);

  constructor(owner: TabSocketOwner) {
    this.#owner = owner;
  }

  send(frame: never): void {
    if (!this.#isOver) this.#owner.sent(frame);
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#owner.closed();
  }

  /** Whether this is the first frame of its way, which is told once. */
  isGreeting(kind: "hello" | "welcome"): boolean {
    return this.#greetings.delete(kind);
  }

  /** There is a way to the server. */
  begin(): void {
    this.#later(() => this.onopen?.({} as never));
  }

  /** A frame came. */
  receive(frame: Uint8Array): void {
    const data = frame.slice().buffer;
    this.#later(() => this.onmessage?.({ data } as never));
  }

  /** It is over. */
  end(code: number, reason: string): void {
    this.#later(() => {
      this.#isOver = true;
      this.onclose?.({ code, reason } as never);
    });
  }

  #later(tell: () => void): void {
    void Promise.resolve().then(() => {
      if (!this.#isOver) tell();
    });
  }
}
