/** Requests of the application: publish, history, read, presence, token. Pure; owned by `ClientCore`. Each settles once. */

import type { Body } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";
import { eventFromBody, field, listOfMaps, positionFromBody } from "../wire/frames.js";
import type { Random } from "./backoff.js";
import type { ConnectionCore } from "./connection.js";
import { ClientClosed, RequestFailed } from "./errors.js";
import type { Output, RequestResult } from "./facts.js";
import { type Request, Requests } from "./requests.js";
import { isFinal } from "./tables.js";

/** Requests over any number of connections, and the presence states that go with them. */
export class Asking {
  readonly #connection: ConnectionCore;
  readonly #send: (message: Encoded) => void;
  readonly #tell: (output: Output) => void;
  readonly #requests: Requests;
  /** Presence states to announce anew on every connection, by channel. */
  readonly #announced = new Map<string, unknown>();

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
    this.#connection = connection;
    this.#send = send;
    this.#tell = tell;
    this.#requests = new Requests(random);
  }

  // ------------------------------------------------------------------------------- connection and time

  /** A session is there: announce presence, and send everything that has no answer, oldest first. */
  wentOnline(): void {
    const { token, hasNewerToken } = this.#connection;
    if (hasNewerToken && token !== null) this.#openInternal("auth", "", { token });
    for (const [channel, state] of this.#announced) {
      if (this.#requests.ofKind("presence", channel).length === 0) {
        this.#openInternal("presence", channel, { channel, state });
      }
    }
    for (const request of this.#requests.allToSend()) this.#sendRequest(request);
  }

  /** Make a request of the core's own, which is sent with all the others. */
  #openInternal(kind: string, channel: string, body: Body): void {
    const id = this.#requests.nextId();
    this.#requests.open(id, kind, encodeMessage(kind, { id, ...body }), channel, true);
  }

  /** The session is gone; the next hello brings the newest token by itself. */
  wentOffline(): void {
    for (const request of this.#requests.ofKind("auth", "")) this.#requests.close(request.id);
  }

  /** Take every announcement back. */
  leaveAll(): void {
    for (const channel of this.#announced.keys()) this.sendWithId("presence", { channel });
  }

  /** The client is over: settle everything. */
  endAll(error: Error): void {
    this.#announced.clear();
    for (const request of this.#requests.closeAll()) this.#settle(request, null, error);
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    return this.#requests.nextRetryAt();
  }

  /** Send again what was put off until now. */
  tick(now: number): void {
    for (const request of this.#requests.due(now)) this.#send(request.message);
  }

  // ------------------------------------------------------------------------------- the application asks

  /**
   * Announce a state (null leaves), now and on every later connection.
   *
   * A state still on its way is superseded; who waits for it is told so by an ok.
   */
  setPresence(channel: string, state: unknown): number {
    const older = this.#requests.ofKind("presence", channel);
    const id = this.ask("presence", { channel, state });
    for (const request of older) {
      this.#requests.close(request.id);
      this.#settle(request);
    }
    if (state === null || state === undefined) this.#announced.delete(channel);
    else if (this.#requests.find(id) !== undefined) this.#announced.set(channel, state);
    return id;
  }

  /** Nobody waits for this request any more: do not send it again. */
  forget(requestId: number): void {
    this.#requests.close(requestId);
  }

  /**
   * Make a request that is sent until it has its answer; return its number.
   *
   * @throws TypeError, RangeError the body has no form on the wire; nothing was made.
   */
  ask(kind: string, body: Body, isInternal = false): number {
    const id = this.#requests.nextId();
    const message = encodeMessage(kind, { id, ...body });
    const channel = typeof body["channel"] === "string" ? body["channel"] : "";
    const request = this.#requests.open(id, kind, message, channel, isInternal);
    if (isFinal(this.#connection.state)) {
      this.#requests.close(id);
      this.#settle(request, null, this.#connection.error ?? new ClientClosed());
    } else if (this.#connection.state === "connected") this.#sendRequest(request);
    return id;
  }

  /** Send a message whose answer is taken elsewhere, or by nobody. */
  sendWithId(kind: string, body: object): number {
    const id = this.#requests.nextId();
    this.#send(encodeMessage(kind, { id, ...body }));
    return id;
  }

  /** Send it, unless the server is known to refuse its size by ending the connection. */
  #sendRequest(request: Request): void {
    const limit = this.#connection.maxFrameBytes;
    const size = request.message.bytes.length;
    if (size <= limit) {
      this.#send(request.message);
      return;
    }
    this.#requests.close(request.id);
    const text = `The message has ${size} bytes; the server takes ${limit}.`;
    if (request.kind === "presence") this.#announced.delete(request.channel);
    this.#settle(request, null, new RequestFailed("too_large", text));
  }

  #settle(request: Request, result: RequestResult = null, error: Error | null = null): void {
    if (!request.isInternal) this.#tell({ kind: "settled", requestId: request.id, result, error });
    else if (error instanceof RequestFailed) {
      this.#tell({ kind: "complaint", code: error.code, message: error.message });
    }
  }

  // ------------------------------------------------------------------------------- the server answers

  /** Take an `ok`. */
  answered(body: Body): void {
    const request = this.#requests.find(field(body, "id", "number"));
    if (request === undefined) return;
    const result = resultOf(request.kind, body);
    this.#requests.close(request.id);
    this.#settle(request, result);
  }

  /** Take an error; return whether it answered one of these requests. */
  refused(requestId: number, error: RequestFailed, now: number): boolean {
    const request = this.#requests.find(requestId);
    if (request === undefined) return false;
    if (error.retryable) {
      this.#requests.postpone(request, now, error.afterMs ?? 0);
      return true;
    }
    this.#requests.close(requestId);
    if (request.kind === "presence") this.#announced.delete(request.channel);
    this.#settle(request, null, error);
    return true;
  }
}

function resultOf(kind: string, body: Body): RequestResult {
  if (kind.startsWith("rebuild")) return { job: body["job"] };
  const position = positionFromBody(body);
  if (kind === "history") {
    return { position, events: (body["events"] ? listOfMaps(body, "events") : []).map(eventFromBody) };
  }
  if (kind !== "read") return position;
  const entries = (body["entries"] ? listOfMaps(body, "entries") : []).map((entry) => ({
    key: field(entry, "key", "string"),
    version: field(entry, "version", "number"),
    value: entry["value"] ?? null,
    isDeleted: entry["deleted"] === true,
  }));
  return { position, entries };
}
