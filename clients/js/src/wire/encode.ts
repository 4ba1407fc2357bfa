/** Values to msgpack, within the bounds of SPEC section 2: what the server would refuse is refused here, before it is sent. */

import { utf8Length, writeUtf8 } from "./utf8.js";

/** Containers within containers, the message's array included. */
export const MAX_DEPTH = 32;

/** Values in one frame, as the server counts: every element, every map value, and every container once more; not the messages. */
export const MAX_VALUES = 10_000;

/** One encoded message. */
export interface Encoded {
  /** The message, for one frame with others. */
  readonly bytes: Uint8Array;
  /** How many of the frame's values it uses up. */
  readonly values: number;
}

/** Fields in which null is a value of its own. */
const NULLABLE: ReadonlySet<string> = new Set(["data", "state"]);

/**
 * Encode one message. Fields that are null or undefined are left out, except `data` and `state`.
 *
 * Numbers that are safe integers travel as integers, all others as floats. `undefined` within a list becomes nil, within
 * an object it is left out. A `Map` with string keys travels as a map, `Uint8Array` and `ArrayBuffer` as bin.
 *
 * @param maxValues More than the server takes only for what it does not get.
 * @throws TypeError a value has no form on the wire: a function, a bigint, a Date, NaN, a lone surrogate.
 * @throws RangeError it is nested too deeply or has too many values.
 */
export function encodeMessage(kind: string, body: object, maxValues = MAX_VALUES): Encoded {
  const map: Pairs = { keys: [], values: [] };
  for (const [key, value] of Object.entries(body)) {
    const isThere = value !== null && value !== undefined;
    if (isThere || NULLABLE.has(key)) add(map, key, value ?? null);
  }
  const writer = new Writer(maxValues);
  writer.message(kind, map);
  return writer.encoded();
}

/** Encode one value by itself, as `encodeMessage` does within a message: to store it, or to know its size. */
export function encodeValue(value: unknown): Uint8Array {
  const writer = new Writer();
  writer.value(value, 3);
  return writer.encoded().bytes;
}

/** A map on its way: what stands at the same place belongs together. */
interface Pairs {
  readonly keys: string[];
  readonly values: unknown[];
}

function add({ keys, values }: Pairs, key: string, value: unknown): void {
  keys.push(key);
  values.push(value);
}

/** Room for the next message: most are small, and a new buffer costs more than they do. */
let spare: Uint8Array | null = null;
const SPARE_BYTES = 4096;

class Writer {
  #bytes = spare ?? new Uint8Array(SPARE_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #end = 0;
  #values = 0;
  readonly #maxValues: number;

  constructor(maxValues = MAX_VALUES) {
    this.#maxValues = maxValues;
    // Whatever runs meanwhile (a getter of the application's object) gets a buffer of its own.
    spare = null;
  }

  encoded(): Encoded {
    const bytes = this.#bytes.slice(0, this.#end);
    if (this.#bytes.length === SPARE_BYTES) spare = this.#bytes;
    return { bytes, values: this.#values };
  }

  message(kind: string, body: Pairs): void {
    this.#byte(0x92);
    this.#string(kind);
    this.#map(body, 2);
  }

  value(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
        this.#string(value);
        break;
      case "number":
        this.#number(value);
        break;
      case "boolean":
        this.#byte(value ? 0xc3 : 0xc2);
        break;
      case "undefined":
        this.#byte(0xc0);
        break;
      case "object":
        if (value === null) this.#byte(0xc0);
        else this.#object(value, depth);
        break;
      default:
        throw new TypeError(`A ${typeof value} has no form on the wire.`);
    }
  }

  #object(value: object, depth: number): void {
    if (value instanceof Uint8Array) this.#bin(value);
    else if (value instanceof ArrayBuffer) this.#bin(new Uint8Array(value));
    else if (Array.isArray(value)) this.#list(value, depth);
    else if (value instanceof Map) this.#map(pairsOfMap(value), depth);
    else this.#map(pairsOfObject(value), depth);
  }

