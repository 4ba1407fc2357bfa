import { describe, expect, it } from "vitest";
import { ConnectionCore, type ConnectionOptions } from "../src/core/connection.ts";
import { RequestFailed } from "../src/core/errors.ts";
import type { ChannelFact, Output } from "../src/core/facts.ts";
import { SubscriptionCore } from "../src/core/subscription.ts";
import {
  CONNECTION_TABLE,
  type ConnectionInput,
  type ConnectionState,
  isFinal,
  SUBSCRIPTION_TABLE,
  type SubscriptionInput,
  type SubscriptionState,
} from "../src/core/tables.ts";

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

/** What everything leads to, written out a second time: a step that is added, lost or turned in the table shows. Null: nothing. */
const EXPECTED: Record<ConnectionState, Record<ConnectionInput, ConnectionState | null>> = {
  idle: {
    start: "connecting",
    welcomed: null,
    lost: null,
    stopped: null,
    denied: "needs-auth",
    timer: null,
    "timer-without-token": null,
    token: null,
    "no-token-now": null,
    "no-token": null,
    suspend: null,
    close: "closed",
  },
  connecting: {
    start: null,
    welcomed: "connected",
    lost: "offline",
    stopped: "failed",
    denied: "needs-auth",
    timer: null,
    "timer-without-token": null,
    token: null,
    "no-token-now": null,
    "no-token": null,
    suspend: "offline",
    close: "closed",
  },
  connected: {
    start: null,
    welcomed: null,
    lost: "offline",
    stopped: "failed",
    denied: "needs-auth",
    timer: null,
    "timer-without-token": null,
    token: null,
    "no-token-now": null,
    "no-token": null,
    suspend: "offline",
    close: "closed",
  },
  offline: {
    start: null,
    welcomed: null,
    lost: null,
    stopped: null,
    denied: null,
    timer: "connecting",
    "timer-without-token": "needs-auth",
    token: null,
    "no-token-now": null,
    "no-token": null,
    suspend: "offline",
    close: "closed",
  },
  "needs-auth": {
    start: null,
    welcomed: null,
    lost: null,
    stopped: null,
    denied: null,
    timer: null,
    "timer-without-token": null,
    token: "connecting",
    "no-token-now": "offline",
    "no-token": "needs-auth",
    suspend: "offline",
    close: "closed",
  },
  failed: nothingOf(),
  closed: nothingOf(),
};

function nothingOf(): Record<ConnectionInput, null> {
  return Object.fromEntries(Object.keys(CAUSES).map((input) => [input, null])) as Record<
    ConnectionInput,
    null
  >;
}

const STATES = Object.keys(WAYS) as ConnectionState[];
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
      const next = EXPECTED[state][input];
      expect(subject.core.state).toBe(next ?? state);
      // A step is told; what changes nothing tells nothing.
      expect(subject.states().at(-1) ?? null).toBe(next);
      // Some steps nothing from outside tries: they are not there all the same.
      expect(CONNECTION_TABLE[state][input] ?? null).toBe(next);
    },
  );

  it("has no way out of a final state, and a way to the end from every other", () => {
    for (const state of STATES) {
      expect(Object.keys(CONNECTION_TABLE[state]).length === 0).toBe(isFinal(state));
      if (!isFinal(state)) expect(CONNECTION_TABLE[state].close).toBe("closed");
    }
  });
});

const ANSWER = { requestId: 1, position: null, wasRecovering: false, recovered: false, events: [] };
const REFUSAL = new RequestFailed("overloaded", "later", true);

/** How a subscription gets into each state. */
const SUBSCRIPTION_WAYS: Record<SubscriptionState, (core: SubscriptionCore) => void> = {
  unsubscribed: () => undefined,
  subscribing: (core) => core.asked(1),
  subscribed: (core) => {
    core.asked(1);
    core.answered(ANSWER);
  },
  ended: (core) => void core.step("end"),
};

/** What makes each input happen, from outside. */
const SUBSCRIPTION_CAUSES: Record<SubscriptionInput, (core: SubscriptionCore) => void> = {
  ask: (core) => core.asked(2),
  // While it is subscribed only the server speaks by itself: an answer to the old request is an echo.
  answered: (core) =>
    core.answered({ ...ANSWER, requestId: core.state === "subscribed" ? null : core.requestId }),
  gap: (core) => core.foundGap(0),
  postponed: (core) => core.putOff(0, REFUSAL, false),
  offline: (core) => core.wentOffline(),
  restart: (core) => core.restart(null, false),
  end: (core) => void core.step("end"),
};

/** What everything leads to, written out a second time. Null: nothing, and nothing is told. */
const SUBSCRIPTION_EXPECTED: Record<
  SubscriptionState,
  Record<SubscriptionInput, SubscriptionState | null>
> = {
  unsubscribed: {
    ask: "subscribing",
    answered: null,
    gap: null,
    postponed: null,
    offline: "unsubscribed",
    restart: "unsubscribed",
    end: "ended",
  },
  subscribing: {
    ask: null,
    answered: "subscribed",
    gap: null,
    postponed: "unsubscribed",
    offline: "unsubscribed",
    restart: "unsubscribed",
    end: "ended",
  },
  subscribed: {
    ask: null,
    answered: "subscribed",
    gap: "unsubscribed",
    postponed: null,
    offline: "unsubscribed",
    restart: "unsubscribed",
    end: "ended",
  },
  ended: {
    ask: null,
    answered: null,
    gap: null,
    postponed: null,
    offline: null,
    restart: null,
    end: null,
  },
};

const SUBSCRIPTION_STATES = Object.keys(SUBSCRIPTION_WAYS) as SubscriptionState[];
const SUBSCRIPTION_INPUTS = Object.keys(SUBSCRIPTION_CAUSES) as SubscriptionInput[];

function subscriptionIn(state: SubscriptionState) {
  const told: ChannelFact[] = [];
  const wishes = { position: null, hasPresence: false };
  const core = new SubscriptionCore(
    "demo:room",
    1,
    () => 0.5,
    (fact) => told.push(fact),
    wishes,
  );
  SUBSCRIPTION_WAYS[state](core);
  expect(core.state).toBe(state);
  told.length = 0;
  return { core, told };
}

describe("the subscription's table", () => {
  it.each(
    SUBSCRIPTION_STATES.flatMap((state) => SUBSCRIPTION_INPUTS.map((input) => [state, input] as const)),
  )("is what happens: %s, %s", (state, input) => {
    const { core, told } = subscriptionIn(state);
    const before = { requestId: core.requestId, isKnown: core.isKnownToServer, dueAt: core.backoff.dueAt };
    SUBSCRIPTION_CAUSES[input](core);
    const next = SUBSCRIPTION_EXPECTED[state][input];
    expect(core.state).toBe(next ?? state);
    // To stay what it was is no news, but for an answer: that says what was recovered.
    const isNews = next !== null && (next !== state || input === "answered");
    const steps = told.flatMap((fact) => (fact.kind === "subscription" ? fact.state : []));
    expect(steps).toEqual(isNews ? [next] : []);
    // What does not count leaves no trace: what is not asked for now would be asked for late, or twice.
    const after = { requestId: core.requestId, isKnown: core.isKnownToServer, dueAt: core.backoff.dueAt };
    if (next === null) expect(after).toEqual(before);
    // Not everything is left to the table from outside.
    expect(SUBSCRIPTION_TABLE[state][input] ?? null).toBe(next);
  });
});
