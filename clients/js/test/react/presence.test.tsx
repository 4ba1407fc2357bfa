// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { type Falsy, useOthers, usePresence } from "../../src/react/index.ts";
import { type Stage, stage } from "./world.tsx";

const ROOM = "demo:room";

const member = (id: string, state: unknown = 1) => ({ member: id, states: [{ client: id, state }] });

function tellMembers({ world, client, run }: Stage, ...names: string[]): Promise<void> {
  const members = [client.clientId ?? "", ...names].map((name) => member(name));
  return run(() => world.server.last.send("presence_state", { channel: ROOM, seq: 1, members }));
}

const states = ({ sent }: Stage) =>
  sent.filter(({ kind }) => kind === "presence").map(({ body }) => body["state"] ?? null);

describe("useOthers", () => {
  const Others = ({ name = ROOM }: { name?: string | Falsy }) =>
    useOthers(name)
      .map((other) => other.member)
      .join(" ");

  it("shows everybody but ourselves, and nobody once the subscription is over", async () => {
    const here = await stage(<Others />);
    expect(here.text()).toBe("");
    await tellMembers(here, "ada", "bob");
    expect(here.text()).toBe("ada bob");
    await here.run(() =>
      here.world.server.last.send("unsubscribed", { channel: ROOM, code: "revoked", reason: "r" }),
    );
    expect(here.text()).toBe("");
  });

  it("keeps those known last while offline, until the server tells anew", async () => {
    const here = await stage(<Others />);
    await tellMembers(here, "ada", "bob");
    here.world.server.presence.watch = () => undefined; // it takes its time
    await here.run(() => here.world.server.dropAll());
    expect([here.client.state, here.text()]).toEqual(["offline", "ada bob"]);
    await here.advance(20_000);
    expect([here.client.state, here.text()]).toEqual(["connected", "ada bob"]);
    await tellMembers(here, "bob");
    expect(here.text()).toBe("bob");
  });

  it("leaves nobody out before it is announced itself", async () => {
    const here = await stage(<Others />);
    const tellAnn = (...clients: (string | null)[]) => {
      const ann = { member: "ann", states: clients.map((client) => ({ client, state: 1 })) };
      return here.run(() =>
        here.world.server.last.send("presence_state", { channel: ROOM, seq: 1, members: [ann] }),
      );
    };
    await tellAnn("another tab");
    expect(here.text()).toBe("ann");
    await tellAnn("another tab", here.client.clientId);
    expect(here.text()).toBe("");
  });

  it("asks nobody for a falsy name, and forgets a room that it left", async () => {
    const here = await stage(<Others name={null} />);
    expect(here.sent).toEqual([]);
    here.show(<Others />);
    await here.advance(0);
    await tellMembers(here, "ada");
    here.show(<Others name="" />);
    await here.advance(1);
    expect([here.text(), here.sent.map(({ kind }) => kind)]).toEqual(["", ["subscribe", "unsubscribe"]]);
  });

  it("renders only when the selection changes", async () => {
    let numRenders = 0;
    const Count = () => {
      numRenders += 1;
      return useOthers(ROOM, (others) => others.length);
    };
    const Names = () => {
      numRenders += 1;
      const isEqual = (a: string[], b: string[]) => a.join() === b.join();
      return useOthers(ROOM, (others) => others.map((other) => other.member), isEqual).join(" ");
    };
    const here = await stage([<Count key="count" />, <Names key="names" />]);
    await tellMembers(here, "ada");
    expect(here.text()).toBe("1ada");
    const before = numRenders;
    await here.run(() =>
      here.world.server.last.send("presence_diff", {
        channel: ROOM,
        seq: 2,
        joins: [],
        updates: [member("ada", 2)],
        leaves: [],
      }),
    );
    expect(here.client.channel(ROOM).presence.others[0]?.states[0]?.state).toBe(2);
    expect(numRenders).toBe(before);
  });
});

describe("usePresence", () => {
  let set: (state: number | ((before: number) => number)) => void;
  const Mine = ({ name = ROOM }: { name?: string | Falsy }) => {
    const [state, change, error] = usePresence(name, 1);
    set = change;
    return `${state} ${error?.message ?? ""}`;
  };

  it("announces while it is shown, and leaves a turn later", async () => {
    const here = await stage(<Mine />);
    expect(new Set(states(here))).toEqual(new Set([1]));
    act(() => set((before) => before + 1));
    await here.advance(0);
    expect([here.text(), states(here).at(-1)]).toEqual(["2 ", 2]);
    here.show(null);
    await here.advance(0);
    expect(states(here).at(-1)).toBe(null);
  });

  it("does not leave while another component announces there, or takes over", async () => {
    const here = await stage([<Mine key="a" />, <Mine key="b" />]);
    here.show([<Mine key="a" />]);
    await here.advance(0);
    here.show(<Mine key="c" />);
    await here.advance(0);
    expect(states(here)).not.toContain(null);
    here.show(null);
    await here.advance(0);
    expect(states(here).filter((state) => state === null)).toHaveLength(1);
  });

  it("announces nothing for a falsy name", async () => {
    const here = await stage(<Mine name={false} />);
    act(() => set(3));
    await here.advance(0);
    expect([here.text(), here.sent]).toEqual(["3 ", []]);
    here.show(<Mine />);
    await here.advance(0);
    expect(new Set(states(here))).toEqual(new Set([3]));
  });

  it("shows why the server refused, until it takes one", async () => {
    const here = await stage();
    const { last } = here.world.server;
    const answer = last.onMessage;
    last.onMessage = (kind, body) => {
      if (body["state"] !== 1) answer?.(kind, body);
      else {
        const id = body["id"] as number;
        last.send("error", { id, code: "not_supported", message: "No presence here.", retryable: false });
      }
    };
    here.show(<Mine />);
    await here.advance(0);
    expect(here.text()).toBe("1 No presence here.");
    act(() => set(2));
    await here.advance(0);
    expect(here.text()).toBe("2 ");
  });
});
