/** Values of entries: compared as they are encoded, copied where a mutator might change them. `undefined`: there is no entry. */

import { type Body, decodeValue, emptyMap } from "../../wire/decode.js";
import { encodeValue } from "../../wire/encode.js";
import { isMap } from "../../wire/frames.js";

/** Return whether two decoded values are the same on the wire; -0 is not 0. */
export function isSame(one: unknown, other: unknown): boolean {
  if (Object.is(one, other)) return true;
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return false;
  const names = Object.keys(one);
  return (
    Object.getPrototypeOf(one) === Object.getPrototypeOf(other) &&
    names.length === Object.keys(other).length &&
    names.every((name) => name in other && isSame((one as Body)[name], (other as Body)[name]))
  );
}

/** Return a value that shares no list, map or bytes with this one. */
export function copied(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copied);
  if (value instanceof Uint8Array) return value.slice();
  if (!isMap(value)) return value;
  const copy = emptyMap();
  for (const name of Object.keys(value)) copy[name] = copied(value[name]);
  return copy;
}

/**
 * Return a value as the server will decode it, sharing nothing with this one.
 *
 * @throws TypeError, RangeError it has no form on the wire.
 */
export function asSent(value: unknown): unknown {
  return decodeValue(encodeValue(value));
}

/** Return `base` as a merge patch changes it (RFC 7386); the result shares with both what did not change. */
export function applyPatch(base: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const merged = Object.assign(emptyMap(), isMap(base) ? base : null);
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) delete merged[name];
    else merged[name] = applyPatch(merged[name], change);
  }
  return merged;
}
