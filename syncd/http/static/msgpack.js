/**
 * The part of msgpack that syncd speaks (protocol/SPEC.md, section 2): nil, bool, integers within ±(2^53 - 1), floats, str,
 * bin, array, map. Maps become objects without a prototype, so that a key like `__proto__` is a key like any other.
 */

const MAX_DEPTH = 32;
const textEncoder = new TextEncoder();

/** The bytes, or the value to be encoded, are not what the protocol allows. */
export class MsgpackError extends Error {}

// ---------------------------------------------------------------------------------------------- encoding

class Writer {
  bytes = new Uint8Array(256);
  view = new DataView(this.bytes.buffer);
  length = 0;

  /** Make room for `size` more bytes and return where they begin. */
  reserve(size) {
    const start = this.length;
    this.length += size;
    if (this.length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.length, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return start;
  }

  byte(value) {
    const at = this.reserve(1);
    this.view.setUint8(at, value);
  }

  uint16(tag, value) {
    const at = this.reserve(3);
    this.view.setUint8(at, tag);
    this.view.setUint16(at + 1, value);
  }

  uint32(tag, value) {
    const at = this.reserve(5);
    this.view.setUint8(at, tag);
    this.view.setUint32(at + 1, value);
  }

  raw(bytes) {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }
}

function writeNumber(writer, value) {
  if (!Number.isFinite(value)) throw new MsgpackError("NaN and Infinity cannot be sent.");
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
    const at = writer.reserve(9);
    writer.view.setUint8(at, 0xcb);
    writer.view.setFloat64(at + 1, value);
  } else if (value >= 0 && value < 0x80) writer.byte(value);
  else if (value < 0 && value >= -32) writer.byte(value & 0xff);
  else if (value >= 0 && value <= 0xffffffff) writer.uint32(0xce, value);
  else {
    const at = writer.reserve(9);
    writer.view.setUint8(at, 0xd3);
    writer.view.setBigInt64(at + 1, BigInt(value));
  }
}

function writeString(writer, value) {
  if (!value.isWellFormed()) throw new MsgpackError("Text with half a surrogate pair cannot be sent.");
  const bytes = textEncoder.encode(value);
  if (bytes.length < 32) writer.byte(0xa0 | bytes.length);
  else if (bytes.length <= 0xffff) writer.uint16(0xda, bytes.length);
  else writer.uint32(0xdb, bytes.length);
  writer.raw(bytes);
}

function writeBytes(writer, value) {
  if (value.length <= 0xffff) writer.uint16(0xc5, value.length);
  else writer.uint32(0xc6, value.length);
  writer.raw(value);
}

function writeSize(writer, size, short, tag16, tag32) {
  if (size < 16) writer.byte(short | size);
  else if (size <= 0xffff) writer.uint16(tag16, size);
  else writer.uint32(tag32, size);
}

function writeContainer(writer, value, depth) {
  if (depth > MAX_DEPTH) throw new MsgpackError(`Values may be nested ${MAX_DEPTH} deep at most.`);
  if (Array.isArray(value)) {
    writeSize(writer, value.length, 0x90, 0xdc, 0xdd);
    for (const item of value) writeValue(writer, item, depth + 1);
    return;
  }
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  writeSize(writer, entries.length, 0x80, 0xde, 0xdf);
  for (const [key, item] of entries) {
    writeString(writer, key);
    writeValue(writer, item, depth + 1);
  }
}

function writeValue(writer, value, depth) {
  if (value === null || value === undefined) writer.byte(0xc0);
  else if (value === true) writer.byte(0xc3);
  else if (value === false) writer.byte(0xc2);
  else if (typeof value === "number") writeNumber(writer, value);
  else if (typeof value === "string") writeString(writer, value);
  else if (value instanceof Uint8Array) writeBytes(writer, value);
  else if (typeof value === "object") writeContainer(writer, value, depth);
  else throw new MsgpackError(`A ${typeof value} cannot be sent.`);
}

/** Encode `[type, body]` pairs into one frame. Keys of a body that are undefined are left out. */
export function encodeFrame(messages) {
  const writer = new Writer();
  for (const message of messages) writeValue(writer, message, 1);
  return writer.bytes.slice(0, writer.length);
}

// ---------------------------------------------------------------------------------------------- decoding

