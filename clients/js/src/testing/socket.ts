/** A WebSocket and its other end, in one process. */

import type { SocketLike } from "../shell/environment.js";
import { decodeFrame, type Message } from "../wire/decode.js";
import { encodeMessage } from "../wire/encode.js";
import type { ServerBodies } from "../wire/messages.js";

/** SPEC 4.1: the client's first frame is no longer. */
const MAX_FIRST_BYTES = 4_096;
const TOO_BIG = 1009;

/** What accepts fake sockets. */
export interface FakeListener {
  /** A client dials; call `open` or `refuse` of the end, now or later, or never. */
  dialled(end: FakeServerEnd): void;
}

/** The client's end: what a client takes for a WebSocket. */
export class FakeSocket implements SocketLike {
  binaryType = "blob";
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  readonly url: string;
  readonly protocol: string;
  readonly end: FakeServerEnd;

  constructor(url: string, protocol: string, listener: FakeListener) {
    this.url = url;
    this.protocol = protocol;
    this.end = new FakeServerEnd(this);
    listener.dialled(this.end);
  }

  /** Send a frame to the other end, unless the line is dead. */
  send(data: Uint8Array): void {
    this.end.take(data);
  }

  /** Close; the other end learns the code, unless the line is dead. */
  close(code = 1005, reason = ""): void {
    this.end.leave(code, reason);
  }

  /** Hand an event to the client. */
  tell(kind: "open" | "message" | "close" | "error", event: object): void {
    const handler = this[`on${kind}`] as ((event: object) => void) | null;
    handler?.(event);
  }
}

/** The server's end of one fake socket, as a test holds it. */
export class FakeServerEnd {
  /** Messages from the client that were not taken yet. */
  readonly received: Message[] = [];
  /** How the client closed; null while it has not. */
  closedByClient: { code: number; reason: string } | null = null;
  /** Called for every message of the client, in place of keeping it in `received`. */
  onMessage: ((kind: string, body: Record<string, unknown>) => void) | null = null;
  /** Whether the way to the client is cut: what it sends is carried out, and it hears nothing of it. */
  isMuted = false;
  /** Frames of the client that arrived. */
  numTaken = 0;
  /** Called once when the client closes, or the line is cut. */
  onEnd: (() => void) | null = null;
  #state: "dialling" | "open" | "silent" | "over" = "dialling";
  #isGreeted = false;
  readonly #socket: FakeSocket;

  constructor(socket: FakeSocket) {
    this.#socket = socket;
  }

  /** The URL that was dialled. */
  get url(): string {
    return this.#socket.url;
  }

  /** Whether messages pass both ways. */
  get isOpen(): boolean {
    return this.#state === "open";
  }

  /** Complete the upgrade. */
  open(): void {
    if (this.#state !== "dialling") return;
    this.#state = "open";
    this.#socket.tell("open", {});
  }

  /** Send one message. */
  send<Kind extends keyof ServerBodies>(kind: Kind, body: ServerBodies[Kind]): void {
    this.sendFrame(encodeMessage(kind, body).bytes);
  }

  /** Send the bytes of a frame, whatever they are. */
  sendFrame(frame: Uint8Array): void {
    if (this.#state === "open" && !this.isMuted) {
      this.#socket.tell("message", { data: frame.slice().buffer });
    }
  }

  /** End the connection with a close frame. */
  close(code: number, reason = ""): void {
    this.#over(code, reason);
  }

  /** Refuse the upgrade, or cut the line so that both ends notice. */
  drop(): void {
    this.#over(1006, "");
  }

  /** Cut the line so that nobody notices: nothing arrives any more, in either direction. */
  goSilent(): void {
    if (this.#state === "open") this.#state = "silent";
  }

  /** Take the oldest message; with a kind, the oldest of that kind, leaving out those before it. */
  next(kind?: string): Message {
    for (let message = this.received.shift(); message !== undefined; message = this.received.shift()) {
      if (kind === undefined || message[0] === kind) return message;
    }
    throw new Error(kind === undefined ? "The client sent nothing." : `The client sent no ${kind}.`);
  }

  /** Take a frame of the client; for `FakeSocket`. */
  take(frame: Uint8Array): void {
    if (this.#state !== "open") return;
    this.numTaken += 1;
    const isTooLong = !this.#isGreeted && frame.length > MAX_FIRST_BYTES;
    this.#isGreeted = true;
    if (isTooLong) {
      this.close(TOO_BIG, "The first frame is too long.");
      return;
    }
    for (const message of decodeFrame(frame)) {
      if (this.onMessage === null) this.received.push(message);
      else this.onMessage(message[0], message[1]);
    }
  }

  /** Take the client's close; for `FakeSocket`. */
  leave(code: number, reason: string): void {
    if (this.#state === "over") return;
    const isHeard = this.#state !== "silent";
    this.#state = "over";
    this.closedByClient = { code, reason };
    if (isHeard) this.onEnd?.();
  }

  #over(code: number, reason: string): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.onEnd?.();
    this.#socket.tell("close", { code, reason });
  }
}
