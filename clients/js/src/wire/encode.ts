/** Values to msgpack, within the bounds of SPEC section 2: what the server would refuse is refused here, before it is sent. */

import { utf8FromText } from "./utf8.js";

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
const NULLABLE = /^(data|state)$/;

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
  const writer = new Writer(maxValues);
  writer.message(
    kind,
    Object.entries(body).filter(([key, value]) => (value ?? null) !== null || NULLABLE.test(key)),
  );
  return writer.encoded();
}

/** Encode one value by itself, as `encodeMessage` does within a message: to store it, or to know its size. */
export function encodeValue(value: unknown): Uint8Array {
  const writer = new Writer();
  writer.value(value, 3);
  return writer.encoded().bytes;
}

type Pairs = readonly (readonly [key: unknown, value: unknown])[];

/** Most messages are smaller. */
const FIRST_BYTES = 256;

class Writer {
  #bytes = new Uint8Array(FIRST_BYTES);
  #end = 0;
  #values = 0;
  readonly #maxValues: number;

  constructor(maxValues = MAX_VALUES) {
    this.#maxValues = maxValues;
  }

  encoded(): Encoded {
    return { bytes: this.#bytes.slice(0, this.#end), values: this.#values };
  }

  message(kind: string, body: Pairs): void {
    this.#head(0x92);
    this.#string(kind);
    this.#map(body, 2);
  }

  value(value: unknown, depth: number): void {
    if (value === undefined || value === null) this.#head(0xc0);
    else if (typeof value === "string") this.#string(value);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "boolean") this.#head(value ? 0xc3 : 0xc2);
    else if (value instanceof Uint8Array) this.#sized(0xc4, value);
    else if (value instanceof ArrayBuffer) this.#sized(0xc4, new Uint8Array(value));
    else if (Array.isArray(value)) {
      this.#open(0x90, value.length, depth);
      for (const item of value) this.value(item, depth + 1);
    } else if (value instanceof Map) this.#map([...value], depth);
    else if (isPlain(value)) {
      const pairs = Object.entries(value);
      this.#map(
        pairs.filter(([, item]) => item !== undefined),
        depth,
      );
    } else throw new TypeError(`A ${Object(value).constructor?.name ?? "value"} has no form on the wire.`);
  }

  #map(pairs: Pairs, depth: number): void {
    this.#open(0x80, pairs.length, depth);
    for (const [key, value] of pairs) {
      if (typeof key !== "string") throw new TypeError("A map's keys must be strings.");
      this.#string(key);
      this.value(value, depth + 1);
    }
  }

  /** The head of a container, whose items count. */
  #open(fix: number, length: number, depth: number): void {
    this.#values += length + 1;
    if (depth > MAX_DEPTH || this.#values > this.#maxValues) {
      throw new RangeError(`A message has over ${this.#maxValues} values or ${MAX_DEPTH} levels.`);
    }
    if (length < 16) this.#head(fix | length);
    else this.#head(fix === 0x80 ? 0xde : 0xdc, length, 2);
  }

  #string(text: string): void {
    const bytes = utf8FromText(text);
    this.#sized(0xd9, bytes);
  }

  /** Bytes behind their number; a short string has it in its tag. */
  #sized(tag: number, bytes: Uint8Array): void {
    const { length } = bytes;
    if (tag === 0xd9 && length < 32) this.#head(0xa0 | length);
    else this.#tagged(tag, length, length);
    const at = this.#room(length);
    this.#bytes.set(bytes, at);
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      if (!Number.isFinite(value)) throw new TypeError(`${value} has no form on the wire.`);
      this.#head(0xcb);
      const at = this.#room(8);
      new DataView(this.#bytes.buffer).setFloat64(at, value);
    } else if (value >= -0x20 && value < 0x80) this.#head(value);
    else if (value > 0) this.#tagged(0xcc, value, value);
    else this.#tagged(0xd0, value, -2 * value - 1);
  }

  /** An integer behind one of four tags in a row, for 1, 2, 4 and 8 bytes: as many as `size` takes. */
  #tagged(tag: number, value: number, size: number): void {
    const power = size < 0x100 ? 0 : size < 0x10000 ? 1 : size < 0x100000000 ? 2 : 3;
    this.#head(tag + power, value, 1 << power);
  }

  /** A tag, and an integer of so many bytes. What is stored in a byte is taken modulo 256, negative or not. */
  #head(tag: number, value = 0, width = 0): void {
    const at = this.#room(1 + width);
    this.#bytes[at] = tag;
    for (let place = at + width, rest = value; place > at; place--) {
      this.#bytes[place] = rest;
      rest = Math.floor(rest / 0x100);
    }
  }

  /** Make room for so many bytes; return where they begin. */
  #room(more: number): number {
    const at = this.#end;
    this.#end = at + more;
    if (this.#end > this.#bytes.length) {
      const grown = new Uint8Array(this.#end * 2);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    return at;
  }
}

/** Whether it is an object of no class. One of another realm has another Object.prototype, whose own prototype is null. */
function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || !value) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return !prototype || Object.getPrototypeOf(prototype) === null;
}
