/**
 * Plays the steps that all traces share: connections, frames and time.
 *
 * Request ids may differ from the trace's: what the client sent is matched with what the trace says in order, and the
 * server's answers are then given the client's ids.
 */

import { readdirSync, readFileSync } from "node:fs";
import { expect } from "vitest";
import type { EntriesRoom } from "../src/core/entries.ts";
import type { Fact } from "../src/core/facts.ts";
import { decodeFrame, type Message } from "../src/wire/decode.ts";
import { encodeMessage } from "../src/wire/encode.ts";
import type { SpokenCore } from "./driver.ts";
import { valueFrom } from "./vectors.ts";

/** One step of a trace; the fields are told in the README.md of its folder. */
export type Step = { do: string } & Record<string, unknown>;

/** One file. */
export interface Trace {
  name: string;
  why: string;
  clients?: string[];
  steps: Step[];
}

/** Read all traces of a folder of `protocol/vectors`. */
export function loadTraces(folder: string): Trace[] {
  const at = new URL(`../../../protocol/vectors/${folder}/`, import.meta.url);
  const names = readdirSync(at).filter((name) => name.endsWith(".json"));
  return names.sort().map((name) => JSON.parse(readFileSync(new URL(name, at), "utf8")) as Trace);
}

/** What one step did. */
export interface Done {
  sent: Message[];
  facts: Fact[];
  hangsUp: boolean;
}

/** Plays steps to a core. */
export class TracePlayer<Room extends EntriesRoom> {
  now = 0;
  readonly core: SpokenCore<Room>;
  /** The trace's request ids to the client's. */
  readonly #ids = new Map<number, number>();

  constructor(core: SpokenCore<Room>) {
    this.core = core;
  }

  /** Do what a step of the connection or the clock says; return false for any other step. */
  play(step: Step): boolean {
    switch (step.do) {
      case "open":
        this.core.connect(this.now);
        this.core.take();
        this.core.connectSucceeded();
        return true;
      case "receive":
        this.#receive(step["decoded"] as Message[]);
        return true;
      case "lose":
        this.core.closed(this.now, step["code"] as number);
        return true;
      case "time":
        this.#passUntil(step["now_ms"] as number);
        return true;
      default:
        return false;
    }
  }

  #receive(decoded: Message[]): void {
    const messages = valueFrom(decoded) as Message[];
    const bytes = messages.map(([kind, body]) => {
      const id = body["id"];
      const known = typeof id === "number" ? (this.#ids.get(id) ?? id) : id;
      return encodeMessage(kind, { ...body, id: known }).bytes;
    });
    this.core.receive(new Uint8Array(Buffer.concat(bytes)), this.now);
  }

  /** Like a shell's timer: run at every deadline on the way. */
  #passUntil(end: number): void {
    for (let due = this.core.nextDeadline(); due <= end; due = this.core.nextDeadline()) {
      this.now = Math.max(due, this.now);
      this.core.tick(this.now);
    }
    this.now = end;
  }

  /** Take what the last step did. */
  take(): Done {
    const done: Done = { sent: [], facts: [], hangsUp: false };
    for (const output of this.core.take()) {
      if (!("do" in output)) done.facts.push(output);
      else if (output.do === "send") done.sent.push(...decodeFrame(output.data));
      else if (output.do === "hangup") done.hangsUp = true;
    }
    return done;
  }

  /** Compare what was sent with what the trace says, and learn the ids. */
  expectSent(sent: Message[], wanted: Message[]): void {
    expect(sent.map(([kind]) => kind)).toEqual(wanted.map(([kind]) => kind));
    for (const [place, [, body]] of sent.entries()) {
      const { id, ...rest } = body;
      const { id: theirId, ...theirs } = wanted[place]?.[1] ?? {};
      if (typeof theirId === "number") this.#ids.set(theirId, id as number);
      expect(rest).toEqual(theirs);
    }
  }
}
