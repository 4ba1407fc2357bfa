/**
 * Everything outside of the client, injected: clocks, timers, sockets, chance and what the browser tells.
 *
 * Globals are read by `defaultEnvironment` alone, when a client is made and never at import.
 */

/** A WebSocket as the client uses it: the browser's, Node's, that of `ws`, or a fake. */
export interface SocketLike {
  binaryType: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  /** Takes a `Uint8Array`; `never` because platforms disagree about what else they take. */
  send(data: never): void;
  close(code?: number, reason?: string): void;
}

/** Makes sockets; connecting begins at once. */
export type SocketMaker = new (url: string, protocol: string) => SocketLike;

/**
 * What the surroundings tell.
 *
 * - `online`, `offline`: the platform's opinion of the network. Both are hints; neither is believed.
 * - `visible`, `focus`, `resume`: somebody looks, or the page was thawed.
 * - `pagehide`, `pageshow`: the page is left, perhaps into the back/forward cache, and comes back.
 */
export type Signal = "online" | "offline" | "visible" | "focus" | "resume" | "pagehide" | "pageshow";

/** What a client needs from outside. */
export interface Environment {
  /** Opens connections. */
  readonly WebSocket: SocketMaker;
  /** Monotonic clock, ms from any beginning. */
  now(): number;
  /** Wall clock, ms since 1970. */
  wallNow(): number;
  /** Call `run` once after so many ms; the result goes to `clearTimeout`. */
  setTimeout(run: () => void, afterMs: number): unknown;
  /** Forget a timer. */
  clearTimeout(timer: unknown): void;
  /** Jitter: a number in 0 (with it) to 1 (without it). */
  random(): number;
  /** Bytes that nobody can guess and that never come again: idempotency keys. */
  randomBytes(length: number): Uint8Array;
  /** Call `listener` at every signal until the returned function is called. */
  listen(listener: (signal: Signal) => void): () => void;
  /** Take what a listener of the application threw: it must not stop the others, nor be lost. */
  reportError(error: unknown): void;
  /** Take a warning of the server that belongs to no request. */
  log(message: string): void;
}

interface EventSource {
  addEventListener(type: string, listener: () => void): void;
  removeEventListener(type: string, listener: () => void): void;
}

/** What the platform may have; each piece is looked for when it is needed. */
interface Platform extends Partial<EventSource> {
  WebSocket?: SocketMaker;
  performance: { now(): number };
  setTimeout(run: () => void, afterMs: number): unknown;
  clearTimeout(timer: unknown): void;
  crypto: { getRandomValues(bytes: Uint8Array): Uint8Array };
  document?: EventSource & { visibilityState: string };
  reportError?(error: unknown): void;
  console: { warn(message: string): void };
}

/**
 * Return the environment of this platform, with `given` in place of what it names.
 *
 * @throws TypeError there is no WebSocket: Node 20 has none, so give that of the package `ws`.
 */
export function completeEnvironment(given: Partial<Environment> = {}): Environment {
  const platform = globalThis as unknown as Platform;
  const WebSocket = given.WebSocket ?? platform.WebSocket;
  if (WebSocket === undefined) {
    throw new TypeError("There is no WebSocket: pass one as environment.WebSocket.");
  }
  return { ...defaultsOf(platform), ...given, WebSocket };
}

function defaultsOf(platform: Platform): Omit<Environment, "WebSocket"> {
  return {
    now: () => platform.performance.now(),
    wallNow: () => Date.now(),
    setTimeout: (run, afterMs) => platform.setTimeout(run, afterMs),
    clearTimeout: (timer) => platform.clearTimeout(timer),
    random: () => Math.random(),
    randomBytes: (length) => platform.crypto.getRandomValues(new Uint8Array(length)),
    listen: (listener) => listenTo(platform, listener),
    reportError: (error) => {
      if (platform.reportError) platform.reportError(error);
      else {
        platform.setTimeout(() => {
          throw error;
        }, 0);
      }
    },
    log: (message) => platform.console.warn(message),
  };
}

/** Listen to a page's events, or a worker's; elsewhere there is nothing to hear. */
function listenTo(platform: Platform, listener: (signal: Signal) => void): () => void {
  const page = platform.document;
  const undo: (() => void)[] = [];
  const on = (source: Partial<EventSource>, type: string, run: () => void): void => {
    source.addEventListener?.(type, run);
    undo.push(() => source.removeEventListener?.(type, run));
  };
  for (const signal of ["online", "offline", "focus", "pagehide", "pageshow"] as const) {
    on(platform, signal, () => listener(signal));
  }
  on(page ?? {}, "resume", () => listener("resume"));
  on(page ?? {}, "visibilitychange", () => {
    if (page?.visibilityState === "visible") listener("visible");
  });
  return () => {
    for (const run of undo) run();
  };
}

/** Make a name that nobody else makes and nobody can guess: 32 hexadecimal digits. */
export function newId({ randomBytes }: Environment): string {
  return Array.from(randomBytes(16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
