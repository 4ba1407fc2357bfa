/** Messages about entries and mutations into what the room works with. Each throws `BadServerMessage` for a malformed one. */

import type { Body } from "../../wire/decode.js";
import {
  BadServerMessage,
  field,
  isMap,
  listOfStrings,
  optionalString,
  positionFromBody,
} from "../../wire/frames.js";
import type { Position } from "../../wire/messages.js";
import type { Change, Mids } from "./confirmed.js";
import type { Invalidation, MutationOutcome } from "./facts.js";
import type { Pending } from "./pending.js";

/**
 * Read an event of a collection.
 *
 * @param clients Ours.
 */
export function changeFromBody(body: Body, clients: Mids): Change {
  const { data, by } = body;
  const client = isMap(by) ? by["client"] : null;
  const isMine = isMap(by) && typeof client === "string" && clients.has(client);
  const change = {
    key: field(body, "key", "string"),
    version: field(body, "offset", "number"),
    by: isMine ? new Map([[client, field(by, "mid", "number")]]) : null,
  };
  if (isMap(data)) {
    const { patch, base, value } = data;
    if (isMap(patch) && typeof base === "number") return { ...change, patch, base };
    if (data["deleted"] === true) return change;
    if (value !== undefined) return { ...change, value };
  }
  throw new BadServerMessage("An event of a collection says neither value, patch nor deleted.");
}

/** Read an invalidation of a channel. */
export function invalidationFromBody(
  body: Body,
  { collection, name }: { readonly collection: string; readonly name: string },
): Invalidation {
  return {
    collection,
    channel: name,
    position: { epoch: field(body, "epoch", "string"), offset: field(body, "offset", "number") },
    keys: listOfStrings(body, "keys"),
    tags: listOfStrings(body, "tags"),
    isAll: body["all"] === true,
    cause: optionalString(body, "cause"),
  };
}

/** A watch began anew: what was invalidated since it was there last is told by nobody. */
export function unrecovered(
  { collection, name }: { readonly collection: string; readonly name: string },
  position: Position,
): Invalidation {
  return { collection, channel: name, position, keys: [], tags: [], isAll: true, cause: "unrecovered" };
}

/** Read the outcome of a mutation. A status that this version does not know is unknown. */
export function outcomeFromBody(body: Body, { id, name }: Pending): MutationOutcome {
  const positions = new Map<string, Position>();
  const told = isMap(body["positions"]) ? body["positions"] : {};
  for (const channel of Object.keys(told)) {
    const position = positionFromBody(told, channel);
    if (position !== null) positions.set(channel, position);
  }
  const error = isMap(body["error"]) ? body["error"] : {};
  const { status } = body;
  return {
    id,
    name,
    status: status === "ok" || status === "rejected" ? status : "unknown",
    value: body["value"] ?? null,
    code: optionalString(error, "code"),
    message: optionalString(error, "message") ?? "",
    positions,
  };
}
