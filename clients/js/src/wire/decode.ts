/** Frames to messages, within the bounds of SPEC section 2. Maps become objects without a prototype. */

import { MAX_DEPTH } from "./encode.js";
import { BadServerMessage, isMap } from "./frames.js";
import { KeyCache, textFromUtf8 } from "./utf8.js";

/** Largest frame taken from a server: `subscribed` carries up to 256 KiB, a snapshot's page a few MiB. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;

/** The body of a message: fields by name. */
export type Body = Record<string, unknown>;

/** `[type, body]`. */
export type Message = readonly [kind: string, body: Body];

/**
 * Split a frame into its messages, of which it has at least one.
 *
 * @param data One whole binary WebSocket message.
 * @param maxValues How many values it may hold; a server's frame is bounded by its bytes alone.
 * @param messages Where they are put, and are left when one is broken.
 * @throws BadServerMessage it breaks a bound, or is cut short.
 */
export function decodeFrame(
  data: Uint8Array,
  maxValues?: number,
  messages: Message[] = [],
): readonly Message[] {
  try {
    if (data.length > MAX_FRAME_BYTES) bad("too large");
    const reader = new Reader(data, maxValues);
    do messages.push(reader.message());
    while (!reader.isAtEnd);
  } catch (error) {
    // A `TypeError` is the UTF-8 decoder's: nothing else throws one.
    throw new BadServerMessage((error as Error).message);
  }
  return messages;
}

/** Decode one value that `encodeValue` made. */
export function decodeValue(data: Uint8Array): unknown {
  const reader = new Reader(data);
  const value = reader.value(3);
  if (!reader.isAtEnd) bad("too long");
  return value;
}

/**
 * Return a map without anything, not even a prototype.
 *
 * Of `Object.create(null)` V8 makes a hash table, which takes some four times the memory; not so of what loses its prototype later.
 */
export function emptyMap(): Body {
  return Object.setPrototypeOf({}, null) as Body;
}

function bad(reason: string): never {
  throw new BadServerMessage(`Bad frame: ${reason}.`);
}

/** Shared by all clients of a page: keys are the same whoever reads them. */
const keys = /* @__PURE__ */ new KeyCache();

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #valuesLeft: number;

  constructor(bytes: Uint8Array, maxValues = Number.POSITIVE_INFINITY) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#valuesLeft = maxValues;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  message(): Message {
    const value = this.value(1);
    const [kind, body] = Array.isArray(value) && value.length === 2 ? (value as [unknown, unknown]) : [];
    if (typeof kind !== "string" || !isMap(body)) bad("bad type");
    return [kind, body];
  }

  /** Read one value; a container stands at this depth. */
  value(depth: number): unknown {
    const tag = this.#uint(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.#list(tag & 0x0f, depth);
    if (tag < 0xc0) return this.#string(tag & 0x1f);
    return tag < 0xe0 ? this.#tagged(tag, depth) : tag - 0x100;
  }

  /** What begins with a tag of its own, often followed by a length of 1, 2 or 4 bytes. */
  #tagged(tag: number, depth: number): unknown {
    if (tag > 0xdd) return this.#map(this.#uint(2 << (tag - 0xde)), depth);
    if (tag > 0xdb) return this.#list(this.#uint(2 << (tag - 0xdc)), depth);
    if (tag > 0xd8) return this.#string(this.#uint(1 << (tag - 0xd9)));
    if (tag > 0xcb && tag < 0xd4) return this.#integer(tag);
    if (tag === 0xca) return finite(this.#view.getFloat32(this.#skip(4)));
    if (tag === 0xcb) return finite(this.#view.getFloat64(this.#skip(8)));
    if (tag > 0xc3 && tag < 0xc7) {
      const length = this.#uint(1 << (tag - 0xc4));
      const start = this.#skip(length);
      return this.#bytes.slice(start, start + length);
    }
    if (tag === 0xc2 || tag === 0xc3) return tag === 0xc3;
    return tag === 0xc0 ? null : bad("bad type");
  }

  /** An integer of 1, 2, 4 or 8 bytes, signed from 0xd0 on. */
  #integer(tag: number): number {
    const isSigned = tag > 0xcf;
    const width = 1 << (tag & 3);
    if (width === 8) {
      const high = this.#uint(4);
      const value = (isSigned ? high | 0 : high) * 2 ** 32 + this.#uint(4);
      return Number.isSafeInteger(value) ? value : bad("bad number");
    }
    const value = this.#uint(width);
    return isSigned && value >= 2 ** (8 * width - 1) ? value - 2 ** (8 * width) : value;
  }

  #list(length: number, depth: number): unknown[] {
    this.#enter(length, depth);
    const items: unknown[] = [];
    for (let i = 0; i < length; i++) items.push(this.value(depth + 1));
    return items;
  }

  #map(length: number, depth: number): Body {
    this.#enter(length, depth);
    const map = emptyMap();
    for (let i = 0; i < length; i++) {
      const key = this.#key();
      if (key in map) bad("bad key");
      map[key] = this.value(depth + 1);
    }
    return map;
  }

  #key(): string {
    const tag = this.#uint(1);
    const isShort = tag >= 0xa0 && tag < 0xc0;
    if (!isShort && (tag < 0xd9 || tag > 0xdb)) bad("bad key");
    const length = isShort ? tag & 0x1f : this.#uint(1 << (tag - 0xd9));
    const start = this.#skip(length);
    return keys.read(this.#bytes, start, start + length);
  }

  /** Check a container before its items are read: each takes at least a byte. */
  #enter(length: number, depth: number): void {
    if (depth > 1) this.#valuesLeft -= length + 1;
    if (depth > MAX_DEPTH || this.#valuesLeft < 0) bad("too large");
    this.#check(length);
  }

  #string(length: number): string {
    const start = this.#skip(length);
    return textFromUtf8(this.#bytes, start, start + length);
  }

  #uint(width: number): number {
    const at = this.#skip(width);
    if (width === 1) return this.#bytes[at] as number;
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** Go on behind so many bytes; return where they begin. */
  #skip(length: number): number {
    const at = this.#at;
    this.#check(length);
    this.#at = at + length;
    return at;
  }

  #check(length: number): void {
    if (length > this.#bytes.length - this.#at) bad("too short");
  }
}

function finite(value: number): number {
  return Number.isFinite(value) ? value : bad("bad number");
}