  #list(items: readonly unknown[], depth: number): void {
    checkDepth(depth);
    this.#open(items.length, 0x90, 0xdc);
    for (let i = 0; i < items.length; i++) this.value(items[i], depth + 1);
  }

  #map({ keys, values }: Pairs, depth: number): void {
    checkDepth(depth);
    this.#open(keys.length, 0x80, 0xde);
    for (let i = 0; i < keys.length; i++) {
      this.#string(keys[i] as string);
      this.value(values[i], depth + 1);
    }
  }

  /** The head of a container, whose items count. */
  #open(length: number, fix: number, wide: number): void {
    this.#values += length + 1;
    if (this.#values > this.#maxValues)
      throw new RangeError(`A message has more than ${this.#maxValues} values.`);
    if (length < 16) this.#byte(fix | length);
    else this.#head(wide, length, 2);
  }

  #string(text: string): void {
    const length = utf8Length(text);
    if (length < 32) this.#byte(0xa0 | length);
    else this.#head(length < 0x100 ? 0xd9 : length < 0x10000 ? 0xda : 0xdb, length, widthOf(length));
    this.#room(length);
    this.#end = writeUtf8(text, this.#bytes, this.#end);
  }

  #bin(bytes: Uint8Array): void {
    const length = bytes.length;
    this.#head(length < 0x100 ? 0xc4 : length < 0x10000 ? 0xc5 : 0xc6, length, widthOf(length));
    this.#room(length);
    this.#bytes.set(bytes, this.#end);
    this.#end += length;
  }

  #number(value: number): void {
    if (!Number.isFinite(value)) throw new TypeError(`${value} has no form on the wire.`);
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      this.#byte(0xcb);
      this.#room(8);
      this.#view.setFloat64(this.#end, value);
      this.#end += 8;
    } else if (value >= 0) this.#uint(value);
    else this.#negative(value);
  }

  #uint(value: number): void {
    if (value < 0x80) this.#byte(value);
    else if (value < 0x100) this.#head(0xcc, value, 1);
    else if (value < 0x10000) this.#head(0xcd, value, 2);
    else if (value < 0x100000000) this.#head(0xce, value, 4);
    else this.#wide(0xcf, value);
  }

  #negative(value: number): void {
    if (value >= -0x20) this.#byte(value & 0xff);
    else if (value >= -0x80) this.#head(0xd0, value & 0xff, 1);
    else if (value >= -0x8000) this.#head(0xd1, value & 0xffff, 2);
    else if (value >= -0x80000000) this.#head(0xd2, value >>> 0, 4);
    else this.#wide(0xd3, value);
  }

  #wide(tag: number, value: number): void {
    this.#byte(tag);
    this.#room(8);
    this.#view.setInt32(this.#end, Math.floor(value / 0x100000000));
    this.#view.setUint32(this.#end + 4, value >>> 0);
    this.#end += 8;
  }

  #head(tag: number, value: number, width: number): void {
    this.#byte(tag);
    this.#room(4);
    if (width === 1) this.#bytes[this.#end] = value;
    else if (width === 2) this.#view.setUint16(this.#end, value);
    else this.#view.setUint32(this.#end, value);
    this.#end += width;
  }

  #byte(byte: number): void {
    this.#room(1);
    this.#bytes[this.#end++] = byte;
  }

  #room(more: number): void {
    const needed = this.#end + more;
    if (needed <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes);
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function widthOf(length: number): number {
  return length < 0x100 ? 1 : length < 0x10000 ? 2 : 4;
}

function checkDepth(depth: number): void {
  if (depth > MAX_DEPTH) throw new RangeError(`A message is nested more than ${MAX_DEPTH} deep.`);
}

function pairsOfMap(map: Map<unknown, unknown>): Pairs {
  const pairs: Pairs = { keys: [], values: [] };
  for (const [key, value] of map) {
    if (typeof key !== "string") throw new TypeError("A map's keys must be strings.");
    add(pairs, key, value);
  }
  return pairs;
}

function pairsOfObject(value: object): Pairs {
  const prototype: unknown = Object.getPrototypeOf(value);
  // An object of another realm has another Object.prototype, whose own prototype is null.
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null;
  if (!isPlain) throw new TypeError(`A ${value.constructor?.name ?? "value"} has no form on the wire.`);
  const pairs: Pairs = { keys: [], values: [] };
  for (const key of Object.keys(value)) {
    const item = (value as Record<string, unknown>)[key];
    if (item !== undefined) add(pairs, key, item);
  }
  return pairs;
}
