/** A way to the server that takes less than the server says: what a client does about close code 1009. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ClientCore } from "../src/core/core.ts";
import type { MutationOutcome } from "../src/core/entries/facts.ts";
import { StateRoom } from "../src/core/entries/room.ts";
import { Selection, type Watch } from "../src/core/entries/watch.ts";
import type { RequestFailed } from "../src/core/errors.ts";
import type { Output, Settled } from "../src/core/facts.ts";
import { decodeFrame } from "../src/wire/decode.ts";
import { encodeMessage } from "../src/wire/encode.ts";

const TOO_BIG = 1009;
/** What a mutation is measured with is an upper bound: the longest number and client. */
const HEADROOM = 120;

type Body = Record<string, unknown>;

/** A server behind a proxy that ends the connection at frames over its limit, and a client. */
class Way {
  readonly core = new ClientCore(
    () => 0.5,
    (speech) => new StateRoom(speech),
  );
  /** Values of the mutations and publications that took effect, in order. */
  readonly applied: unknown[] = [];
  readonly outcomes = new Map<number, MutationOutcome>();
  readonly answers = new Map<number, Settled>();
  /** Codes of the watches that are over. */
  readonly ended = new Map<number, string>();
  /** What the server says that it takes. */
  maxFrameBytes = 65_536;
  readonly limit: number;
  #numSessions = 0;
  #now = 0;
  #lastMid = 0;
  #isUp = false;
  readonly #answers: [string, Body][] = [];

  constructor(limit: number) {
    this.limit = limit;
  }

