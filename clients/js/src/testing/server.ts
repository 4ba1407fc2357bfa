/** A server of one process: stream channels and collections in memory, enough to test an application against. */

import type { Body } from "../wire/decode.js";
import type { ClientClaim, ClientState, EventBody, Position } from "../wire/messages.js";
import type { FakeClock } from "./clock.js";
import { type EntriesSession, FakeEntries } from "./entries.js";
import { FakePresence, type PresenceSession } from "./presence.js";
import { FakeRebuilds, REBUILD_CHANNEL } from "./rebuilds.js";
import type { FakeListener, FakeServerEnd } from "./socket.js";

interface Stream {
  epoch: string;
  events: EventBody[];
  /** uid to the position that it was answered with. */
  readonly published: Map<string, Position>;
}

/** A session of the fake server. */
interface Session extends EntriesSession, PresenceSession {
  clients: string[];
  user: string | null;
  readonly subscribed: Set<string>;
  /** What its `hello` said of the tabs that share it. */
  group: string | null;
  term: number;
}

const PING_MS = 25_000;
/** A client that says nothing for so long after a ping is cut off. */
const SILENCE_SLACK_MS = 10_000;
const MAX_FRAME_BYTES = 65_536;

/**
 * Answers hello, subscribe, publish, history and probe as SPEC says of `stream` channels, and keeps every event;
 * `entries` does the same for collections and mutations, `presence` for who is there.
 *
 * All else is answered `not_supported`.
 */
export class FakeServer implements FakeListener {
  /** Whether dials succeed. */
  isReachable = true;
  /** How long it takes until a dial succeeds or fails, ms. */
  latencyMs = 0;
  /** Refuse these tokens with 4401. */
  readonly badTokens = new Set<string>();
  /** Connections in the order in which they were dialled. */
  readonly ends: FakeServerEnd[] = [];
  /** Collections and mutations. */
  readonly entries: FakeEntries;
  /** Who is present in which channel. */
  readonly presence: FakePresence;
  /** What operators ask for. */
  readonly rebuilds: FakeRebuilds;
  readonly #clock: FakeClock;
  readonly #streams = new Map<string, Stream>();
  readonly #sessions = new Set<Session>();
  /** Secrets of the clients that it knows. */
  readonly #secrets = new Map<string, string>();
  /** Highest term of each group. */
  readonly #terms = new Map<string, number>();
  #numClients = 0;
  #numEpochs = 0;

