/** The client as applications use it. Owns who waits for what: replies by request id, channels by name. */

import { Channel } from "./channel.js";
import type { Collection } from "./collection.js";
import { ClientCore } from "./core/core.js";
import type { Invalidation, MutationOutcome } from "./core/entries/facts.js";
import { StateRoom } from "./core/entries/room.js";
import { RequestFailed } from "./core/errors.js";
import type { Fact, JobResult, RequestResult, StateChanged } from "./core/facts.js";
import { type ConnectionState, isFinal } from "./core/tables.js";
import { callAll, type Listeners, listen } from "./listeners.js";
import { flatten, type Mutate, type MutatorMap, mutateOf } from "./mutation.js";
import { Engine, type Host } from "./shell/engine.js";
import { completeEnvironment, type Environment, newId } from "./shell/environment.js";
import type { Keeping } from "./shell/keeping.js";
import type { PendingStore } from "./shell/pending-store.js";
import type { TokenSource } from "./shell/tokens.js";
import { ClientState } from "./state.js";
import type { Body } from "./wire/decode.js";

/**
 * Requests that may wait for an answer; further ones are refused (REFUSE). Half of what a session may send at once, so
 * that resending all after a reconnect meets no rate limit.
 */
const MAX_REQUESTS = 1024;

/** What a client is made with. */
export interface ClientOptions<Own extends MutatorMap = Record<never, never>> {
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
  /** What predicts mutations, by full name or by collection and name. The built-in ones need none. */
  readonly mutators?: Own | undefined;
  /** Keeps mutations before they are sent, so that they survive this page; without it they live in memory. */
  readonly store?: PendingStore | undefined;
  /** `sharedTabs({ user })` of `syncd-client/tabs`: one connection for all tabs of this user. Without it each has its own. */
  readonly tabs?: Tabs | undefined;
  /** What is outside, in place of the platform's: for tests, and `WebSocket` where the platform has none. */
  readonly environment?: Partial<Environment> | undefined;
}

/** Lets clients of other tabs take part: `SharedTabs` of `syncd-client/tabs`. */
export interface Tabs {
  /** Return the environment with a WebSocket that all tabs share. Called first, once. */
  share(environment: Environment, url: string): Environment;
  /** Return a store that tells other tabs what it keeps. Called after `share`, once. */
  keep(store: PendingStore | undefined): PendingStore | undefined;
  /** Have what they keep predicted in this room, by what is done within `run`. Called after `keep`, once. */
  join(room: StateRoom, run: (act: () => void) => void): void;
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
export class Client<Own extends MutatorMap = Record<never, never>> {
  /**
   * Make a mutation: predict it, keep it, and send it until the server has decided it, which takes effect exactly once.
   *
   * By its full name, `client.mutate("orders.ship", args)`, or as a method where the mutator is registered.
   *
   * @throws MutationFailed the local mutator rejected it by what this client knows. Or whatever it threw.
   * @throws RequestFailed `too_large`; `overloaded`: 900 mutations are pending.
   * @throws TypeError, RangeError the arguments have no form on the wire.
   * @throws ClientClosed, ConnectionStopped the client has ended. In every case nothing was queued and nothing changed.
   */
  readonly mutate: Mutate<Own>;
  readonly #engine: Engine<StateRoom>;
  readonly #entries: ClientState;
  readonly #host: Host;
  readonly #replies = new Map<number, Reply>();
  readonly #channels = new Map<string, Channel>();
  readonly #stateListeners: Listeners<ConnectionStatus> = new Set();
  #wantsConnection = false;
  readonly #keeping: Keeping | undefined;
  #status: ConnectionStatus = {
    state: "idle",
    code: null,
    reason: "",
    attempt: 0,
    retryAt: null,
    hasConnected: false,
  };

  /** Use `createClient`. */
  constructor(options: ClientOptions<Own>) {
    const outside = completeEnvironment(options.environment);
    const environment = options.tabs?.share(outside, options.url) ?? outside;
    const getToken = options.getToken ?? null;
    const own = options.mutators ?? ({} as Own);
    const store = options.tabs ? options.tabs.keep(options.store) : options.store;
    const room = { mutators: flatten(own), hasStore: store !== undefined };
    const core = new ClientCore(
      () => environment.random(),
      (speech) => new StateRoom(speech, room),
      { group: options.group ?? null, hasTokenSource: getToken !== null },
    );
    this.#engine = new Engine(core, environment, { url: options.url, getToken }, (fact) => this.#tell(fact));
    options.tabs?.join(core.entries, (act) => this.#engine.run(act));
    this.#host = { engine: this.#engine, call: (kind, body) => this.#call(kind, body) };
    this.#keeping = store?.join({
      engine: this.#engine,
      another: (other) => new Client({ ...options, tabs: undefined, store: other }),
    });
    this.#entries = new ClientState(this.#host, this.#keeping);
    this.mutate = mutateOf(own, (name, args) => this.#entries.mutate(name, args));
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
    return this.#engine.core.connection.claims[0]?.client ?? null;
  }

