import { decode as referenceDecode, encode as referenceEncode } from "@msgpack/msgpack";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeFrame, decodeValue, type Message } from "../src/wire/decode.ts";
import { encodeMessage, encodeValue, MAX_VALUES } from "../src/wire/encode.ts";
import { BadServerMessage, packFrames } from "../src/wire/frames.ts";
import { frameOf, loadVectors, valueFrom } from "./vectors.ts";

/** What was read before the frame broke, and whether it did. */
function decoded(frame: Uint8Array, maxValues?: number): { messages: readonly Message[]; isBroken: boolean } {
  const messages: Message[] = [];
  try {
    return { messages: decodeFrame(frame, maxValues, messages), isBroken: false };
  } catch (error) {
    if (!(error instanceof BadServerMessage)) throw error;
    return { messages, isBroken: true };
  }
}

describe("shared vectors", () => {
  const server = loadVectors("server.json");
  const client = loadVectors("client.json");
  const hostile = loadVectors("hostile.json");

  it("are all there", () => {
    expect([server.length, client.length, hostile.length].every((n) => n >= 70)).toBe(true);
  });

  it.each(server)("a frame of the server means what its vector says: $name", (vector) => {
    expect(decodeFrame(frameOf(vector))).toStrictEqual(valueFrom(vector.decoded ?? []));
  });

  it.each(client)("a frame of a client means what its vector says: $name", (vector) => {
    const { messages, isBroken } = decoded(frameOf(vector), MAX_VALUES);
    expect(isBroken).toBe(vector.error === "bad_message");
    // What is well-formed but wrong in a field is a matter of the server.
    if (!vector.error) expect(messages).toStrictEqual(valueFrom(vector.decoded ?? []));
  });

  it.each(hostile)("bytes made to hurt end the frame: $name", (vector) => {
    const { messages, isBroken } = decoded(frameOf(vector), MAX_VALUES);
    expect(isBroken).toBe(true);
    expect(messages).toStrictEqual(valueFrom(vector.decoded ?? []));
  });

  it.each([...client, ...server].filter((v) => v.decoded?.length))(
    "a message encodes to the same: $name",
    (vector) => {
      const messages = valueFrom(vector.decoded ?? []) as Message[];
      const frames = packFrames(
        messages.map(([kind, body]) => encodeMessage(kind, body)),
        1 << 24,
      );
      expect(frames.flatMap((frame) => decodeFrame(frame))).toStrictEqual(messages.map(withoutAbsent));
    },
  );
});

/** Null stands for absent, but for `data` and `state`. */
function withoutAbsent([kind, body]: Message): Message {
  const kept = Object.entries(body).filter(
    ([key, value]) => value !== null || key === "data" || key === "state",
  );
  return [kind, Object.assign(Object.create(null), Object.fromEntries(kept))];
}

const text = fc.string({ unit: "binary" });
const number = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
);
const value = fc.letrec((tie) => ({
  any: fc.oneof(
    { maxDepth: 5 },
    text,
    number,
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array(),
    fc.array(tie("any"), { maxLength: 20 }),
    fc
      .dictionary(text, tie("any"), { noNullPrototype: false, maxKeys: 20 })
      .map((map) => Object.assign(Object.create(null), map)),
  ),
})).any;

