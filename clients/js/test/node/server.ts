/** A real `syncd serve` and a TCP proxy in front of it that loses connections. */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

/** The Python that has syncd: that of `make test`, or of the repository's `.venv`. */
function python(): string {
  const found = process.env["SYNCD_PYTHON"] ?? join(ROOT, ".venv/bin/python");
  if (!existsSync(found)) throw new Error(`There is no ${found}: run make test, or set SYNCD_PYTHON.`);
  return found;
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** A node in a folder of its own. */
export class Node {
  readonly port: number;
  readonly #folder = mkdtempSync(join(tmpdir(), "syncd-js-"));
  #process: ChildProcess | null = null;
  #output = "";

  /** File with an application, from this folder. */
  readonly #app: string[];

  private constructor(port: number, app: string[]) {
    this.port = port;
    this.#app = app.map((name) => fileURLToPath(new URL(name, import.meta.url)));
  }

  /** Start one, with an application of this folder or none, and wait until it is ready. */
  static async start(...app: string[]): Promise<Node> {
    const node = new Node(await freePort(), app);
    await node.start();
    return node;
  }

  get url(): string {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** Start it, again after `kill`, on the same port and file. */
  async start(): Promise<void> {
    const listen = ["--listen", `127.0.0.1:${this.port}`];
    const arguments_ = ["-m", "syncd.cli.main", "serve", ...this.#app, ...listen];
    const child = spawn(python(), [...arguments_, "--db", join(this.#folder, "syncd.db")], {
      cwd: ROOT,
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#process = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data: Buffer) => {
        this.#output = (this.#output + data.toString()).slice(-4000);
      });
    }
    for (const deadline = Date.now() + 30_000; !(await this.#isReady()); ) {
      const isOver = child.exitCode !== null || Date.now() > deadline;
      if (isOver) throw new Error(`The node did not start:\n${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await fetch(`http://127.0.0.1:${this.port}/health/ready`)).ok;
    } catch {
      return false;
    }
  }

  /** End it as a power switch would. */
  async kill(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  /** End it and remove its folder. */
  async dispose(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Forwards bytes until it is told to lose what it carries. */
export class LossyProxy {
  numConnections = 0;
  readonly #pairs = new Set<[Socket, Socket]>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static start(target: number): Promise<LossyProxy> {
    return new Promise((resolve) => {
      const server = createServer((near) => proxy.#carry(near, connect(target, "127.0.0.1")));
      const proxy = new LossyProxy(server);
      server.listen(0, "127.0.0.1", () => resolve(proxy));
    });
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as AddressInfo).port}/ws`;
  }

  #carry(near: Socket, far: Socket): void {
    this.numConnections += 1;
    const pair: [Socket, Socket] = [near, far];
    this.#pairs.add(pair);
    for (const [from, to] of [pair, [far, near] as const]) {
      from.on("data", (data) => to.write(data));
      from.on("error", () => undefined);
      from.on("close", () => {
        to.destroy();
        this.#pairs.delete(pair);
      });
    }
  }

  /** Reset one connection, chosen by a number from 0 to 1; return whether there was one. */
  dropOne(chance: number): boolean {
    const pairs = [...this.#pairs];
    const pair = pairs[Math.floor(chance * pairs.length)];
    pair?.[0].resetAndDestroy();
    pair?.[1].destroy();
    return pair !== undefined;
  }

  async dispose(): Promise<void> {
    for (const [near, far] of this.#pairs) {
      near.destroy();
      far.destroy();
    }
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
