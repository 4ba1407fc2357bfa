/** The client as applications use it. Owns who waits for what: replies by request id, channels by name. */

import { Channel, type ChannelHost } from "./channel.js";
import { ClientCore } from "./core/core.js";
import { openNoEntries } from "./core/entries.js";
import { RequestFailed } from "./core/errors.js";
import type { Fact, RequestResult, StateChanged } from "./core/facts.js";
import type { ConnectionState } from "./core/tables.js";
import { Engine } from "./shell/engine.js";
import { completeEnvironment, type Environment } from "./shell/environment.js";
import type { TokenSource } from "./shell/tokens.js";

/**
 * Requests that may wait for an answer; further ones are refused (REFUSE). Half of what a session may send at once, so
 * that resending all after a reconnect meets no rate limit.
 */
const MAX_REQUESTS = 1024;

/** What a client is made with. */
export interface ClientOptions {
  /** `wss://host/ws`; in a page also a path, `/ws`. */
  readonly url: string;
  /**
   * Returns a fresh JWT: asked before the first connection, before the present token runs out, and when the server refuses
   * it. Null means that the user is logged out: the client waits in `needs-auth` until `setToken` or `connect`. Without
   * it the client is anonymous.
   */
  readonly getToken?: TokenSource | undefined;
  /** Name of this user's clients on this device. */
  readonly group?: string | undefined;
  /** What is outside, in place of the platform's: for tests, and `WebSocket` where the platform has none. */
  readonly environment?: Partial<Environment> | undefined;
}

/** What the connection is doing and why. Never changed: a new one takes its place. */
export interface ConnectionStatus {
  readonly state: ConnectionState;
  /** Close code that led here; null when none did. */
  readonly code: number | null;
  /** For people; may be empty. */
  readonly reason: string;
  /** Which dial this is, or was, since a connection was last stable: 1 for the first; 0 before any. */
  readonly attempt: number;
  /** Wall clock, ms since 1970, of the next dial; null when none is due. */
  readonly retryAt: number | null;
  /** Whether there ever was a session. */
  readonly hasConnected: boolean;
}

interface Reply {
  resolve(result: RequestResult): void;
  reject(error: Error): void;
}

/** A connection that comes back, and what is done over it. Made by `createClient`; does nothing before `connect`. */
export class Client {
  readonly #engine: Engine;
  readonly #host: ChannelHost;
  readonly #replies = new Map<number, Reply>();
  readonly #channels = new Map<string, Channel>();
  readonly #stateListeners = new Set<{ readonly call: (status: ConnectionStatus) => void }>();
  #status: ConnectionStatus = {
    state: "idle",
    code: null,
    reason: "",
    attempt: 0,
    retryAt: null,
    hasConnected: false,
  };

  /** Use `createClient`. */
  constructor(options: ClientOptions) {
    const environment = completeEnvironment(options.environment);
    const getToken = options.getToken ?? null;
    const core = new ClientCore(() => environment.random(), openNoEntries, {
      group: options.group ?? null,
      hasTokenSource: getToken !== null,
    });
    this.#engine = new Engine(core, environment, { url: options.url, getToken }, (fact) => this.#tell(fact));
    this.#host = {
      engine: this.#engine,
      call: (ask) => this.#call(ask),
      clientId: () => this.clientId,
    };
  }

  /** What the connection is doing. */
  get state(): ConnectionState {
    return this.#status.state;
  }

  /** What the connection is doing and why; the same object until something changes. */
  get status(): ConnectionStatus {
    return this.#status;
  }

  /** The id the server gave this client; it stays over reconnects. Null before the first connection. */
  get clientId(): string | null {
    return this.#engine.core.claims[0]?.client ?? null;
  }

  /** Begin to connect, or go on after `disconnect`; in `needs-auth`, ask `getToken` again. Returns at once. */
  connect(): void {
    this.#engine.connect();
  }

  /** End the connection until `connect`. What waits for it goes on waiting. */
  disconnect(): void {
    this.#engine.run(() => this.#engine.core.suspend("application", "The application disconnected."));
  }

  /** Leave and end for good: promises that wait are rejected with `ClientClosed`, listeners are told. */
  close(): void {
    this.#engine.run(() => this.#engine.core.close());
  }

  /** Dial at once if a dial is waited for, and find out whether a connection that seems to be there still is. */
  wake(): void {
    this.#engine.run((now) => this.#engine.core.wake(now));
  }

  /** Use a newer token of the same user, at once and on later connections. For another user make another client. */
  setToken(token: string): void {
    this.#engine.useToken(token);
  }

  /** Be told every change of `status`; return the function that ends that. */
  onState(listener: (status: ConnectionStatus) => void): () => void {
    const own = { call: listener };
    this.#stateListeners.add(own);
    return () => {
      this.#stateListeners.delete(own);
    };
  }

  /** Return the channel of this name, `namespace:name`: always the same object. */
  channel(name: string): Channel {
    let channel = this.#channels.get(name);
    if (channel === undefined) {
      channel = new Channel(name, this.#host);
      this.#channels.set(name, channel);
    }
    return channel;
  }

  #call(ask: (core: ClientCore) => number): Promise<RequestResult> {
    return new Promise((resolve, reject) => {
      if (this.#replies.size >= MAX_REQUESTS) {
        throw new RequestFailed("overloaded", `${MAX_REQUESTS} requests wait for an answer already.`, true);
      }
      this.#engine.run(() => {
        this.#replies.set(ask(this.#engine.core), { resolve, reject });
      });
    });
  }

  // ------------------------------------------------------------------------------- facts

  #tell(fact: Fact): void {
    switch (fact.kind) {
      case "state":
        this.#stateChanged(fact);
        break;
      case "settled": {
        const reply = this.#replies.get(fact.requestId);
        this.#replies.delete(fact.requestId);
        if (fact.error === null) reply?.resolve(fact.result);
        else reply?.reject(fact.error);
        break;
      }
      case "complaint":
        this.#engine.environment.log(`syncd: ${fact.code}: ${fact.message}`);
        break;
      case "entries":
        break;
      default: {
        // A listener may have closed the client: what still waits is not told, but for the end itself.
        const isOver = this.#engine.core.state === "closed" && fact.kind !== "subscription";
        if (!isOver) this.#channels.get(fact.channel)?.take(fact);
      }
    }
  }

  #stateChanged({ state, code, reason, attempt, retryAt }: StateChanged): void {
    const { environment } = this.#engine;
    const wallRetryAt = retryAt === null ? null : environment.wallNow() + retryAt - environment.now();
    const hasConnected = this.#status.hasConnected || state === "connected";
    const status = { state, code, reason, attempt, retryAt: wallRetryAt, hasConnected };
    this.#status = status;
    for (const listener of [...this.#stateListeners]) {
      if (!this.#stateListeners.has(listener)) continue;
      try {
        listener.call(status);
      } catch (error) {
        environment.reportError(error);
      }
    }
  }
}

/**
 * Make a client. Nothing happens before `client.connect()`: subscriptions and requests may be made before and wait.
 *
 * @throws TypeError the platform has no WebSocket and none is given.
 */
export function createClient(options: ClientOptions): Client {
  return new Client(options);
}
