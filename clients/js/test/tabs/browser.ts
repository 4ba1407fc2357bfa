/** A browser with tabs that share locks, channels and storage, and can be killed and frozen, over a fake server. */

import { type Client, type ClientOptions, createClient, type MutatorMap } from "../../src/index.ts";
import type { Environment, Signal } from "../../src/shell/environment.ts";
import { type ChannelLike, type SharedTabs, sharedTabs } from "../../src/tabs/index.ts";
import { createFakeWorld, type FakeServerEnd, FakeSocket, type FakeWorld } from "../../src/testing/index.ts";
import { decodeFrame } from "../../src/wire/decode.ts";
import { FakeLocks, type FakePageLocks } from "../locks.ts";

/** What a tab is opened with. */
export interface TabOptions {
  hasLocks?: boolean;
  /** Whose it is. */
  user?: string;
  /** Further options of its client. */
  client?: (tab: FakeTab) => Partial<ClientOptions<MutatorMap>>;
}

/** How everything travels between tabs and the server: at once, or as a simulation says. */
export interface Line {
  /** Called in the order in which it is sent; `frame` is null for the beginning and the end of a connection. */
  carry(socket: object, way: "up" | "down", frame: Uint8Array | null, run: () => void): void;
}

/** One tab, and everything its application was told. */
export class FakeTab {
  readonly client: Client;
  readonly tabs: SharedTabs;
  readonly locks: FakePageLocks;
  readonly told: unknown[] = [];
  readonly states: string[] = [];
  /** Real sockets that it opened. */
  readonly sockets: FakeServerEnd[] = [];
  readonly channels = new Set<FakeChannel>();
  readonly #browser: FakeBrowser;
  readonly #listeners = new Set<(signal: Signal) => void>();
  /** What a frozen tab does once it goes on; null: it runs. */
  #late: (() => void)[] | null = null;
  #isThawing = false;
  /** Called when it dies. */
  readonly onKill: (() => void)[] = [];
  isDead = false;
  timersAreSlow = false;

  constructor(browser: FakeBrowser, options: TabOptions = {}) {
    this.#browser = browser;
    this.locks = browser.locks.page();
    this.tabs = sharedTabs({
      user: options.user ?? "ann",
      environment: {
        locks: options.hasLocks === false ? null : this.locks,
        openChannel: (name) => new FakeChannel(browser, this, name),
        kept: browser.kept,
      },
    });
    this.client = createClient({
      url: "ws://test/ws",
      environment: this.#environment(),
      tabs: this.tabs,
      ...options.client?.(this),
    }) as unknown as Client;
    this.client.onState(({ state }) => this.states.push(state));
  }

