/** Messages about entries and mutations into what the room works with. Each throws `BadServerMessage` for a malformed one. */

import type { Body } from "../../wire/decode.js";
import {
  badField,
  isMap,
  listOfStrings,
  mapOf,
  numberOf,
  optionalString,
  placeFromBody,
  positionFromBody,
  textOf,
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
  const by = mapOf(body["by"]);
  const { client } = by;
  const { patch, base, value, deleted } = mapOf(body["data"]);
  const change = {
    key: textOf(body, "key"),
    version: numberOf(body, "offset"),
    by: typeof client === "string" && clients.has(client) ? new Map([[client, numberOf(by, "mid")]]) : null,
  };
  if (isMap(patch) && typeof base === "number") return { ...change, patch, base };
  if (deleted === true) return change;
  if (value !== undefined) return { ...change, value };
  throw badField("data");
}

/** Read an invalidation of a channel. */
export function invalidationFromBody(
  body: Body,
  { collection, name }: { readonly collection: string; readonly name: string },
): Invalidation {
  return {
    collection,
    channel: name,
    position: placeFromBody(body),
    keys: listOfStrings(body, "keys"),
    tags: listOfStrings(body, "tags"),
    isAll: body["all"] === true,
    cause: optionalString(body, "cause"),
  };
}

/** Read the outcome of a mutation. A status that this version does not know is unknown. */
export function outcomeFromBody(body: Body, { id, name }: Pending): MutationOutcome {
  const positions = new Map<string, Position>();
  const told = mapOf(body["positions"]);
  for (const channel in told) {
    const position = positionFromBody(told, channel);
    if (position) positions.set(channel, position);
  }
  const error = mapOf(body["error"]);
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
