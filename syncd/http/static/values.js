/** Event data as text and back. Binary data is written as `{"$base64": "..."}`, as the HTTP API and the command line do. */

const TAG = "$base64";

/** Return data as one line of JSON. */
export function textFromValue(value) {
  return JSON.stringify(value, (_key, item) =>
    item instanceof Uint8Array ? { [TAG]: base64FromBytes(item) } : item,
  );
}

/**
 * Return the data that a JSON text means.
 *
 * Throws SyntaxError when it is not JSON.
 */
export function valueFromText(text) {
  return withBytes(JSON.parse(text));
}

function withBytes(value) {
  if (Array.isArray(value)) return value.map(withBytes);
  if (value === null || typeof value !== "object") return value;
  const keys = Object.keys(value);
  if (keys.length === 1 && keys[0] === TAG && typeof value[TAG] === "string") return bytesFromBase64(value[TAG]);
  const copy = Object.create(null); // a key `__proto__` stays a key
  for (const key of keys) copy[key] = withBytes(value[key]);
  return copy;
}

function base64FromBytes(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

function bytesFromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    throw new SyntaxError(`The value of "${TAG}" is not base64.`);
  }
}