  #environment(): Environment {
    const { environment, server } = this.#browser.world;
    const tab = this;
    return {
      ...environment,
      WebSocket: class extends FakeSocket {
        constructor(url: string, protocol: string) {
          super(url, protocol, server);
          tab.sockets.push(this.end);
        }

        readonly #subscribed = new Set<unknown>();

        override send(frame: Uint8Array): void {
          for (const [kind, body] of decodeFrame(frame)) {
            const { channel } = body;
            if (kind === "unsubscribe") this.#subscribed.delete(channel);
            if (kind !== "subscribe") continue;
            if (this.#subscribed.has(channel)) tab.#browser.violations.push(`${channel} is subscribed twice`);
            this.#subscribed.add(channel);
          }
          tab.#browser.line.carry(this, "up", frame, () => super.send(frame));
        }

        override tell(kind: "open" | "message" | "close" | "error", event: object): void {
          const run = (): void => tab.run(() => super.tell(kind, event));
          const { data } = event as { data?: ArrayBuffer };
          tab.#browser.line.carry(this, "down", data ? new Uint8Array(data) : null, run);
        }
      },
      setTimeout: (run, afterMs) => this.setTimeout(run, afterMs),
      listen: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }

  /** Whether it is frozen. */
  get isFrozen(): boolean {
    return this.#late !== null;
  }

  setTimeout(run: () => void, afterMs: number): unknown {
    const { environment } = this.#browser.world;
    return environment.setTimeout(
      () => this.run(run),
      this.timersAreSlow ? Math.max(afterMs, 60_000) : afterMs,
    );
  }

  /** Run a task of this tab: at once, later, or never. */
  run(task: () => void): void {
    if (this.isDead) return;
    if (this.#late === null) task();
    else this.#late.push(task);
  }

  /** Listen to a channel from now on. */
  listen(name: string): this {
    this.client.channel(name).subscribe({
      onEvent: (event) => this.told.push(event.data),
      onReset: ({ cause }) => this.told.push(cause),
    });
    return this;
  }

  connect(): this {
    this.client.connect();
    return this;
  }

  signal(signal: Signal): void {
    for (const listener of [...this.#listeners]) listener(signal);
  }

  /** The tab crashes: nobody is told but by the browser's locks and the network. */
  kill(): void {
    this.isDead = true;
    for (const channel of this.channels) this.#browser.channels.delete(channel);
    for (const end of this.sockets) end.drop();
    this.locks.kill();
    for (const run of this.onKill) run();
  }

  freeze(): void {
    this.#late ??= [];
    this.locks.freeze();
  }

  /** The tab goes on: with everything it was to do meanwhile, one task after the other, and then with what is new. */
  thaw(): void {
    if (this.#late === null || this.#isThawing) return;
    this.#isThawing = true;
    this.locks.thaw();
    this.#doLate();
  }

  #doLate(): void {
    const task = this.isDead ? undefined : this.#late?.shift();
    if (task === undefined) {
      this.#late = null;
      this.#isThawing = false;
      return;
    }
    task();
    this.#browser.world.environment.setTimeout(() => this.#doLate(), 0);
  }
}

/** A `BroadcastChannel`: told later, in order, to all others of its name. */
export class FakeChannel implements ChannelLike {
  onmessage: ((event: never) => void) | null = null;
  readonly #browser: FakeBrowser;
  readonly #tab: FakeTab;
  readonly #name: string;

  constructor(browser: FakeBrowser, tab: FakeTab, name: string) {
    this.#browser = browser;
    this.#tab = tab;
    this.#name = name;
    browser.channels.add(this);
    tab.channels.add(this);
  }

  postMessage(message: unknown): void {
    const data: unknown = structuredClone(message);
    this.#browser.numPosted += 1;
    if (this.#tab.isDead) return;
    for (const other of this.#browser.channels) {
      if (other === this || other.#name !== this.#name) continue;
      void Promise.resolve().then(() => other.#tab.run(() => other.#take(data)));
    }
  }

  #take(data: unknown): void {
    if (this.#browser.channels.has(this)) this.onmessage?.({ data } as never);
  }

  close(): void {
    this.#browser.channels.delete(this);
    this.#tab.channels.delete(this);
  }
}

export class FakeBrowser {
  readonly world: FakeWorld;
  readonly locks = new FakeLocks();
  readonly channels = new Set<FakeChannel>();
  readonly kept = new Map<string, string>() as unknown as Map<string, string> & {
    getItem(key: string): string | null;
    setItem(key: string, value: string): void;
  };
  readonly tabs: FakeTab[] = [];
  numPosted = 0;
  line: Line = { carry: (_socket, _way, _frame, run) => run() };
  /** What was sent against SPEC. */
  readonly violations: string[] = [];

  constructor(random?: () => number) {
    this.world = createFakeWorld(random);
    this.kept.getItem = (key) => this.kept.get(key) ?? null;
    this.kept.setItem = (key, value) => void this.kept.set(key, value);
  }

  /** Open a tab that connects and listens to `demo:a`. */
  tab(options: TabOptions = {}): FakeTab {
    const tab = new FakeTab(this, options).listen("demo:a").connect();
    this.tabs.push(tab);
    return tab;
  }

  /** Let time pass. */
  async pass(ms: number): Promise<void> {
    const { clock } = this.world;
    for (let left = ms; left > 0; left -= 50) await clock.advance(Math.min(left, 50));
    await clock.advance(0);
  }

  publish(data: unknown): void {
    this.world.server.publish("demo:a", data);
  }

  /** Connections that the server has now. */
  get numConnected(): number {
    return this.world.server.ends.filter((end) => end.isOpen).length;
  }

  /** Everything went as the application may expect: nothing thrown, nothing logged. */
  get complaints(): unknown[] {
    return [...this.violations, ...this.world.errors, ...this.world.logs];
  }
}