  put(value: string): number {
    return this.core.entries.mutate("orders.put", { key: "k", value }, this.#now)[0];
  }

  watch(numKeys: number): Watch {
    const keys = Array.from({ length: numKeys }, (_, n) => `${n}`.padStart(20, "k"));
    return this.core.entries.watching.watch(new Selection("orders", keys));
  }

  publish(data: string, uid: string): number {
    return this.core.requests.ask("publish", { channel: "demo:room", data, uid });
  }

  /** The connection is gone, and what was on the way with it. */
  lose(code = 1006): void {
    this.core.take();
    this.#isUp = false;
    this.#answers.length = 0;
    this.core.closed(this.#now, code, "");
  }

  /** An attempt ends with this code, before anything was said. */
  fail(code: number): void {
    this.#now = this.core.nextDeadline();
    this.core.tick(this.#now);
    this.lose(code);
  }

  /** Let the client and the server talk until nothing is left to be said, over so many sessions at most. */
  settle(maxSessions: number): void {
    this.#numSessions = 0;
    this.core.connection.connect(this.#now);
    for (;;) {
      const outputs = this.core.take();
      for (const output of outputs) this.#perform(output);
      if (this.#isUp && this.#answers.length > 0) this.#answer();
      else if (outputs.length === 0) {
        if (this.core.state === "connected" && this.core.nextDeadline() > this.#now) return;
        this.#now = Math.max(this.#now, this.core.nextDeadline());
        this.core.tick(this.#now);
      }
      if (this.#numSessions > maxSessions) throw new Error(`Over ${maxSessions} sessions.`);
    }
  }

  #perform(output: Output): void {
    if ("do" in output) {
      if (output.do === "dial") {
        this.#isUp = true;
        this.core.connection.connectSucceeded();
      } else if (output.do === "send" && this.#isUp) this.#carry(output.data);
    } else if (output.kind === "outcome") this.outcomes.set(output.outcome.id, output.outcome);
    else if (output.kind === "settled") this.answers.set(output.requestId, output);
    else if (output.kind === "ended") this.ended.set(output.watch, output.code);
  }

  #carry(frame: Uint8Array): void {
    if (frame.length > this.limit) {
      this.lose(TOO_BIG);
      return;
    }
    for (const [kind, body] of decodeFrame(frame)) this.#serve(kind, body);
  }

  #serve(kind: string, body: Body): void {
    if (kind === "hello") {
      this.#numSessions += 1;
      const clients = [{ client: "c1", secret: "s1", last_mid: this.#lastMid }];
      const limits = { ping_ms: 25_000, max_frame_bytes: this.maxFrameBytes };
      this.#answers.push(["welcome", { session: "s", clients, server_time_ms: 0, ...limits }]);
    } else if (kind === "mutate") {
      const mid = body["mid"] as number;
      if (mid > this.#lastMid) {
        expect(mid).toBe(this.#lastMid + 1);
        this.#lastMid = mid;
        this.applied.push((body["args"] as { value: unknown }).value);
      }
      this.#answers.push(["outcome", { client: "c1", mid, status: "ok", positions: {} }]);
    } else if (kind === "watch") {
      const position = { epoch: "e", offset: 0 };
      this.#answers.push(["watched", { id: body["id"], channel: "orders", position, entries: [] }]);
    } else if (kind === "publish") {
      if (!this.applied.includes(body["data"])) this.applied.push(body["data"]);
      this.#answers.push(["ok", { id: body["id"], position: { epoch: "e", offset: 1 } }]);
    }
  }

  #answer(): void {
    const bytes = this.#answers.splice(0).map(([kind, body]) => encodeMessage(kind, body).bytes);
    this.core.receive(new Uint8Array(Buffer.concat(bytes)), this.#now);
  }
}

const SMALL = ["a", "b".repeat(100), "c".repeat(1_000)];

describe("a proxy that takes less than the server says", () => {
  it("gets smaller frames, and nothing is given up while every message fits", () => {
    const way = new Way(10_000);
    const values = Array.from({ length: 100 }, (_, n) => `${n}`.padEnd(900, "."));
    const ids = values.map((value) => way.put(value));
    way.settle(4);
    expect(way.applied).toEqual(values);
    expect(ids.map((id) => way.outcomes.get(id)?.status)).toEqual(ids.map(() => "ok"));
  });

  it("costs the one mutation that it does not let through: the others take effect, each once", () => {
    const way = new Way(10_000);
    const first = way.put("a");
    const large = way.put("x".repeat(20_000));
    const rest = SMALL.map((value) => way.put(value));
    way.settle(5);
    expect(way.outcomes.get(large)).toMatchObject({ status: "rejected", code: "too_large" });
    expect([first, ...rest].map((id) => way.outcomes.get(id)?.status)).toEqual(["ok", "ok", "ok", "ok"]);
    expect(way.applied).toEqual(["a", ...SMALL]);
    expect(way.core.state).toBe("connected");
  });

  it("costs the one publication that it does not let through, and no mutation", () => {
    const way = new Way(10_000);
    const ids = SMALL.map((value) => way.put(value));
    const large = way.publish("x".repeat(20_000), "u1");
    const small = way.publish("fits", "u2");
    way.settle(5);
    expect(way.answers.get(large)?.error).toMatchObject({ name: "RequestFailed", code: "too_large" });
    expect(way.answers.get(small)?.error).toBeNull();
    expect(ids.map((id) => way.outcomes.get(id)?.status)).toEqual(["ok", "ok", "ok"]);
    expect(way.applied).toEqual([...SMALL, "fits"]);
  });

  it("costs the one watch that it does not let through, and no mutation that is shorter", () => {
    const way = new Way(10_000);
    const large = way.watch(600);
    const small = way.watch(100);
    const ids = [way.put("a"), way.put("x".repeat(5_000))];
    way.settle(6);
    expect([...way.ended]).toEqual([[large.id, "too_large"]]);
    expect([large.state, small.state]).toEqual(["ended", "live"]);
    expect(ids.map((id) => way.outcomes.get(id)?.status)).toEqual(["ok", "ok"]);
  });

  it("is not asked for a watch that the server itself would not take, whether it is made before or over a session", () => {
    const way = new Way(Number.POSITIVE_INFINITY);
    const before = way.watch(4_000);
    way.settle(1);
    const over = way.watch(4_000);
    expect(way.core.take()).toEqual([]);
    way.settle(0);
    expect([...way.ended]).toEqual([before, over].map(({ id }) => [id, "too_large"]));
  });

  it("is remembered: a mutation as large as the one it did not let through is refused before it is queued", () => {
    const way = new Way(10_000);
    way.put("x".repeat(20_000));
    way.settle(5);
    way.lose();
    way.settle(1);
    expect(() => way.put("y".repeat(20_000))).toThrow(expect.objectContaining({ code: "too_large" }));
    const id = way.put("y".repeat(9_000));
    way.settle(0);
    expect(way.outcomes.get(id)?.status).toBe("ok");
  });

  it("is not suspected when a connection is lost, whatever was sent over it", () => {
    const way = new Way(60_000);
    way.maxFrameBytes = 10_000;
    way.settle(1);
    way.maxFrameBytes = 65_536;
    way.lose();
    way.settle(1);
    const id = way.put("z".repeat(40_000));
    way.lose();
    way.settle(1);
    expect(way.outcomes.get(id)?.status).toBe("ok");
  });

  it("is not suspected for what ended attempts, before there was a session", () => {
    const way = new Way(60_000);
    way.settle(1);
    const id = way.put("z".repeat(40_000));
    way.lose();
    for (let n = 0; n < 5; n++) way.fail(TOO_BIG);
    way.settle(1);
    expect(way.outcomes.get(id)?.status).toBe("ok");
  });

  it("gets what fits, each once and in order, and nothing else, whatever the sizes are", () => {
    const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 60_000 })), {
      maxLength: 30,
    });
    const limits = fc.integer({ min: 2_200, max: 60_000 });
    fc.assert(fc.property(limits, sizes, sizes, passesWhatFits));
  });
});

/** Send so many mutations and publications of these sizes, and compare what became of them with what has to. */
function passesWhatFits(limit: number, puts: readonly number[], publications: readonly number[]): void {
  const way = new Way(limit);
  const values = puts.map((size, n) => `m${n}`.padEnd(size, "."));
  const data = publications.map((size, n) => `p${n}`.padEnd(size, "."));
  const ids = values.map((value) => way.put(value));
  const requests = data.map((one, n) => way.publish(one, `u${n}`));
  way.settle(8 + puts.length + publications.length);
  const codes = [
    ...ids.map((id) => way.outcomes.get(id)?.code),
    ...requests.map((id) => (way.answers.get(id)?.error as RequestFailed | null)?.code ?? null),
  ];
  for (const [n, value] of [...values, ...data].entries()) {
    if (value.length <= limit - HEADROOM) expect([value.length, codes[n]]).toEqual([value.length, null]);
    if (value.length > limit) expect([value.length, codes[n]]).toEqual([value.length, "too_large"]);
  }
  const done = values.filter((_, n) => codes[n] === null);
  expect(way.applied.filter((one) => String(one).startsWith("m"))).toEqual(done);
}
