import { describe, expect, it } from "vitest";
import { ConnectionCore, type ConnectionOptions } from "../src/core/connection.ts";
import type { Output } from "../src/core/facts.ts";
import {
  CONNECTION_TABLE,
  type ConnectionInput,
  type ConnectionState,
  isFinal,
  SUBSCRIPTION_TABLE,
} from "../src/core/tables.ts";

const STATES = Object.keys(CONNECTION_TABLE) as ConnectionState[];

/** A connection and what it told. */
class Subject {
  readonly told: Output[] = [];
  readonly core: ConnectionCore;

  constructor(options: ConnectionOptions = {}) {
    this.core = new ConnectionCore(
      () => 0.5,
      (output) => this.told.push(output),
      options,
    );
  }

  states(): string[] {
    return this.told.flatMap((output) => ("kind" in output && output.kind === "state" ? [output.state] : []));
  }
}

const WELCOME = {
  session: "s",
  clients: [{ client: "c", secret: "x" }],
  ping_ms: 1000,
  max_frame_bytes: 9,
};

/** How a connection gets into each state. */
const WAYS: Record<ConnectionState, (subject: Subject) => void> = {
  idle: () => undefined,
  connecting: ({ core }) => core.connect(0),
  connected: ({ core }) => {
    core.connect(0);
    core.connectSucceeded();
    core.greeted(WELCOME, 0);
  },
  offline: ({ core }) => {
    core.connect(0);
    core.closed(0, 1006, "");
  },
  "needs-auth": ({ core }) => {
    core.connect(0);
    core.closed(0, 4401, "");
  },
  failed: ({ core }) => {
    core.connect(0);
    core.closed(0, 4503, "");
  },
  closed: ({ core }) => core.close(),
};

/** What makes each input happen, from outside. */
const CAUSES: Record<ConnectionInput, (subject: Subject) => void> = {
  start: ({ core }) => {
    // Elsewhere `connect` means another thing, which has inputs of its own.
    if (core.state === "idle" || isFinal(core.state)) core.connect(0);
  },
  welcomed: ({ core }) => core.greeted(WELCOME, 0),
  lost: ({ core }) => core.closed(0, 1006, ""),
  stopped: ({ core }) => core.closed(0, 4500, ""),
  denied: ({ core }) => {
    if (core.state === "idle") {
      core.token = null;
      core.connect(0);
    } else core.closed(0, 4401, "");
  },
  timer: ({ core }) => {
    if (core.state === "offline") core.tick(core.nextDeadline());
  },
  "timer-without-token": ({ core }) => {
    if (core.state !== "offline") return;
    core.tick(core.nextDeadline());
    core.closed(0, 4401, "");
    core.tokenUnavailable(0, "");
    core.tick(core.nextDeadline());
  },
  token: ({ core }) => core.tokenSupplied(0, "t2"),
  "no-token-now": ({ core }) => core.tokenUnavailable(0, ""),
  "no-token": ({ core }) => core.tokenMissing(),
  suspend: ({ core }) => core.suspend("application", ""),
  close: ({ core }) => core.close(),
};

const INPUTS = Object.keys(CAUSES) as ConnectionInput[];

describe("the connection's table", () => {
  it.each(STATES.flatMap((state) => INPUTS.map((input) => [state, input] as const)))(
    "is what happens: %s, %s",
    (state, input) => {
      const subject = new Subject({ token: "t1", hasTokenSource: true });
      WAYS[state](subject);
      expect(subject.core.state).toBe(state);
      subject.told.length = 0;
      CAUSES[input](subject);
      const next = CONNECTION_TABLE[state][input];
      expect(subject.core.state).toBe(next ?? state);
      // A step is told; what changes nothing tells nothing.
      expect(subject.states().at(-1)).toBe(next);
    },
  );

  it("has no way out of a final state, and a way to the end from every other", () => {
    for (const state of STATES) {
      expect(Object.keys(CONNECTION_TABLE[state]).length === 0).toBe(isFinal(state));
      if (!isFinal(state)) expect(CONNECTION_TABLE[state].close).toBe("closed");
    }
  });
});

describe("the subscription's table", () => {
  it("leads to the end from everywhere and nowhere from there", () => {
    for (const [state, row] of Object.entries(SUBSCRIPTION_TABLE)) {
      expect(row.end).toBe(state === "ended" ? undefined : "ended");
    }
    expect(SUBSCRIPTION_TABLE.ended).toEqual({});
  });

  it("is left for unsubscribed by the loss of the connection, whatever it was", () => {
    for (const state of ["unsubscribed", "subscribing", "subscribed"] as const) {
      expect(SUBSCRIPTION_TABLE[state].offline).toBe("unsubscribed");
    }
  });

  it("takes an answer only where one was asked for, or where the server may speak by itself", () => {
    const taking = Object.entries(SUBSCRIPTION_TABLE).filter(([, row]) => row.answered !== undefined);
    expect(taking.map(([state]) => state)).toEqual(["subscribing", "subscribed"]);
  });
});