describe("codec", () => {
  it("gives every value back", () => {
    fc.assert(
      fc.property(value, (v) => {
        expect(decodeValue(encodeValue(v))).toStrictEqual(v);
      }),
    );
  });

  it("agrees with @msgpack/msgpack, both ways", () => {
    const keyed = value.filter((v) => !JSON.stringify(v).includes("__proto__"));
    fc.assert(
      fc.property(keyed, (v) => {
        expect(referenceDecode(encodeValue(v))).toEqual(v);
        // Not compared with `v`: the library writes -0 as the integer 0.
        const bytes = referenceEncode(v);
        expect(decodeValue(bytes)).toEqual(referenceDecode(bytes));
      }),
    );
  });

  it("never does anything with bytes but read them or refuse them", () => {
    const frame = fc.oneof(fc.uint8Array({ maxLength: 200 }), value.map(encodeValue));
    fc.assert(
      fc.property(frame, (bytes) => {
        decoded(bytes);
      }),
      { numRuns: 1000 },
    );
  });

  it("agrees with the platform about what is UTF-8", () => {
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const bytes = fc.array(
      fc.constantFrom(0x41, 0x80, 0xbf, 0xc2, 0xc3, 0xe0, 0xed, 0xa0, 0x9f, 0xf0, 0xf4, 0x8f, 0x90),
    );
    fc.assert(
      fc.property(bytes, (list) => {
        const raw = Uint8Array.from(list);
        let wanted: string | null;
        try {
          wanted = strict.decode(raw);
        } catch {
          wanted = null;
        }
        let got: unknown;
        try {
          got = decodeValue(Uint8Array.from([0xd9, raw.length, ...raw]));
        } catch {
          got = null;
        }
        expect(got).toBe(wanted);
      }),
      { numRuns: 2000 },
    );
  });

  it("keeps a key called __proto__ an ordinary key", () => {
    const map = JSON.parse('{"__proto__": {"admin": true}}') as object;
    const back = decodeValue(encodeValue(map)) as Record<string, unknown>;
    expect(Object.keys(back)).toEqual(["__proto__"]);
    expect(back["admin"]).toBeUndefined();
  });

  it.each([
    ["a function", () => 1],
    ["a symbol", Symbol("x")],
    ["a bigint", 1n],
    ["a date", new Date(0)],
    ["a class of the application", new (class Order {})()],
    ["NaN", Number.NaN],
    ["Infinity", Number.POSITIVE_INFINITY],
    ["a lone surrogate", "\ud800"],
    ["a lone surrogate as key", { "\udc00": 1 }],
    ["a map with another key", new Map([[1, 2]])],
  ])("refuses %s before it is sent", (_what, bad) => {
    expect(() => encodeMessage("publish", { data: [bad] })).toThrow(TypeError);
  });

  it("refuses what the server would: depth and number of values", () => {
    const nested = (depth: number): unknown => (depth === 0 ? 1 : [nested(depth - 1)]);
    expect(encodeMessage("publish", { data: nested(30) }).values).toBe(62);
    expect(() => encodeMessage("publish", { data: nested(31) })).toThrow(RangeError);
    expect(encodeMessage("publish", { data: Array(MAX_VALUES - 3).fill(0) }).values).toBe(MAX_VALUES);
    expect(() => encodeMessage("publish", { data: Array(MAX_VALUES - 2).fill(0) })).toThrow(RangeError);
  });

  it("leaves out what is undefined, and writes it as nil within lists", () => {
    const body = { id: 1, name: undefined, key: null, data: { a: undefined, b: [undefined] } };
    expect(decodeFrame(encodeMessage("publish", body).bytes)).toStrictEqual([
      ["publish", valueFrom({ id: 1, data: { b: [null] } })],
    ]);
  });
});

describe("packing", () => {
  it("fills frames in order and never beyond the bytes or the values of one", () => {
    const messages = fc.array(fc.record({ data: fc.array(fc.integer(), { maxLength: 3000 }) }), {
      maxLength: 12,
    });
    fc.assert(
      fc.property(messages, fc.integer({ min: 16_000, max: 65_536 }), (bodies, maxBytes) => {
        const encoded = bodies.map((body) => encodeMessage("publish", body));
        const frames = packFrames(encoded, maxBytes);
        expect(frames.every((frame) => frame.length <= maxBytes)).toBe(true);
        const back = frames.flatMap((frame) => decodeFrame(frame, MAX_VALUES));
        expect(back.map(([, body]) => body["data"])).toEqual(bodies.map((body) => body.data));
      }),
      { numRuns: 30 },
    );
  });

  it("begins another frame where the values of one would be too many, small as they are", () => {
    const large = encodeMessage("publish", { data: Array(6000).fill(0) });
    expect(packFrames([large, large], 65_536)).toHaveLength(2);
  });

  it("sends nothing for nothing, and a message that is too large by itself alone", () => {
    expect(packFrames([], 10)).toEqual([]);
    const [small, large] = [encodeMessage("pong", {}), encodeMessage("publish", { data: "x".repeat(99) })];
    expect(packFrames([small, large, small], 20).map((f) => f.length)).toEqual([7, large.bytes.length, 7]);
  });
});
