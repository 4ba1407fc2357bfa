/** The network between tabs and the server: frames keep their order on one connection, and nothing else. */

import type { FakeClock } from "../../src/testing/index.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import type { Line } from "../tabs/browser.ts";

/** What either side may say again and again: the other one knows it by its number. */
const REPEATABLE = new Set(["mutate", "mutate_ack", "publish", "event", "outcome", "mark"]);

/** Delays frames, and brings some twice. */
export class Network implements Line {
  maxDelayMs = 0;
  /** Chance that a frame comes twice. */
  repeats = 0;
  /** Every client that a session was welcomed for. */
  readonly clients = new Set<string>();
  readonly #clock: FakeClock;
  readonly #random: () => number;
  readonly #areWelcome = new WeakSet<object>();
  /** When the last frame of each way arrives. */
  readonly #lastAt = new WeakMap<object, { up: number; down: number }>();

  constructor(clock: FakeClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  carry(socket: object, way: "up" | "down", frame: Uint8Array | null, run: () => void): void {
    const now = this.#clock.now();
    let lastAt = this.#lastAt.get(socket);
    if (lastAt === undefined) {
      lastAt = { up: 0, down: 0 };
      this.#lastAt.set(socket, lastAt);
    }
    if (frame !== null && way === "down" && !this.#areWelcome.has(socket)) this.#note(socket, frame);
    const delayMs = this.maxDelayMs === 0 ? 0 : Math.floor(this.#random() * this.maxDelayMs);
    const arrivesAt = Math.max(now + delayMs, lastAt[way]);
    lastAt[way] = arrivesAt;
    const times = frame !== null && this.repeats > 0 && this.#isRepeated(frame) ? 2 : 1;
    for (let time = 0; time < times; time++) {
      if (arrivesAt <= now) run();
      else this.#clock.setTimeout(run, arrivesAt - now);
    }
  }

  /** A session begins with `welcome`. */
  #note(socket: object, frame: Uint8Array): void {
    this.#areWelcome.add(socket);
    for (const [, body] of decodeFrame(frame)) {
      for (const { client } of (body["clients"] ?? []) as { client: string }[]) this.clients.add(client);
    }
  }

  #isRepeated(frame: Uint8Array): boolean {
    return this.#random() < this.repeats && decodeFrame(frame).every(([kind]) => REPEATABLE.has(kind));
  }
}
