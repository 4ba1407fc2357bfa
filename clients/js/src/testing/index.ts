/** What tests of applications import from `syncd-client/testing`: a world in which nothing is real and nothing waits. */

import type { Environment, Signal } from "../shell/environment.js";
import { FakeClock } from "./clock.js";
import { FakeServer } from "./server.js";
import { FakeSocket } from "./socket.js";

export { FakeClock } from "./clock.js";
export { FakeEntries } from "./entries.js";
export { FakePresence } from "./presence.js";
export { FakeRebuilds } from "./rebuilds.js";
export { FakeServer } from "./server.js";
export { type FakeListener, FakeServerEnd, FakeSocket } from "./socket.js";

/** A fake environment, and the levers that move it. */
export interface FakeWorld {
  /** For `createClient({environment})`; several clients may share it. */
  readonly environment: Environment;
  readonly clock: FakeClock;
  readonly server: FakeServer;
  /** What listeners threw. */
  readonly errors: unknown[];
  /** What was logged. */
  readonly logs: string[];
  /** Tell every client what a browser would. */
  signal(signal: Signal): void;
}

/**
 * Make a world of its own: its clock stands until `clock.advance`, its server is `server`, and chance is even.
 *
 * @param random Jitter; 0.5 if not given.
 */
export function createFakeWorld(random: () => number = () => 0.5): FakeWorld {
  const clock = new FakeClock();
  const server = new FakeServer(clock);
  const listeners = new Set<(signal: Signal) => void>();
  const errors: unknown[] = [];
  const logs: string[] = [];
  let numBytes = 0;
  const environment: Environment = {
    WebSocket: class extends FakeSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol, server);
      }
    },
    now: () => clock.now(),
    wallNow: () => clock.wallNow(),
    setTimeout: (run, afterMs) => clock.setTimeout(run, afterMs),
    clearTimeout: (timer) => clock.clearTimeout(timer),
    random,
    randomBytes: (length) => {
      numBytes += 1;
      const bytes = new Uint8Array(length);
      new DataView(bytes.buffer).setUint32(0, numBytes);
      return bytes;
    },
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    reportError: (error) => errors.push(error),
    log: (message) => logs.push(message),
  };
  const signal = (what: Signal) => {
    for (const listener of [...listeners]) listener(what);
  };
  return { environment, clock, server, errors, logs, signal };
}
