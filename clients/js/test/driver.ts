/** Plays the shell and the server to a `ClientCore`, by hand. */

import type { ConnectionOptions, Suspender } from "../src/core/connection.ts";
import { ClientCore } from "../src/core/core.ts";
import { type EntriesRoom, openNoEntries } from "../src/core/entries.ts";
import type { Fact, Output, StateChanged } from "../src/core/facts.ts";
import type { SubscriptionCore } from "../src/core/subscription.ts";
import { decodeFrame, type Message } from "../src/wire/decode.ts";
import { encodeMessage } from "../src/wire/encode.ts";
import type { ClientClaim, Position } from "../src/wire/messages.ts";

export const PING_MS = 25_000;

type Body = Record<string, unknown>;

/** Says in a word what its parts are told. */
export class SpokenCore<Room extends EntriesRoom = EntriesRoom> extends ClientCore<Room> {
  get claims(): readonly ClientClaim[] {
    return this.connection.claims;
  }

  get error(): Error | null {
    return this.connection.error;
  }

  connect(now: number, by: Suspender = "application"): void {
    this.connection.connect(now, by);
  }

  connectSucceeded(): void {
    this.connection.connectSucceeded();
  }

  wake(now: number): void {
    this.connection.wake(now);
  }

  tokenMissing(): void {
    this.connection.tokenMissing();
  }

  tokenUnavailable(now: number, reason: string): void {
    this.connection.tokenUnavailable(now, reason);
  }

  subscribe(channel: string, position: Position | null = null, hasPresence = false): number {
    return this.channels.subscribe(channel, position, hasPresence);
  }

  unsubscribe(channel: string): void {
    this.channels.unsubscribe(channel);
  }

  watchPresence(channel: string): void {
    this.channels.watchPresence(channel);
  }

  findSubscription(channel: string): SubscriptionCore | undefined {
    return this.channels.find(channel);
  }

  publish(publication: { readonly channel: string; readonly data: unknown; readonly uid: string }): number {
    return this.requests.ask("publish", publication);
  }

  history(channel: string, query: { readonly limit: number; since?: Position; reverse?: boolean }): number {
    return this.requests.ask("history", { channel, ...query });
  }

  setPresence(channel: string, state: unknown): number {
    return this.requests.ask("presence", { channel, state });
  }
}

export class Driver {
  now = 0;
  readonly core: SpokenCore;
  /** What the next draws of jitter return, as a part of the whole wait. */
  chance = 1 - Number.EPSILON;

  constructor(options: ConnectionOptions = {}) {
    this.core = new SpokenCore(() => this.chance, openNoEntries, options);
  }

  /** Everything told and asked since the last time. */
  take(): Output[] {
    return this.core.take();
  }

  /** The actions since the last time, by name; sent messages by type. */
  actions(): string[] {
    return this.take().flatMap((output) => {
      if (!("do" in output)) return [];
      return output.do === "send" ? decodeFrame(output.data).map(([kind]) => kind) : [output.do];
    });
  }

  /** The messages sent since the last time. */
  sent(): Message[] {
    return this.take().flatMap((output) =>
      "do" in output && output.do === "send" ? decodeFrame(output.data) : [],
    );
  }

  /** The facts told since the last time. */
  facts(): Fact[] {
    return this.take().filter((output): output is Fact => "kind" in output);
  }

  /** Let time pass up to a deadline of the core, or to the end. */
  pass(ms: number): void {
    const end = this.now + ms;
    for (let due = this.core.nextDeadline(); due <= end; due = this.core.nextDeadline()) {
      this.now = Math.max(due, this.now);
      this.core.tick(this.now);
      if (this.core.nextDeadline() <= this.now) throw new Error("A deadline does not go away.");
    }
    this.now = end;
  }

  receive(...messages: [string, Body?][]): void {
    const bytes = messages.map(([kind, body]) => encodeMessage(kind, body ?? {}).bytes);
    this.core.receive(new Uint8Array(Buffer.concat(bytes)), this.now);
  }

  /** Dial, open, be welcomed. */
  connect(): void {
    this.core.connect(this.now);
    this.welcome();
  }

  welcome(body: Body = {}): void {
    this.core.connectSucceeded();
    const clients = [{ client: "c1", secret: "s1", last_mid: 0 }];
    const limits = { ping_ms: PING_MS, max_frame_bytes: 65_536 };
    this.receive(["welcome", { session: "s", clients, server_time_ms: 0, ...limits, ...body }]);
  }

  lose(code = 1006, reason = ""): void {
    this.core.closed(this.now, code, reason);
  }

  /** Answer what the core hangs up, as a shell does. */
  hangUp(): void {
    const output = this.take().find((one) => "do" in one && one.do === "hangup");
    if (output === undefined || !("code" in output)) throw new Error("Nothing was hung up.");
    this.lose(output.code ?? 1006, output.reason);
  }

  /** Let the retry come and the connection succeed. */
  reconnect(): void {
    this.pass(20_000);
    this.welcome();
  }

  /** Subscribe and have it answered; return the id of the request. */
  subscribed(channel: string, position: Body | null, extra: Body = {}): number {
    const id = this.lastId("subscribe", channel);
    const answer = { id, channel, position, was_recovering: false, recovered: false, events: [], ...extra };
    this.receive(["subscribed", answer]);
    return id;
  }

  /** The id of the last request of this kind that was sent, taking all outputs. */
  lastId(kind: string, channel?: string): number {
    const found = this.sent().filter(([k, body]) => k === kind && (!channel || body["channel"] === channel));
    const id = found.at(-1)?.[1]["id"];
    if (typeof id !== "number") throw new Error(`No ${kind} was sent.`);
    return id;
  }
}

/** The body of an event of a stream channel. */
export function event(channel: string, offset: number, data: unknown = offset, extra: Body = {}): Body {
  return { channel, epoch: "e1", prev: offset - 1, offset, data, at_ms: 1, ...extra };
}

/** A position in the epoch of the tests. */
export function at(offset: number, epoch = "e1"): { epoch: string; offset: number } {
  return { epoch, offset };
}

/** What a client told of its connection. */
export function states(driver: Driver): Omit<StateChanged, "kind">[] {
  return driver.facts().flatMap((fact) => {
    if (fact.kind !== "state") return [];
    const { kind: _kind, ...rest } = fact;
    return [rest];
  });
}
