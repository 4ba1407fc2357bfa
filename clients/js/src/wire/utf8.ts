/** UTF-8, strictly: no lone surrogate leaves and no ill-formed sequence comes in. Needs no `TextDecoder`. */

const CHUNK = 4096;

/** Count the bytes of a string, or throw a `TypeError` when it has a lone surrogate. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) bytes += 1;
    else if (unit < 0x800) bytes += 2;
    else if (unit < 0xd800 || unit > 0xdfff) bytes += 3;
    else {
      const next = text.charCodeAt(i + 1);
      if (unit > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) {
        throw new TypeError("A string has a lone surrogate.");
      }
      bytes += 4;
      i += 1;
    }
  }
  return bytes;
}

/** Write a string that `utf8Length` has measured; return the place behind it. */
export function writeUtf8(text: string, into: Uint8Array, at: number): number {
  let end = at;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) {
      into[end++] = unit;
    } else if (unit < 0x800) {
      into[end++] = 0xc0 | (unit >> 6);
      into[end++] = 0x80 | (unit & 0x3f);
    } else if (unit < 0xd800 || unit > 0xdfff) {
      into[end++] = 0xe0 | (unit >> 12);
      into[end++] = 0x80 | ((unit >> 6) & 0x3f);
      into[end++] = 0x80 | (unit & 0x3f);
    } else {
      const point = 0x10000 + ((unit & 0x3ff) << 10) + (text.charCodeAt(++i) & 0x3ff);
      into[end++] = 0xf0 | (point >> 18);
      into[end++] = 0x80 | ((point >> 12) & 0x3f);
      into[end++] = 0x80 | ((point >> 6) & 0x3f);
      into[end++] = 0x80 | (point & 0x3f);
    }
  }
  return end;
}

/** Read the string between two places, or return null when it is ill-formed. */
export function readUtf8(bytes: Uint8Array, start: number, end: number): string | null {
  let text = "";
  for (let i = start; i < end; ) {
    const units: number[] = [];
    while (i < end && units.length < CHUNK) {
      const lead = bytes[i] as number;
      if (lead < 0x80) {
        units.push(lead);
        i += 1;
        continue;
      }
      const width = widthAfter(lead);
      if (width === 0 || i + width > end) return null;
      const point = codePoint(bytes, i, width);
      if (point < 0) return null;
      if (point < 0x10000) units.push(point);
      else units.push(0xd800 + ((point - 0x10000) >> 10), 0xdc00 + (point & 0x3ff));
      i += width;
    }
    text += String.fromCharCode(...units);
  }
  return text;
}

/** How many bytes the sequence of a lead byte above ASCII has; 0 when none begins so. */
function widthAfter(lead: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 0;
  return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/** The code point of a sequence of two to four bytes; -1 when it is overlong, a surrogate, or beyond U+10FFFF. */
function codePoint(bytes: Uint8Array, at: number, width: number): number {
  let point = (bytes[at] as number) & (0xff >> (width + 1));
  for (let i = 1; i < width; i++) {
    const next = bytes[at + i] as number;
    if ((next & 0xc0) !== 0x80) return -1;
    point = (point << 6) | (next & 0x3f);
  }
  const least = width === 2 ? 0x80 : width === 3 ? 0x800 : 0x10000;
  return point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff) ? -1 : point;
}

/** Slots of the cache of keys: a power of two, some times the number of different keys that an application has. */
const NUM_SLOTS = 512;
const MAX_KEY_BYTES = 24;

/** Remembers short keys, which come again in every message and entry. Policy when a slot is taken: the newer one stays. */
export class KeyCache {
  readonly #texts: string[] = [];
  readonly #bytes: (Uint8Array | undefined)[] = Array(NUM_SLOTS);

  /** Like `readUtf8`. */
  read(bytes: Uint8Array, start: number, end: number): string | null {
    const length = end - start;
    if (length === 0 || length > MAX_KEY_BYTES) return readUtf8(bytes, start, end);
    const mixed = (bytes[start] as number) * 31 + (bytes[end - 1] as number) * 7 + length;
    const slot = (mixed * 31 + (bytes[start + (length >> 1)] as number)) & (NUM_SLOTS - 1);
    const known = this.#bytes[slot];
    if (known !== undefined && isEqual(known, bytes, start, length)) return this.#texts[slot] as string;
    const text = readUtf8(bytes, start, end);
    if (text !== null) {
      this.#bytes[slot] = bytes.slice(start, end);
      this.#texts[slot] = text;
    }
    return text;
  }
}

function isEqual(known: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  if (known.length !== length) return false;
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
