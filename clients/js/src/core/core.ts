/**
 * The client without its socket, its clock and its randomness.
 *
 * `ClientCore` owns everything a client knows. The shell, tests and simulators tell it what happened and perform what
 * `take` returns. Methods never wait and never call back. Times are milliseconds on the shell's monotonic clock. What
 * concerns one of its parts alone is said to that part; what concerns several, here.
 */

import { decodeFrame } from "../wire/decode.js";
import { type Encoded, encodeMessage } from "../wire/encode.js";
import {
  BadServerMessage,
  flagOf,
  optionalNumber,
  optionalString,
  packFrames,
  textOf,
} from "../wire/frames.js";
import { AppliedAge } from "./age.js";
import { Asking } from "./asking.js";
import type { Random } from "./backoff.js";
import { ChannelTable } from "./channels.js";
import { ConnectionCore, type ConnectionOptions, PROTOCOL_ERROR, type Suspender } from "./connection.js";
import type { EntriesRoom, Handler, OpenEntries } from "./entries.js";
import { ClientClosed, RequestFailed } from "./errors.js";
import type { Output } from "./facts.js";
import type { ConnectionState } from "./tables.js";

/** One client over any number of connections. */
export class ClientCore<Room extends EntriesRoom = EntriesRoom> {
  readonly connection: ConnectionCore;
  readonly requests: Asking;
  readonly channels: ChannelTable;
  /** Collections and mutations. */
  readonly entries: Room;
  readonly #outputs: Output[] = [];
  readonly #messages: Encoded[] = [];
  readonly #age = new AppliedAge();
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
    this.connection = connection;
    this.requests = asking;
    this.channels = new ChannelTable(random, request, tell);
    this.entries = openEntries({ random, request, send, tell, connection });
    this.#handlers = new Map(Object.entries(this.#allHandlers()));
  }

  #allHandlers(): Record<string, Handler> {
    const handlers: Record<string, Handler> = {
      welcome: (body, now) => {
        if (!this.connection.greeted(body, now)) return;
        this.#age.greeted(body["server_time_ms"] as number, now);
        this.connection.blame(Math.max(...this.requests.sizes, ...this.entries.sizes));
        this.entries.greeted(body, now);
        this.channels.wentOnline();
        this.requests.wentOnline();
      },
      ok: (body) => this.requests.answered(body),
      error: (body, now) => {
        const code = textOf(body, "code");
        const message = textOf(body, "message");
        const retryable = flagOf(body, "retryable");
        const error = new RequestFailed(code, message, retryable, optionalNumber(body, "after_ms"));
        const id = optionalNumber(body, "id");
        const isOfMutation = optionalNumber(body, "mid") !== null;
        if (id !== null) this.#rooms.some((room) => room.refused(id, error, now));
        else if (isOfMutation) this.entries.mutationFailed(body, error, now);
        if (id === null && !(isOfMutation && retryable)) {
          this.#outputs.push({ kind: "complaint", code, message });
        }
      },
      reset: (body, now) => {
        const scope = textOf(body, "scope");
        if (scope !== "channel") {
          const client = scope === "client" ? optionalString(body, "client") : null;
          this.connection.forgetClient(client);
          this.entries.forgetClient(client);
        }
        if (scope !== "client") {
          const channel = scope === "all" ? null : textOf(body, "channel");
          this.channels.reset(channel, now);
          this.entries.reset(channel, now);
        }
      },
      ping: () => {
        this.#messages.push(encodeMessage("pong", this.#age.take()));
      },
      bye: (body) => {
        this.#flush();
        this.connection.saidBye(body);
      },
      ...this.channels.handlers,
    };
    for (const [kind, handler] of Object.entries(this.entries.handlers)) {
      const first = handlers[kind];
      handlers[kind] = (body, now) => {
        first?.(body, now);
        handler(body, now);
      };
    }
    return handlers;
  }

  // ------------------------------------------------------------------------------- what it knows

  /** What the connection is doing. */
  get state(): ConnectionState {
    return this.connection.state;
  }

  /** When `tick` has something to do; infinity for never. */
  nextDeadline(): number {
    const rooms = this.state === "connected" ? this.#rooms : [];
    return Math.min(...[this.connection, ...rooms].map((room) => room.nextDeadline()));
  }

  get #rooms(): readonly [Asking, ChannelTable, Room] {
    return [this.requests, this.channels, this.entries];
  }

  /** Return and forget everything to be done and told since the last time, in order. */
  take(): Output[] {
    this.entries.flush();
    this.#flush();
    if (this.state === "connected" && this.entries.needsSession) this.connection.hangUp();
    return this.#outputs.splice(0);
  }

  #flush(): void {
    for (const data of packFrames(this.#messages.splice(0), this.connection.packBytes)) {
      this.#outputs.push({ do: "send", data });
    }
  }

  // ------------------------------------------------------------------------------- lifecycle

  /** End the connection, if there is one, and come back at `connect` by the same. Nothing that waits is given up. */
  suspend(by: Suspender, reason: string): void {
    this.#flush();
    this.connection.suspend(by, reason);
    this.#afterLoss();
  }

  /** Leave politely and end for good; open requests settle with `ClientClosed`. */
  close(): void {
    if (this.state === "connected") this.requests.leaveAll();
    this.#flush();
    this.connection.close();
    if (this.state === "closed") this.#endEverything(new ClientClosed());
  }

  /** Use a newer token of the same user, on this connection and later ones; also the answer to `ask-token`. */
  tokenSupplied(now: number, token: string): void {
    this.connection.tokenSupplied(now, token);
    if (this.state === "connected") this.requests.ask("auth", { token }, true);
  }

  /** Answer `dial`: the connection or the attempt is over. `code` is 1006 when there was none. */
  closed(now: number, code: number, reason = ""): void {
    this.#messages.length = 0;
    this.connection.closed(now, code, reason);
    this.#afterLoss();
  }

  #afterLoss(): void {
    if (this.state === "connected") return;
    for (const room of this.#rooms) room.wentOffline();
    if (this.connection.error) this.#endEverything(this.connection.error);
  }

  #endEverything(error: Error): void {
    this.channels.endAll(error);
    this.entries.endAll(error);
    this.requests.endAll(error);
  }

  /** Do what is due. */
  tick(now: number): void {
    this.connection.tick(now);
    if (this.state === "connected") for (const room of this.#rooms) room.tick(now);
  }

  // ------------------------------------------------------------------------------- the server speaks

  /** Take one binary frame. Unknown messages are ignored; a broken one ends the connection. */
  receive(data: Uint8Array, now: number): void {
    if (!this.connection.isListening) return;
    this.connection.heard(now);
    try {
      for (const [kind, body] of decodeFrame(data)) {
        if (!this.connection.isListening) continue;
        this.#handlers.get(kind)?.(body, now);
        if (kind === "event") this.#age.applied(body["at_ms"], now);
      }
    } catch (error) {
      if (!(error instanceof BadServerMessage)) throw error;
      this.connection.hangUp(PROTOCOL_ERROR, error.message);
    }
  }
}
