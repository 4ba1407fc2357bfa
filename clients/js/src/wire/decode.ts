/** Frames to messages, within the bounds of SPEC section 2. Maps become objects without a prototype. */

import { MAX_DEPTH } from "./encode.js";
import { KeyCache, readUtf8 } from "./utf8.js";

/** Largest frame taken from a server: `subscribed` carries up to 256 KiB, a snapshot's page a few MiB. */
export const MAX_FRAME_BYTES = 16 * 1024 * 1024;

/** The body of a message: fields by name. */
export type Body = Record<string, unknown>;

/** `[type, body]`. */
export type Message = readonly [kind: string, body: Body];

/** A frame that is not what SPEC section 2 says. */
export class BadFrame extends Error {
  override readonly name = "BadFrame";
  /** Messages before the broken one. */
  readonly messages: readonly Message[];

  constructor(reason: string, messages: readonly Message[] = []) {
    super(reason);
    this.messages = messages;
  }
}

/**
 * Split a frame into its messages, of which it has at least one.
 *
 * @param data One whole binary WebSocket message.
 * @param maxValues How many values it may hold; a server's frame is bounded by its bytes alone.
 * @throws BadFrame it breaks a bound, or is cut short.
 */
export function decodeFrame(data: Uint8Array, maxValues = Number.POSITIVE_INFINITY): Message[] {
  const messages: Message[] = [];
  try {
    if (data.length > MAX_FRAME_BYTES) throw new BadFrame("A frame is too large.");
    const reader = new Reader(data, maxValues);
    do messages.push(reader.message());
    while (!reader.isAtEnd);
  } catch (error) {
    if (error instanceof BadFrame) throw new BadFrame(error.message, messages);
    throw error;
  }
  return messages;
}

/** Decode one value that `encodeValue` made. */
export function decodeValue(data: Uint8Array): unknown {
  const reader = new Reader(data, Number.POSITIVE_INFINITY);
  const value = reader.value(3);
  if (!reader.isAtEnd) throw new BadFrame("Something follows the value.");
  return value;
}

/** Shared by all clients of a page: keys are the same whoever reads them. */
const keys = new KeyCache();

function checked(text: string | null): string {
  if (text === null) throw new BadFrame("A string is not UTF-8.");
  return text;
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;
  #valuesLeft: number;

  constructor(bytes: Uint8Array, maxValues: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#valuesLeft = maxValues;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  message(): Message {
    const value = this.value(1);
    if (!Array.isArray(value) || value.length !== 2) throw new BadFrame("A message is not [type, body].");
    const [kind, body] = value as [unknown, unknown];
    const isMap = typeof body === "object" && body !== null && Object.getPrototypeOf(body) === null;
    if (typeof kind !== "string" || !isMap) throw new BadFrame("A message is not [type, body].");
    return [kind, body as Body];
  }

  /** Read one value; a container stands at this depth. */
  value(depth: number): unknown {
    const tag = this.#uint(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.#map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.#list(tag & 0x0f, depth);
    if (tag < 0xc0) return this.#string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.#tagged(tag, depth);
  }

  #tagged(tag: number, depth: number): unknown {
    switch (tag) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xca:
        return finite(this.#view.getFloat32(this.#skip(4)));
      case 0xcb:
        return finite(this.#view.getFloat64(this.#skip(8)));
      case 0xcf:
        return this.#wide(this.#uint(4));
      case 0xd0:
        return this.#view.getInt8(this.#skip(1));
      case 0xd1:
        return this.#view.getInt16(this.#skip(2));
      case 0xd2:
        return this.#view.getInt32(this.#skip(4));
      case 0xd3:
        return this.#wide(this.#view.getInt32(this.#skip(4)));
      default:
        return this.#sized(tag, depth);
    }
  }

  /** What begins with a length, or is an unsigned integer, of 1, 2 or 4 bytes. */
  #sized(tag: number, depth: number): unknown {
    if (tag >= 0xc4 && tag <= 0xc6) return this.#bin(this.#uint(1 << (tag - 0xc4)));
    if (tag >= 0xcc && tag <= 0xce) return this.#uint(1 << (tag - 0xcc));
    if (tag >= 0xd9 && tag <= 0xdb) return this.#string(this.#uint(1 << (tag - 0xd9)));
    if (tag === 0xdc || tag === 0xdd) return this.#list(this.#uint(2 << (tag - 0xdc)), depth);
    if (tag === 0xde || tag === 0xdf) return this.#map(this.#uint(2 << (tag - 0xde)), depth);
    throw new BadFrame("A type is not of the wire: an extension, or none at all.");
  }

  #list(length: number, depth: number): unknown[] {
    this.#enter(length, depth);
    const items: unknown[] = [];
    for (let i = 0; i < length; i++) items.push(this.value(depth + 1));
    return items;
  }

  #map(length: number, depth: number): Body {
    this.#enter(length, depth);
    const map = Object.create(null) as Body;
    for (let i = 0; i < length; i++) {
      const key = this.#key();
      if (key in map) throw new BadFrame("A map has a key twice.");
      map[key] = this.value(depth + 1);
    }
    return map;
  }

  #key(): string {
    const tag = this.#uint(1);
    const isShort = tag >= 0xa0 && tag < 0xc0;
    if (!isShort && (tag < 0xd9 || tag > 0xdb)) throw new BadFrame("A map's key is not a string.");
    const length = isShort ? tag & 0x1f : this.#uint(1 << (tag - 0xd9));
    const start = this.#skip(length);
    return checked(keys.read(this.#bytes, start, start + length));
  }

  /** Check a container before its items are read: each takes at least a byte. */
  #enter(length: number, depth: number): void {
    if (depth > MAX_DEPTH) throw new BadFrame("A frame is nested too deeply.");
    if (depth > 1) this.#valuesLeft -= length + 1;
    if (this.#valuesLeft < 0) throw new BadFrame("A frame has too many values.");
    if (length > this.#bytes.length - this.#at) throw new BadFrame("A frame ends inside a message.");
  }

  #string(length: number): string {
    const start = this.#skip(length);
    return checked(readUtf8(this.#bytes, start, start + length));
  }

  #bin(length: number): Uint8Array {
    const start = this.#skip(length);
    return this.#bytes.slice(start, start + length);
  }

  #wide(high: number): number {
    const value = high * 0x100000000 + this.#uint(4);
    if (!Number.isSafeInteger(value)) throw new BadFrame("An integer is out of range.");
    return value;
  }

  #uint(width: number): number {
    const at = this.#skip(width);
    if (width === 1) return this.#bytes[at] as number;
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  /** Go on behind so many bytes; return where they begin. */
  #skip(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) throw new BadFrame("A frame ends inside a message.");
    this.#at = at + length;
    return at;
  }
}

function finite(value: number): number {
  if (!Number.isFinite(value)) throw new BadFrame("A float is not finite.");
  return value;
}
