/** Presence of the fake server: SPEC section 9, for members that live in memory alone. */

import { isSame } from "../core/entries/values.js";
import type { Body } from "../wire/decode.js";
import { encodeValue } from "../wire/encode.js";
import type { Member, ServerBodies } from "../wire/messages.js";
import type { FakeClock } from "./clock.js";
import type { FakeServerEnd } from "./socket.js";

/** A session as this side sees it. */
export interface PresenceSession {
  readonly end: FakeServerEnd;
  /** Clients it speaks for; the first is meant where none is named. */
  readonly clients: readonly string[];
  /** Whose it is; null: each of its clients is a member by itself. */
  readonly user: string | null;
}

/** What one client announced. An announcement makes another, so that what waits for the end of this one finds it gone. */
interface Announced {
  readonly user: string | null;
  readonly state: unknown;
  /** Who speaks for it; null: it leaves unless somebody does again. */
  session: PresenceSession | null;
}

interface Room {
  readonly channel: string;
  /** By client, in order of arrival. */
  readonly announced: Map<string, Announced>;
  readonly watchers: Set<PresenceSession>;
  /** Members as of `seq`, in order of arrival: what watchers know. */
  told: Map<string, Member>;
  seq: number;
  /** A diff is due. */
  isGathering: boolean;
}

const MAX_STATE_BYTES = 4_096;

/** Who is present where. */
export class FakePresence {
  /** For so long whoever's connection ended stays in view, ms. */
  graceMs = 15_000;
  /** For so long changes are gathered before they are told, ms. */
  diffMs = 100;
  /** Says whose a token is: several clients of one user are one member. Nobody's if not set: then each client is one. */
  userOf: (token: string | null) => string | null = () => null;
  readonly #clock: FakeClock;
  readonly #rooms = new Map<string, Room>();

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  /** Members of a channel as they are now, told or not, in order of arrival. */
  members(channel: string): readonly Member[] {
    return [...membersOf(this.#room(channel)).values()];
  }

  /** Answer a `presence`. */
  answer(session: PresenceSession, body: Body): void {
    const { end, clients, user } = session;
    const [id, channel] = [body["id"] as number, body["channel"] as string];
    const client = (body["client"] ?? clients[0] ?? "") as string;
    const state = body["state"] ?? null;
    const refuse = (code: string, message: string): void =>
      end.send("error", { id, code, message, retryable: false });
    if (!clients.includes(client)) refuse("client_denied", "This session does not speak for it.");
    else if (encodeValue(state).length > MAX_STATE_BYTES) refuse("too_large", "The state is too large.");
    else {
      const room = this.#room(channel);
      if (state === null) room.announced.delete(client);
      else room.announced.set(client, { user, state, session });
      this.#tellSoon(room);
      end.send("ok", { id });
    }
  }

  /** A session subscribed and wants the others. */
  watch(session: PresenceSession, channel: string): void {
    const { watchers, seq, told } = this.#room(channel);
    watchers.add(session);
    session.end.send("presence_state", { channel, seq, members: [...told.values()] });
  }

  /** A session is told no more of a channel. */
  unwatch(session: PresenceSession, channel: string): void {
    this.#room(channel).watchers.delete(session);
  }

  /** A session is over, or (with a client) does not speak for that one any more: what it announced leaves, unless it is announced again. */
  over(session: PresenceSession, onlyClient?: string): void {
    for (const room of this.#rooms.values()) {
      if (onlyClient === undefined) room.watchers.delete(session);
      for (const [client, one] of room.announced) {
        if (one.session !== session || client !== (onlyClient ?? client)) continue;
        one.session = null;
        this.#clock.setTimeout(() => {
          if (room.announced.get(client) !== one) return;
          room.announced.delete(client);
          this.#tellSoon(room);
        }, this.graceMs);
      }
    }
  }

  /** Tell every watcher of a channel all members anew, as a server may at any time. */
  tellAll(channel: string): void {
    const room = this.#room(channel);
    this.#changes(room);
    for (const watcher of [...room.watchers]) this.watch(watcher, channel);
  }

  /** Lose everything, as a server does that ends: whoever comes back is shown nobody who does not come back as well. */
  forgetAll(): void {
    this.#rooms.clear();
  }

  #tellSoon(room: Room): void {
    if (room.isGathering) return;
    room.isGathering = true;
    this.#clock.setTimeout(() => this.#tell(room), this.diffMs);
  }

  #tell(room: Room): void {
    room.isGathering = false;
    const diff = this.#changes(room);
    if (diff !== null) for (const { end } of [...room.watchers]) end.send("presence_diff", diff);
  }

  /** Take what is so for what was told, and return what differs; null: nothing. */
  #changes(room: Room): ServerBodies["presence_diff"] | null {
    const { channel, told } = room;
    const now = membersOf(room);
    const all = [...now.values()];
    const joins = all.filter(({ member }) => !told.has(member));
    const updates = all.filter((one) => told.has(one.member) && !isSame(one, told.get(one.member)));
    const leaves = [...told.keys()].filter((member) => !now.has(member));
    if (joins.length + updates.length + leaves.length === 0) return null;
    room.told = now;
    room.seq += 1;
    return { channel, seq: room.seq, joins, updates, leaves };
  }

  #room(channel: string): Room {
    let room = this.#rooms.get(channel);
    if (room === undefined) {
      room = {
        channel,
        announced: new Map(),
        watchers: new Set(),
        told: new Map(),
        seq: 0,
        isGathering: false,
      };
      this.#rooms.set(channel, room);
    }
    return room;
  }
}

/** Members as they are now; those that were told keep their places. */
function membersOf({ announced, told }: Room): Map<string, Member> {
  const members = new Map<string, Member>();
  for (const { member, user } of told.values()) members.set(member, newMember(member, user));
  for (const [client, { user, state }] of announced) {
    const id = user ?? client;
    const member = members.get(id) ?? newMember(id, user);
    member.states.push({ client, state });
    members.set(id, member);
  }
  for (const [id, { states }] of members) if (states.length === 0) members.delete(id);
  return members;
}

function newMember(member: string, user: string | null | undefined): Member {
  return user == null ? { member, states: [] } : { member, user, states: [] };
}
