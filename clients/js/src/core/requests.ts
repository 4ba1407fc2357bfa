/** Requests that wait for an answer, over as many connections as it takes. Pure. Every request settles once. */

import type { Encoded } from "../wire/encode.js";
import { Backoff, type Random } from "./backoff.js";

/** What the server suggests itself when it has too much to do. */
export const FIRST_RETRY_MS = 250;

/** One request and its encoded message, which is the same at every attempt. */
export interface Request {
  readonly id: number;
  readonly kind: string;
  readonly message: Encoded;
  /** Empty for requests that concern no channel. */
  readonly channel: string;
  /** Nobody waits for it: the core asks for itself. */
  readonly isInternal: boolean;
  readonly backoff: Backoff;
}

/** Open requests in the order they were made. Bounded by whoever makes them: the shell admits 1,024 at a time. */
export class Requests {
  readonly #random: Random;
  readonly #open = new Map<number, Request>();
  /** Request id to when it is sent again. */
  readonly #delayed = new Map<number, number>();
  #numMade = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Return a number no message of this client carried before. */
  nextId(): number {
    this.#numMade += 1;
    return this.#numMade;
  }

  /** Add a request. */
  open(id: number, kind: string, message: Encoded, channel: string, isInternal: boolean): Request {
    const backoff = new Backoff(this.#random, FIRST_RETRY_MS);
    const request = { id, kind, message, channel, isInternal, backoff };
    this.#open.set(id, request);
    return request;
  }

  /** Return an open request. */
  find(id: number): Request | undefined {
    return this.#open.get(id);
  }

  /** Remove and return a request; undefined when it is not open (any more). */
  close(id: number): Request | undefined {
    const request = this.#open.get(id);
    this.#open.delete(id);
    this.#delayed.delete(id);
    return request;
  }

  /** Return the open requests of this kind for this channel. */
  ofKind(kind: string, channel: string): Request[] {
    return [...this.#open.values()].filter((r) => r.kind === kind && r.channel === channel);
  }

  /** Send it again later. */
  postpone(request: Request, now: number, afterMs: number): void {
    this.#delayed.set(request.id, now + request.backoff.nextMs(afterMs));
  }

  /** Return all, oldest first, and forget what was postponed: a new connection asks everything again. */
  allToSend(): Request[] {
    this.#delayed.clear();
    return [...this.#open.values()];
  }

  /** Return, oldest first, the postponed ones whose time has come. */
  due(now: number): Request[] {
    const due: Request[] = [];
    for (const [id, request] of this.#open) {
      const at = this.#delayed.get(id);
      if (at !== undefined && at <= now) {
        this.#delayed.delete(id);
        due.push(request);
      }
    }
    return due;
  }

  /** Return when the first postponed one is due; infinity for none. */
  nextRetryAt(): number {
    return Math.min(...this.#delayed.values());
  }

  /** Remove and return all, oldest first. */
  closeAll(): Request[] {
    const left = [...this.#open.values()];
    this.#open.clear();
    this.#delayed.clear();
    return left;
  }
}
