/**
 * The client without its socket, its clock and its randomness.
 *
 * `ClientCore` owns everything a client knows. The shell, tests and simulators tell it what happened and perform what
 * `take` returns. Methods never wait and never call back. Times are milliseconds on the shell's monotonic clock.
 */

import type { Body } from "../wire/decode.js";
import { BadFrame, decodeFrame } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";
import { BadServerMessage, field, optionalNumber, optionalString, packFrames } from "../wire/frames.js";
import type { ClientClaim, Position } from "../wire/messages.js";
import { Asking } from "./asking.js";
import type { Random } from "./backoff.js";
import { ChannelTable } from "./channels.js";
import { ConnectionCore, type ConnectionOptions, type Suspender } from "./connection.js";
import type { EntriesRoom, Handler, OpenEntries } from "./entries.js";
import { ClientClosed, RequestFailed } from "./errors.js";
import type { Output } from "./facts.js";
import type { SubscriptionCore } from "./subscription.js";
import type { ConnectionState } from "./tables.js";

/** What one event to publish consists of. */
export interface Publication {
  readonly channel: string;
  readonly data: unknown;
  /** Idempotency key; the event happens once however often it is sent. */
  readonly uid: string;
  readonly name?: string | null | undefined;
  readonly key?: string | null | undefined;
}

/** What part of the past is asked for. */
export interface HistoryQuery {
  readonly limit: number;
  readonly since?: Position | null | undefined;
  /** Newest first. */
  readonly reverse?: boolean | undefined;
}

/** One client over any number of connections. */
export class ClientCore<Room extends EntriesRoom = EntriesRoom> {
  /** Collections and mutations. */
  readonly entries: Room;
  readonly #outputs: Output[] = [];
  readonly #messages: Encoded[] = [];
  readonly #connection: ConnectionCore;
  readonly #asking: Asking;
  readonly #channels: ChannelTable;
  readonly #handlers: ReadonlyMap<string, Handler>;

  /**
   * @param random Source of jitter.
   * @param openEntries Opens the room of collections and mutations; `openNoEntries` for none.
   * @param options What the connection begins with.
   */
  constructor(random: Random, openEntries: OpenEntries<Room>, options: ConnectionOptions = {}) {
    const tell = (output: Output): void => {
      this.#outputs.push(output);
    };
    const send = (message: Encoded): void => {
      this.#messages.push(message);
    };
    const connection = new ConnectionCore(random, tell, options);
    const asking = new Asking(random, connection, send, tell);
    const request = (kind: string, body: object): number => asking.sendWithId(kind, body);
    this.#connection = connection;
    this.#asking = asking;
    this.#channels = new ChannelTable(random, request, tell);
    this.entries = openEntries({
      random,
      request,
      send,
      tell,
      state: () => connection.state,
      maxFrameBytes: () => connection.maxFrameBytes,
      hangUpAnew: () => connection.hangUpAnew(),
    });
    this.#handlers = new Map(Object.entries(this.#allHandlers()));
  }

