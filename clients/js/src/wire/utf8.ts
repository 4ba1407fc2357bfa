/** UTF-8, strictly: no lone surrogate leaves and no ill-formed sequence comes in. */

interface Platform {
  TextEncoder: new () => { encode(text: string): Uint8Array };
  TextDecoder: new (
    label: string,
    options: { fatal: boolean; ignoreBOM: boolean },
  ) => { decode(bytes: Uint8Array): string };
}

/** Made when they are first needed: nothing is touched at import. */
let encoder: InstanceType<Platform["TextEncoder"]> | undefined;
let decoder: InstanceType<Platform["TextDecoder"]> | undefined;

/** Return the bytes of a string, or throw a `TypeError` when it has a lone surrogate. */
export function utf8FromText(text: string): Uint8Array {
  if (/\p{Cs}/u.test(text)) throw new TypeError("A string has a lone surrogate.");
  encoder ??= new (globalThis as unknown as Platform).TextEncoder();
  return encoder.encode(text);
}

/** Longer strings are left to the platform, whose decoder costs as much as a loop over so many bytes by its mere call. */
const MAX_LOOPED = 64;

/** Read the string between two places, or throw a `TypeError` when it is ill-formed. */
export function textFromUtf8(bytes: Uint8Array, start: number, end: number): string {
  const units: number[] = [];
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte > 0x7f || end - start > MAX_LOOPED) {
      decoder ??= new (globalThis as unknown as Platform).TextDecoder("utf-8", {
        fatal: true,
        ignoreBOM: true,
      });
      return decoder.decode(bytes.subarray(start, end));
    }
    units.push(byte);
  }
  return String.fromCharCode(...units);
}

/** Slots of the cache of keys: a power of two, some times the number of different keys that an application has. */
const NUM_SLOTS = 512;
const MAX_KEY_BYTES = 24;

/** Remembers short keys, which come again in every message and entry. Policy when a slot is taken: the newer one stays. */
export class KeyCache {
  readonly #slots: { readonly bytes: Uint8Array; readonly text: string }[] = [];

  /** Like `textFromUtf8`. */
  read(bytes: Uint8Array, start: number, end: number): string {
    const length = end - start;
    if (length > MAX_KEY_BYTES) return textFromUtf8(bytes, start, end);
    let slot = length;
    for (let at = start; at < end; at++) slot = (slot * 31 + (bytes[at] as number)) & (NUM_SLOTS - 1);
    const known = this.#slots[slot];
    if (known?.bytes.length === length) {
      let at = 0;
      while (at < length && known.bytes[at] === bytes[start + at]) at += 1;
      if (at === length) return known.text;
    }
    const text = textFromUtf8(bytes, start, end);
    this.#slots[slot] = { bytes: bytes.slice(start, end), text };
    return text;
  }
}