  constructor(clock: FakeClock) {
    this.#clock = clock;
    this.entries = new FakeEntries(clock, this.#sessions);
    this.presence = new FakePresence(clock);
    this.rebuilds = new FakeRebuilds(clock, (channel, data) => this.publish(channel, data));
  }

  /** The newest connection. */
  get last(): FakeServerEnd {
    const end = this.ends.at(-1);
    if (end === undefined) throw new Error("Nobody dialled.");
    return end;
  }

  /** Accept a dial, or not; for `FakeSocket`. */
  dialled(end: FakeServerEnd): void {
    this.ends.push(end);
    this.#clock.setTimeout(() => {
      if (!this.isReachable) {
        end.drop();
        return;
      }
      const session: Session = {
        end,
        clients: [],
        user: null,
        subscribed: new Set(),
        watched: new Map(),
        group: null,
        term: 0,
      };
      end.onMessage = (kind, body) => this.#take(session, kind, body);
      end.onEnd = () => this.#over(session);
      this.#sessions.add(session);
      end.open();
    }, this.latencyMs);
  }

  /** A session is over, as this side knows. */
  #over(session: Session): void {
    this.#sessions.delete(session);
    this.presence.over(session);
  }

  /** Publish as a backend does. */
  publish(channel: string, data: unknown): Position {
    return this.#append(channel, { data });
  }

  /** Lose the log of a channel: whoever subscribes again is told so. */
  loseLog(channel: string): void {
    this.#streams.delete(channel);
  }

  /** Cut all connections so that everybody notices. */
  dropAll(): void {
    for (const { end } of [...this.#sessions]) end.drop();
  }

  /** Know a client that an earlier page was given. */
  issue({ client, secret }: ClientClaim): void {
    this.#secrets.set(client, secret);
  }

  /**
   * End, and begin anew: with everything it had, or (no store) knowing neither channels nor entries nor clients. Nobody is
   * present until they announce themselves again.
   */
  restart({ keepsStore = true } = {}): void {
    this.dropAll();
    this.presence.forgetAll();
    if (keepsStore) return;
    this.#streams.clear();
    this.#secrets.clear();
    this.#terms.clear();
    this.entries.forgetAll();
  }

  /** Events of a channel, oldest first. */
  events(channel: string): readonly EventBody[] {
    return this.#stream(channel).events;
  }

  #stream(channel: string): Stream {
    let stream = this.#streams.get(channel);
    if (stream === undefined) {
      this.#numEpochs += 1;
      stream = { epoch: `epoch-${this.#numEpochs}`, events: [], published: new Map() };
      this.#streams.set(channel, stream);
    }
    return stream;
  }

  #append(channel: string, fields: Partial<EventBody>): Position {
    const { epoch, events } = this.#stream(channel);
    const prev = events.length;
    const offset = prev + 1;
    const event = { channel, epoch, prev, offset, data: null, at_ms: this.#clock.wallNow(), ...fields };
    events.push(event);
    for (const { end, subscribed } of [...this.#sessions]) {
      if (subscribed.has(channel)) end.send("event", event);
    }
    return { epoch, offset };
  }

  // ------------------------------------------------------------------------------- what clients send

  #take(session: Session, kind: string, body: Body): void {
    const { end } = session;
    if (kind === "hello") this.#welcome(session, body);
    else if (kind === "probe") end.send("pong", { nonce: body["nonce"] as number });
    else if (kind === "mutate" && this.#isStale(session)) this.#refuseStale(session, body);
    else if (kind !== "pong") this.#answer(session, kind, body["id"] as number, body);
  }

  /** A session of a higher term has taken over its group. */
  #isStale({ group, term }: Session): boolean {
    return group !== null && term < (this.#terms.get(group) ?? 0);
  }

  #refuseStale({ end, clients }: Session, body: Body): void {
    const client = (body["client"] ?? clients[0]) as string;
    const error = { code: "stale_term", message: "A newer session leads.", retryable: false };
    end.send("error", { client, mid: body["mid"] as number, ...error });
  }

  #welcome(session: Session, { token, clients, group, term }: Body): void {
    if (typeof token === "string" && this.badTokens.has(token)) {
      session.end.close(4401, "The token is not accepted.");
      return;
    }
    session.group = (group ?? null) as string | null;
    session.term = (term ?? 0) as number;
    session.user = this.presence.userOf((token ?? null) as string | null);
    if (session.group !== null) {
      this.#terms.set(session.group, Math.max(session.term, this.#terms.get(session.group) ?? 0));
    }
    const claims = (clients ?? [{ client: "", secret: "" }]) as ClientClaim[];
    const states = claims.map((claim) => this.#clientFor(session, claim));
    session.end.send("welcome", {
      session: `session-${this.ends.length}`,
      clients: states,
      server_time_ms: this.#clock.wallNow(),
      ping_ms: PING_MS,
      max_frame_bytes: MAX_FRAME_BYTES,
    });
    for (const [place, { client }] of claims.entries()) {
      if (client === "" || states[place]?.client === client) continue;
      session.end.send("reset", { scope: "client", client, code: "client_unknown" });
    }
    this.#ping(session);
  }

  /** Have a session speak for a client, and the one that spoke for it before no more; for one that is unknown, issue another. */
  #clientFor(session: Session, claim: ClientClaim): ClientState {
    const isKnown = this.#secrets.get(claim.client) === claim.secret;
    if (!isKnown) this.#numClients += 1;
    const client = isKnown ? claim.client : `client-${this.#numClients}`;
    for (const older of [...this.#sessions]) {
      if (older === session || !older.clients.includes(client)) continue;
      older.clients = older.clients.filter((other) => other !== client);
      this.presence.over(older, client);
      if (older.clients.length === 0) older.end.close(4504, "A newer connection took over.");
    }
    session.clients.push(client);
    const secret = isKnown ? null : `secret-${this.#numClients}`;
    if (secret !== null) this.#secrets.set(client, secret);
    return { client, secret, last_mid: this.entries.lastMid(client) };
  }

  /** Ask whether the client is there, again and again, and end its session when it is not. */
  #ping(session: Session): void {
    const { end } = session;
    this.#later(session, PING_MS, () => {
      const { numTaken } = end;
      end.send("ping", {});
      this.#later(session, SILENCE_SLACK_MS, () => {
        if (end.numTaken === numTaken) end.close(4002, "Nothing was heard in time.");
      });
      this.#ping(session);
    });
  }

  /** Do this if the line is open then; else the session is over, whatever was heard of it. */
  #later(session: Session, afterMs: number, act: () => void): void {
    this.#clock.setTimeout(() => {
      if (session.end.isOpen) act();
      else this.#over(session);
    }, afterMs);
  }

  #answer(session: Session, kind: string, id: number, body: Body): void {
    const { end, subscribed } = session;
    const channel = body["channel"] as string;
    switch (kind) {
      case "subscribe":
        this.#subscribe(session, id, channel, (body["position"] ?? null) as Position | null);
        if (body["presence"] === true && subscribed.has(channel)) this.presence.watch(session, channel);
        break;
      case "unsubscribe":
        subscribed.delete(channel);
        this.presence.unwatch(session, channel);
        end.send("ok", { id });
        break;
      case "publish":
        end.send("ok", { id, position: this.#publish(session, channel, body) });
        break;
      case "history":
        this.#history(end, id, channel, body["limit"] as number);
        break;
      case "presence":
        this.presence.answer(session, body);
        break;
      case "auth":
        end.send("ok", { id });
        break;
      default: {
        if (this.entries.answer(session, kind, body) || this.rebuilds.answer(end, kind, body)) break;
        const message = `The fake server knows no ${kind}.`;
        end.send("error", { id, code: "not_supported", message, retryable: false });
      }
    }
  }

  #subscribe({ end, subscribed }: Session, id: number, channel: string, since: Position | null): void {
    const isRebuild = channel.startsWith(REBUILD_CHANNEL);
    if (isRebuild && !this.rebuilds.areOperators) {
      const message = "There is no such channel.";
      end.send("error", { id, code: "permission_denied", message, retryable: false });
      return;
    }
    const { epoch, events } = this.#stream(channel);
    const recovered = since !== null && since.epoch === epoch && since.offset <= events.length;
    subscribed.add(channel);
    end.send("subscribed", {
      id,
      channel,
      position: { epoch, offset: events.length },
      was_recovering: since !== null,
      recovered,
      events: recovered ? events.slice(since.offset) : isRebuild ? events.slice(-1) : [],
    });
  }

  #publish(session: Session, channel: string, { data, name, key, uid }: Body): Position {
    const { published } = this.#stream(channel);
    const known = published.get(uid as string);
    if (known !== undefined) return known;
    const fields = { data, name: (name ?? null) as string | null, key: (key ?? null) as string | null };
    const position = this.#append(channel, { ...fields, by: { client: session.clients[0] ?? "" } });
    published.set(uid as string, position);
    return position;
  }

  #history(end: FakeServerEnd, id: number, channel: string, limit: number): void {
    const { epoch, events } = this.#stream(channel);
    const position = { epoch, offset: events.length };
    end.send("ok", { id, position, events: events.slice(0, limit) });
  }
}