  #allHandlers(): Record<string, Handler> {
    const handlers: Record<string, Handler> = {
      welcome: (body, now) => this.#onWelcome(body, now),
      ok: (body) => this.#asking.answered(body),
      error: (body, now) => this.#onError(body, now),
      reset: (body, now) => this.#onReset(body, now),
      ping: () => {
        this.#messages.push(encodeMessage("pong", {}));
      },
      bye: (body) => {
        this.#flush();
        this.#connection.saidBye(body);
      },
      ...this.#channels.handlers,
      ...this.entries.handlers,
    };
    for (const [kind, handler] of Object.entries(this.entries.sharedHandlers)) {
      const channels = handlers[kind];
      handlers[kind] = (body, now) => {
        channels?.(body, now);
        handler(body, now);
      };
    }
    return handlers;
  }

  // ------------------------------------------------------------------------------- what it knows

  /** What the connection is doing. */
  get state(): ConnectionState {
    return this.#connection.state;
  }

  /** Why the connection failed for good; null while it did not. */
  get error(): Error | null {
    return this.#connection.error;
  }

  /** Client ids it speaks for, and their secrets. */
  get claims(): readonly ClientClaim[] {
    return this.#connection.claims;
  }

  /** Return the subscription of a channel, to look at. */
  findSubscription(channel: string): SubscriptionCore | undefined {
    return this.#channels.find(channel);
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    const deadline = this.#connection.nextDeadline();
    if (this.state !== "connected") return deadline;
    const rooms = [this.#asking, this.#channels, this.entries];
    return Math.min(deadline, ...rooms.map((room) => room.nextDeadline()));
  }

  /** Return and forget everything to be done and told since the last time, in order. */
  take(): Output[] {
    this.entries.flush();
    this.#flush();
    return this.#outputs.splice(0);
  }

  #flush(): void {
    for (const data of packFrames(this.#messages.splice(0), this.#connection.maxFrameBytes)) {
      this.#outputs.push({ do: "send", data });
    }
  }

  // ------------------------------------------------------------------------------- lifecycle

  /** Begin to connect; or go on after `suspend`; or ask again for the token that there was not. */
  connect(now: number, by: Suspender = "application"): void {
    this.#connection.connect(now, by);
  }

  /** End the connection, if there is one, and come back at `connect` by the same. Nothing that waits is given up. */
  suspend(by: Suspender, reason: string): void {
    this.#flush();
    this.#connection.suspend(by, reason);
    this.#afterLoss();
  }

  /** Leave politely and end for good; open requests settle with `ClientClosed`. */
  close(): void {
    if (this.state === "connected") this.#asking.leaveAll();
    this.#flush();
    this.#connection.close();
    if (this.state === "closed") this.#endEverything(new ClientClosed());
  }

  /** Dial at once if a dial is waited for; probe a connection that seems to be there. */
  wake(now: number): void {
    this.#connection.wake(now);
  }

  /** Speak with this leadership term from the next `hello` on. */
  setTerm(term: number): void {
    this.#connection.term = term;
  }

  /** Use a newer token of the same user, on this connection and later ones; also the answer to `ask-token`. */
  tokenSupplied(now: number, token: string): void {
    this.#connection.tokenSupplied(now, token);
    if (this.state === "connected") this.#asking.ask("auth", { token }, true);
  }

  /** Speak for these clients of earlier pages from the first `hello` on; only before `connect`. */
  claim(claims: readonly ClientClaim[]): void {
    this.#connection.claims = claims;
  }

  /** Answer `ask-token`: not now, ask again later. */
  tokenUnavailable(now: number, reason: string): void {
    this.#connection.tokenUnavailable(now, reason);
  }

  /** Answer `ask-token`: there is none until `tokenSupplied` or `connect`. */
  tokenMissing(): void {
    this.#connection.tokenMissing();
  }

  /** Answer `dial`: the WebSocket is open. */
  connectSucceeded(): void {
    this.#connection.connectSucceeded();
  }

  /** Answer `dial`: the connection or the attempt is over. `code` is 1006 when there was none. */
  closed(now: number, code: number, reason = ""): void {
    this.#messages.length = 0;
    this.#connection.closed(now, code, reason);
    this.#afterLoss();
  }

  #afterLoss(): void {
    if (this.state === "connected") return;
    this.#channels.wentOffline();
    this.entries.wentOffline();
    this.#asking.wentOffline();
    if (this.#connection.error !== null) this.#endEverything(this.#connection.error);
  }

  #endEverything(error: Error): void {
    this.#channels.endAll(error.message);
    this.entries.endAll(error);
    this.#asking.endAll(error);
  }

  /** Do what is due. */
  tick(now: number): void {
    this.#connection.tick(now);
    if (this.state !== "connected") return;
    this.#asking.tick(now);
    this.#channels.tick(now);
    this.entries.tick(now);
  }

  // ------------------------------------------------------------------------------- the application asks

  /** Subscribe, or begin anew from another position; return the generation of the facts that follow. */
  subscribe(channel: string, position: Position | null = null, hasPresence = false): number {
    return this.#channels.subscribe(channel, position, hasPresence);
  }

  /** Add presence to a subscription that is there. */
  watchPresence(channel: string): void {
    this.#channels.watchPresence(channel);
  }

  /** End a subscription. */
  unsubscribe(channel: string): void {
    this.#channels.unsubscribe(channel);
  }

  /** Publish; the request is resent until answered, under one idempotency key. Returns its number. */
  publish({ channel, data, uid, name, key }: Publication): number {
    return this.#asking.ask("publish", { channel, name, data, key, uid });
  }

  /** Ask for events of the past. */
  history(channel: string, { limit, since, reverse }: HistoryQuery): number {
    return this.#asking.ask("history", { channel, since, limit, reverse: reverse || null });
  }

  /** Make a request that has no method of its own. */
  request(kind: string, body: object): number {
    return this.#asking.ask(kind, { ...body });
  }

  /** Ask for entries of a collection once, at least as new as `after` (channel to position). */
  read(collection: string, keys: readonly string[], after?: Record<string, Position>): number {
    return this.#asking.ask("read", { collection, keys, after });
  }

  /** Announce a state (null leaves), now and on every later connection. */
  setPresence(channel: string, state: unknown): number {
    return this.#asking.setPresence(channel, state);
  }

  /** Nobody waits for this request any more: do not send it again. */
  forget(requestId: number): void {
    this.#asking.forget(requestId);
  }

  // ------------------------------------------------------------------------------- the server speaks

  /** Take one binary frame. Unknown messages are ignored; a broken one ends the connection. */
  receive(data: Uint8Array, now: number): void {
    if (!this.#connection.isListening) return;
    this.#connection.heard(now);
    try {
      for (const [kind, body] of decodeFrame(data)) {
        if (this.#connection.isListening) this.#handlers.get(kind)?.(body, now);
      }
    } catch (error) {
      if (!(error instanceof BadServerMessage || error instanceof BadFrame)) throw error;
      this.#connection.hangUpBroken(error.message);
    }
  }

  #onWelcome(body: Body, now: number): void {
    if (!this.#connection.welcomed(body, now)) return;
    this.entries.welcomed(body, now);
    this.#channels.wentOnline();
    this.#asking.wentOnline();
  }

  #onError(body: Body, now: number): void {
    const code = field(body, "code", "string");
    const message = field(body, "message", "string");
    const retryable = field(body, "retryable", "boolean");
    const error = new RequestFailed(code, message, retryable, optionalNumber(body, "after_ms"));
    const id = optionalNumber(body, "id");
    if (id !== null) {
      const rooms = [this.#asking, this.#channels, this.entries];
      rooms.some((room) => room.refused(id, error, now));
      return;
    }
    const isOfMutation = optionalNumber(body, "mid") !== null;
    if (isOfMutation) this.entries.mutationFailed(body, error, now);
    if (!isOfMutation || !retryable) this.#outputs.push({ kind: "complaint", code, message });
  }

  #onReset(body: Body, now: number): void {
    const scope = field(body, "scope", "string");
    if (scope !== "channel") {
      const client = scope === "client" ? optionalString(body, "client") : null;
      this.#connection.forgetClient(client);
      this.entries.forgetClient(client);
    }
    if (scope !== "client") {
      const channel = scope === "all" ? null : field(body, "channel", "string");
      this.#channels.reset(channel, now);
      this.entries.reset(channel, now);
    }
    if (this.entries.needsSession) this.#connection.hangUpAnew();
  }
}
