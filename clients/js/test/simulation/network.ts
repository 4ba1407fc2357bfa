/** The network between tabs and the server: frames keep their order on one connection, and nothing else. */

import type { FakeClock } from "../../src/testing/index.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import type { Line } from "../tabs/browser.ts";

/** What either side may say again and again: the other one knows it by its number. */
const REPEATABLE = new Set(["mutate", "mutate_ack", "publish", "event", "outcome", "mark"]);

/** One way of one connection. */
interface Way {
  /** When the last frame arrives. */
  lastAt: number;
  /** What is on its way, in the order in which it was sent. */
  readonly waiting: (() => void)[];
  /** So many of these have arrived. */
  numArrived: number;
  isBusy: boolean;
}

function newWay(): Way {
  return { lastAt: 0, waiting: [], numArrived: 0, isBusy: false };
}

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
  readonly #ways = new WeakMap<object, { up: Way; down: Way }>();

  constructor(clock: FakeClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  carry(socket: object, way: "up" | "down", frame: Uint8Array | null, run: () => void): void {
    const now = this.#clock.now();
    const ways = this.#ways.get(socket) ?? { up: newWay(), down: newWay() };
    this.#ways.set(socket, ways);
    const own = ways[way];
    if (frame !== null && way === "down" && !this.#areWelcome.has(socket)) this.#note(socket, frame);
    const delayMs = this.maxDelayMs === 0 ? 0 : Math.floor(this.#random() * this.maxDelayMs);
    const arrivesAt = Math.max(now + delayMs, own.lastAt);
    own.lastAt = arrivesAt;
    const times = frame !== null && this.repeats > 0 && this.#isRepeated(frame) ? 2 : 1;
    for (let time = 0; time < times; time++) {
      own.waiting.push(run);
      if (arrivesAt <= now) this.#arrived(own);
      else this.#clock.setTimeout(() => this.#arrived(own), arrivesAt - now);
    }
  }

  /** The oldest frame has arrived: it is read once those before it are, and not from within them. */
  #arrived(way: Way): void {
    way.numArrived += 1;
    if (way.isBusy) return;
    way.isBusy = true;
    for (; way.numArrived > 0; way.numArrived -= 1) way.waiting.shift()?.();
    way.isBusy = false;
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
