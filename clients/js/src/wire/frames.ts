/** Messages of the client into frames; bodies of the server into what the core works with. */

import type { Body } from "./decode.js";
import { type Encoded, MAX_VALUES } from "./encode.js";
import type { Position } from "./messages.js";

/** The server sent something that is not the protocol; the client reconnects. */
export class BadServerMessage extends Error {}

/** One event of a channel, as its publisher sent it. */
export interface ChannelEvent {
  /** Where it happened. */
  readonly channel: string;
  /** What the publisher sent. Maps are objects without a prototype, bin is a `Uint8Array`. */
  readonly data: unknown;
  /** What kind of event, as the publisher named it; null for none. */
  readonly name: string | null;
  /** Conflation and latest-value key; null for none. */
  readonly key: string | null;
  /** Null on ephemeral channels. */
  readonly position: Position | null;
  /** Client that published it; null for backends. */
  readonly by: string | null;
  /** Server wall clock, ms since 1970; says nothing about order. */
  readonly atMs: number;
}

/** What one client of a member announced. */
export interface MemberState {
  readonly client: string;
  readonly state: unknown;
}

/** One user, or one anonymous client, present in a channel. */
export interface Member {
  /** User id, or client id for anonymous clients; unique in the channel. */
  readonly member: string;
  /** User id; null for anonymous clients. */
  readonly user: string | null;
  /** One a client of this member, in order of arrival. */
  readonly states: readonly MemberState[];
}

/** Concatenate messages into as few frames as their order, the bytes and the values of a frame allow. */
export function packFrames(messages: readonly Encoded[], maxBytes: number): Uint8Array[] {
  const frames: Uint8Array[] = [];
  let [parts, bytes, values] = [[] as Uint8Array[], 0, 0];
  const close = () => {
    const frame = new Uint8Array(bytes);
    let end = 0;
    for (const part of parts) {
      frame.set(part, end);
      end += part.length;
    }
    if (parts.length > 0) frames.push(frame);
    [parts, bytes, values] = [[], 0, 0];
  };
  for (const message of messages) {
    if (bytes + message.bytes.length > maxBytes || values + message.values > MAX_VALUES) close();
    parts.push(message.bytes);
    bytes += message.bytes.length;
    values += message.values;
  }
  close();
  return frames;
}

/** The error for a field that is missing or of another type. */
export function badField(name: string): BadServerMessage {
  return new BadServerMessage(`Bad field: ${name}.`);
}

/** Read a field that must be there and of this type. Throws `BadServerMessage`, like all that follow. */
function typed(body: Body, name: string, type: string): unknown {
  const value = body[name];
  if (typeof value !== type) throw badField(name);
  return value;
}

/** Read a string that must be there. */
export function textOf(body: Body, name: string): string {
  return typed(body, name, "string") as string;
}

/** Read a number that must be there. */
export function numberOf(body: Body, name: string): number {
  return typed(body, name, "number") as number;
}

/** Read a boolean that must be there. */
export function flagOf(body: Body, name: string): boolean {
  return typed(body, name, "boolean") as boolean;
}

/** Read an optional string; null for absent. */
export function optionalString(body: Body, name: string): string | null {
  return (body[name] ?? null) === null ? null : textOf(body, name);
}

/** Read an optional number; null for absent. */
export function optionalNumber(body: Body, name: string): number | null {
  return (body[name] ?? null) === null ? null : numberOf(body, name);
}

/** Read a list of maps that must be there. */
export function listOfMaps(body: Body, name: string): Body[] {
  const value = body[name];
  if (!Array.isArray(value) || !value.every(isMap)) throw badField(name);
  return value as Body[];
}

/** Read an optional list of strings; empty for absent. */
export function listOfStrings(body: Body, name: string): string[] {
  const value = body[name] ?? [];
  if (!Array.isArray(value)) throw badField(name);
  return value as string[];
}

/** Whether a decoded value is a map. */
export function isMap(value: unknown): value is Body {
  return typeof value === "object" && !!value && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** Return a decoded value that is a map, and an empty one for any other. */
export function mapOf(value: unknown): Body {
  return isMap(value) ? value : {};
}

/** Read where something is, told by the fields of a body. */
export function placeFromBody(body: Body): Position {
  return { epoch: textOf(body, "epoch"), offset: numberOf(body, "offset") };
}

/** Read an optional position; null for absent. */
export function positionFromBody(body: Body, name = "position"): Position | null {
  const value = body[name] ?? null;
  return value === null ? null : placeFromBody(mapOf(value));
}

/** Read an event from its body. */
export function eventFromBody(body: Body): ChannelEvent {
  const by = body["by"] ?? null;
  if (!("data" in body)) throw badField("data");
  return {
    channel: textOf(body, "channel"),
    data: body["data"],
    name: optionalString(body, "name"),
    key: optionalString(body, "key"),
    position: optionalNumber(body, "offset") === null ? null : placeFromBody(body),
    by: by === null ? null : textOf(mapOf(by), "client"),
    atMs: numberOf(body, "at_ms"),
  };
}

/** Read the members of a presence message. */
export function membersFromBody(body: Body, name: string): Member[] {
  return listOfMaps(body, name).map((item) => ({
    member: textOf(item, "member"),
    user: optionalString(item, "user"),
    states: listOfMaps(item, "states").map((state) => ({
      client: textOf(state, "client"),
      state: state["state"] ?? null,
    })),
  }));
}
