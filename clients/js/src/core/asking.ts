/** Requests of the application: publish, history, read, presence, token. Pure; owned by `ClientCore`. Each settles once. */

import type { Body } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";
import { eventFromBody, listOfMaps, numberOf, positionFromBody, textOf } from "../wire/frames.js";
import { Backoff, earliest, FIRST_RETRY_MS, NEVER, type Random } from "./backoff.js";
import type { ConnectionCore } from "./connection.js";
import { ClientClosed, RequestFailed } from "./errors.js";
import type { Output, RequestResult } from "./facts.js";
import { isFinal } from "./tables.js";

/** One request and its encoded message, which is the same at every attempt. */
interface Request {
  readonly id: number;
  readonly kind: string;
  readonly message: Encoded;
  /** Undefined for requests that concern no channel. */
  readonly channel: unknown;
  /** Nobody waits for it: the core asks for itself. */
  readonly isInternal: boolean;
  readonly backoff: Backoff;
}

/** Requests over any number of connections, and the presence states that go with them. */
export class Asking {
  readonly #random: Random;
  readonly #connection: ConnectionCore;
  readonly #send: (message: Encoded) => void;
  readonly #tell: (output: Output) => void;
  /** Those without an answer, oldest first. Bounded by whoever makes them: the client admits 1,024 at a time. */
  readonly #open = new Map<number, Request>();
  /** Presence states to announce anew on every connection, by channel. */
  readonly #announced = new Map<unknown, unknown>();
  #numMade = 0;

  /**
   * @param random Source of jitter.
   * @param connection Says whether there is one, and what it takes.
   * @param send Send one encoded message.
   * @param tell Queue an output.
   */
  constructor(
    random: Random,
    connection: ConnectionCore,
    send: (message: Encoded) => void,
    tell: (output: Output) => void,
  ) {
    this.#random = random;
    this.#connection = connection;
    this.#send = send;
    this.#tell = tell;
  }

  // ------------------------------------------------------------------------------- connection and time

  /** A session is there: announce presence, and send everything that has no answer, oldest first. */
  wentOnline(): void {
    const { token, hasNewerToken } = this.#connection;
    if (hasNewerToken && token !== null) this.#make("auth", { token }, true);
    for (const [channel, state] of this.#announced) {
      if (this.#ofKind("presence", channel).length === 0) this.#make("presence", { channel, state }, true);
    }
    for (const request of this.#open.values()) {
      request.backoff.dueAt = NEVER;
      this.#sendRequest(request);
    }
  }

  /** The session is gone; the next hello brings the newest token by itself. */
  wentOffline(): void {
    for (const { id } of this.#ofKind("auth")) this.#open.delete(id);
  }

  /** How long the messages are that have no answer. */
  get sizes(): number[] {
    return [...this.#open.values()].map(({ message }) => message.bytes.length);
  }

  /** Take every announcement back. */
  leaveAll(): void {
    for (const channel of this.#announced.keys()) this.sendWithId("presence", { channel });
  }

  /** The client is over: settle everything. */
  endAll(error: Error): void {
    this.#announced.clear();
    for (const request of this.#open.values()) this.#settle(request, null, error);
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return earliest(this.#open.values());
  }

  /** Send what was put off until now. */
  tick(now: number): void {
    for (const { backoff, message } of this.#open.values()) if (backoff.takeDue(now)) this.#send(message);
  }

  // ------------------------------------------------------------------------------- the application asks

  /**
   * Make a request that is sent until it has its answer; return its number.
   *
   * `presence` announces a state (null leaves), now and on every later connection. One still on its way is superseded; who
   * waits for it is told so by an ok.
   *
   * @throws TypeError, RangeError the body has no form on the wire; nothing was made.
   */
  ask(kind: string, body: Body, isInternal = false): number {
    const { channel, state: announced = null } = body;
    const isPresence = kind === "presence";
    const older = isPresence ? this.#ofKind(kind, channel) : [];
    const request = this.#make(kind, body, isInternal);
    const { state, error } = this.#connection;
    if (isFinal(state)) this.#settle(request, null, error ?? new ClientClosed());
    else if (state === "connected") this.#sendRequest(request);
    for (const one of older) this.#settle(one);
    if (isPresence && announced === null) this.#announced.delete(channel);
    else if (isPresence && this.#open.has(request.id)) this.#announced.set(channel, announced);
    return request.id;
  }

  #ofKind(kind: string, channel?: unknown): Request[] {
    return [...this.#open.values()].filter((one) => one.kind === kind && one.channel === channel);
  }

  #make(kind: string, body: Body, isInternal: boolean): Request {
    const id = ++this.#numMade;
    const message = encodeMessage(kind, { id, ...body });
    const backoff = new Backoff(this.#random, FIRST_RETRY_MS);
    const request = { id, kind, message, channel: body["channel"], isInternal, backoff };
    this.#open.set(id, request);
    return request;
  }

  /** Send a message whose answer is taken elsewhere, or by nobody. */
  sendWithId(kind: string, body: object): number {
    const id = ++this.#numMade;
    this.#send(encodeMessage(kind, { id, ...body }));
    return id;
  }

  /** Send it, unless the server is known to refuse its size by ending the connection. */
  #sendRequest(request: Request): void {
    const tooLarge = tooLargeFor(this.#connection.maxFrameBytes, request.message.bytes.length);
    if (tooLarge) this.#fail(request, tooLarge);
    else this.#send(request.message);
  }

  #fail(request: Request, error: RequestFailed): void {
    if (request.kind === "presence") this.#announced.delete(request.channel);
    this.#settle(request, null, error);
  }

  #settle({ id, isInternal }: Request, result: RequestResult = null, error: Error | null = null): void {
    this.#open.delete(id);
    if (!isInternal) this.#tell({ kind: "settled", requestId: id, result, error });
    else if (error instanceof RequestFailed) {
      this.#tell({ kind: "complaint", code: error.code, message: error.message });
    }
  }

  // ------------------------------------------------------------------------------- the server answers

  /** Take an `ok`. */
  answered(body: Body): void {
    const request = this.#open.get(numberOf(body, "id"));
    if (request) this.#settle(request, resultOf(request.kind, body));
  }

  /** Take an error; return whether it answered one of these requests. */
  refused(requestId: number, error: RequestFailed, now: number): boolean {
    const request = this.#open.get(requestId);
    if (!request) return false;
    if (error.retryable) request.backoff.postpone(now, error.afterMs);
    else this.#fail(request, error);
    return true;
  }
}

/** Return the error for a message that a server with this limit would end the connection for. */
export function tooLargeFor(limit: number, bytes: number): RequestFailed | null {
  if (bytes <= limit) return null;
  return new RequestFailed("too_large", `The message has ${bytes} bytes; the server takes ${limit}.`);
}

function resultOf(kind: string, body: Body): RequestResult {
  const position = positionFromBody(body);
  const list = (name: string) => (body[name] ? listOfMaps(body, name) : []);
  if (kind === "history") return { position, events: list("events").map(eventFromBody) };
  if (kind === "read") {
    const entries = list("entries").map((entry) => ({
      key: textOf(entry, "key"),
      version: numberOf(entry, "version"),
      value: entry["value"] ?? null,
      isDeleted: entry["deleted"] === true,
    }));
    return { position, entries };
  }
  return kind.startsWith("rebuild") ? { job: body["job"] } : position;
}
