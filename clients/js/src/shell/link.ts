/** One connection attempt and the connection that may come of it: the only place that touches a WebSocket. */

import { SUBPROTOCOL } from "../wire/messages.js";
import type { SocketLike, SocketMaker } from "./environment.js";

const ABNORMAL_CLOSE = 1006;
/** What a script may close with when it is not 1000: browsers refuse the codes of RFC 6455 itself. */
const BROKEN_CLOSE = 3000;
/** RFC 6455: a close frame has room for so many bytes; the codes' texts are ASCII. */
const MAX_REASON = 123;

/** What a link tells its owner. Never called from within a method of the link. */
export interface LinkOwner {
  /** The WebSocket is open. */
  opened(): void;
  /** A binary frame came. */
  received(frame: Uint8Array): void;
  /** It is over, and nothing comes any more; not called after `hangUp`. */
  closed(code: number, reason: string): void;
}

/** A WebSocket whose words count until it is hung up, whatever it does afterwards. */
export class Link {
  readonly #socket: SocketLike;
  #isOver = false;

  /** @throws Error the URL is none, or the platform forbids it. */
  constructor(WebSocket: SocketMaker, url: string, owner: LinkOwner) {
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (!this.#isOver) owner.opened();
    };
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (this.#isOver) return;
      if (data instanceof ArrayBuffer) owner.received(new Uint8Array(data));
      else {
        socket.close(BROKEN_CLOSE);
        end(ABNORMAL_CLOSE, "The server sent a text frame.");
      }
    };
    const end = (code: number, reason = "") => {
      if (this.#isOver) return;
      this.#isOver = true;
      owner.closed(code, reason);
    };
    socket.onclose = ({ code = ABNORMAL_CLOSE, reason }: { code?: number; reason?: string }) =>
      end(code, reason);
    // `close` should follow and does not always: Chromium sends none where the page's policy forbids the connection.
    socket.onerror = ({ message }: { message?: string }) => end(ABNORMAL_CLOSE, message);
  }

  /** Send a frame. A socket that is closing drops it, as the network might; its end is told soon. */
  send(frame: Uint8Array): void {
    if (!this.#isOver) this.#socket.send(frame as never);
  }

  /** End it and hear nothing of it any more: a dead socket may take minutes to say that it is closed. */
  hangUp(code: number, reason: string): void {
    this.#isOver = true;
    this.#socket.close(code === 1000 ? code : BROKEN_CLOSE, reason.slice(0, MAX_REASON));
  }
}