class Reader {
  text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(bytes, maxItems) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
    this.left = maxItems;
  }

  /** Step over `size` bytes and return where they begin. */
  take(size) {
    const start = this.at;
    if (size > this.bytes.length - start) throw new MsgpackError("The frame ends within a value.");
    this.at += size;
    return start;
  }

  size(width) {
    const at = this.take(width);
    if (width === 1) return this.view.getUint8(at);
    return width === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  string(size) {
    const start = this.take(size);
    try {
      return this.text.decode(this.bytes.subarray(start, start + size));
    } catch {
      throw new MsgpackError("Text must be well-formed UTF-8.");
    }
  }

  binary(size) {
    const start = this.take(size);
    return this.bytes.slice(start, start + size);
  }

  float(width) {
    const at = this.take(width);
    const value = width === 4 ? this.view.getFloat32(at) : this.view.getFloat64(at);
    if (!Number.isFinite(value)) throw new MsgpackError("NaN and Infinity are not allowed.");
    return value;
  }

  integer(width, isSigned) {
    const at = this.take(width);
    const view = this.view;
    if (width === 1) return isSigned ? view.getInt8(at) : view.getUint8(at);
    if (width === 2) return isSigned ? view.getInt16(at) : view.getUint16(at);
    if (width === 4) return isSigned ? view.getInt32(at) : view.getUint32(at);
    const value = Number(isSigned ? view.getBigInt64(at) : view.getBigUint64(at));
    if (!Number.isSafeInteger(value)) throw new MsgpackError("Integers must lie within ±(2^53 - 1).");
    return value;
  }

  enter(size, depth) {
    if (depth > MAX_DEPTH) throw new MsgpackError(`Values may be nested ${MAX_DEPTH} deep at most.`);
    this.left -= size + 1;
    if (this.left < 0) throw new MsgpackError("The frame holds too many values.");
  }

  array(size, depth) {
    this.enter(size, depth);
    const items = [];
    for (let index = 0; index < size; index += 1) items.push(this.value(depth + 1));
    return items;
  }

  map(size, depth) {
    this.enter(size, depth);
    const map = Object.create(null);
    for (let index = 0; index < size; index += 1) {
      const key = this.value(depth + 1);
      if (typeof key !== "string") throw new MsgpackError("Map keys must be strings.");
      if (key in map) throw new MsgpackError("A map has the same key twice.");
      map[key] = this.value(depth + 1);
    }
    return map;
  }

  value(depth) {
    const tag = this.bytes[this.take(1)];
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 0x0f, depth);
    if (tag < 0xa0) return this.array(tag & 0x0f, depth);
    if (tag < 0xc0) return this.string(tag & 0x1f);
    if (tag >= 0xe0) return tag - 0x100;
    return this.tagged(tag, depth);
  }

  tagged(tag, depth) {
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.binary(this.size(1));
      case 0xc5: return this.binary(this.size(2));
      case 0xc6: return this.binary(this.size(4));
      case 0xca: return this.float(4);
      case 0xcb: return this.float(8);
      case 0xcc: return this.integer(1, false);
      case 0xcd: return this.integer(2, false);
      case 0xce: return this.integer(4, false);
      case 0xcf: return this.integer(8, false);
      case 0xd0: return this.integer(1, true);
      case 0xd1: return this.integer(2, true);
      case 0xd2: return this.integer(4, true);
      case 0xd3: return this.integer(8, true);
      case 0xd9: return this.string(this.size(1));
      case 0xda: return this.string(this.size(2));
      case 0xdb: return this.string(this.size(4));
      case 0xdc: return this.array(this.size(2), depth);
      case 0xdd: return this.array(this.size(4), depth);
      case 0xde: return this.map(this.size(2), depth);
      case 0xdf: return this.map(this.size(4), depth);
      default: throw new MsgpackError("Extension types are not allowed.");
    }
  }

  message() {
    const tag = this.bytes[this.take(1)];
    const size = tag === 0xdc ? this.size(2) : tag === 0xdd ? this.size(4) : tag ^ 0x90;
    if (size !== 2) throw new MsgpackError("A message is an array of two: [type, body].");
    const type = this.value(2);
    const body = typeof type === "string" ? this.value(2) : null;
    const isMap = body !== null && typeof body === "object" && Object.getPrototypeOf(body) === null;
    if (!isMap) throw new MsgpackError("A message is [type, body]: a string and a map.");
    return [type, body];
  }
}

/**
 * Decode one frame.
 *
 * Returns the messages that count, and what is wrong with the one behind them: null, or a MsgpackError. `maxItems` bounds the
 * values in a frame; a client leaves it out, because its server is trusted to mean what it sends.
 */
export function decodeFrame(bytes, maxItems = Infinity) {
  const messages = [];
  const reader = new Reader(bytes, maxItems);
  try {
    do messages.push(reader.message());
    while (reader.at < bytes.length);
  } catch (error) {
    if (!(error instanceof MsgpackError)) throw error;
    return { messages, error };
  }
  return { messages, error: null };
}