  /** Begin to connect, or go on after `disconnect`; in `needs-auth`, ask `getToken` again. Returns at once. */
  connect(): void {
    this.#wantsConnection = true;
    this.#entries.whenLoaded(() => {
      if (!isFinal(this.state)) this.#keeping?.look();
      if (this.#wantsConnection) this.#engine.connect();
    });
  }

  /** End the connection until `connect`. What waits for it goes on waiting. */
  disconnect(): void {
    this.#wantsConnection = false;
    this.#engine.run(() => this.#engine.core.suspend("application", "The application disconnected."));
  }

  /** Leave and end for good: promises that wait are rejected with `ClientClosed`, listeners are told. */
  close(): void {
    this.#engine.run(() => this.#engine.core.close());
  }

  /** Dial at once if a dial is waited for, and find out whether a connection that seems to be there still is. */
  wake(): void {
    this.#engine.run((now) => this.#engine.core.connection.wake(now));
  }

  /** Use a newer token of the same user, at once and on later connections. For another user make another client. */
  setToken(token: string): void {
    this.#engine.useToken(token);
  }

  /** Be told every change of `status`; return the function that ends that. */
  onState(listener: (status: ConnectionStatus) => void): () => void {
    return listen(this.#stateListeners, listener);
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

  /** Return the collection of this name: always the same object. */
  collection<Value = unknown>(name: string): Collection<Value> {
    return this.#entries.collection(name) as Collection<Value>;
  }

  /** Wait until no mutation is pending, those of earlier pages included. */
  settled(): Promise<void> {
    return this.#entries.settled();
  }

  /** How many mutations are not settled, those of earlier pages included. */
  get numPending(): number {
    return this.#entries.numPending;
  }

  /** Be told every change of `numPending`; return the function that ends that. */
  onPending(listener: (numPending: number) => void): () => void {
    return listen(this.#entries.onPending, listener);
  }

  /** Be told entries that may have changed at their source, of watched collections; return the function that ends that. */
  onInvalidate(listener: (invalidation: Invalidation) => void): () => void {
    return listen(this.#entries.onInvalidate, listener);
  }

  /** Be told how every mutation ended, those of earlier pages included; return the function that ends that. */
  onOutcome(listener: (outcome: MutationOutcome) => void): () => void {
    return listen(this.#entries.onOutcome, listener);
  }

  /**
   * Make one of the operators' requests, and return its answer. `syncd-client/rebuild` is made of these.
   *
   * @throws RequestFailed the server refuses it.
   */
  async request(kind: "rebuild" | "rebuild_cancel", body: object): Promise<JobResult> {
    return (await this.#call(kind, { ...body })) as JobResult;
  }

  /** Make a key for a new entry, or any other name, that nobody else makes: 32 hexadecimal digits. */
  newId(): string {
    return newId(this.#engine.environment);
  }

  #call(kind: string, body: Body): Promise<RequestResult> {
    return new Promise((resolve, reject) => {
      if (this.#replies.size >= MAX_REQUESTS) {
        throw new RequestFailed("overloaded", `${MAX_REQUESTS} requests wait for an answer already.`, true);
      }
      this.#engine.run(() => {
        this.#replies.set(this.#engine.core.asking.ask(kind, body), { resolve, reject });
      });
    });
  }

  // ------------------------------------------------------------------------------- facts

  #tell(fact: Fact): void {
    if (fact.kind === "state") this.#stateChanged(fact);
    else if (fact.kind === "entries") this.#entries.take(fact.fact);
    else if (fact.kind === "settled") {
      const reply = this.#replies.get(fact.requestId);
      this.#replies.delete(fact.requestId);
      if (fact.error) reply?.reject(fact.error);
      else reply?.resolve(fact.result);
    } else if (fact.kind === "complaint") {
      this.#engine.environment.log(`syncd: ${fact.code}: ${fact.message}`);
    } else if (this.#engine.core.state !== "closed" || fact.kind === "subscription") {
      // A listener may have closed the client: what still waits is not told, but for the end itself.
      this.#channels.get(fact.channel)?.take(fact);
    }
  }

  #stateChanged({ state, code, reason, attempt, retryAt }: StateChanged): void {
    const { environment } = this.#engine;
    const wallRetryAt = retryAt === null ? null : environment.wallNow() + retryAt - environment.now();
    const hasConnected = this.#status.hasConnected || state === "connected";
    const status = { state, code, reason, attempt, retryAt: wallRetryAt, hasConnected };
    this.#status = status;
    if (isFinal(state)) this.#keeping?.stop();
    callAll(this.#stateListeners, status, this.#engine);
  }
}

/**
 * Make a client. Nothing happens before `client.connect()`: subscriptions and requests may be made before and wait.
 *
 * @throws TypeError the platform has no WebSocket and none is given.
 */
export function createClient<const Own extends MutatorMap = Record<never, never>>(
  options: ClientOptions<Own>,
): Client<Own> {
  return new Client(options);
}
