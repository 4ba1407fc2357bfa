// @vitest-environment happy-dom
import { describe, expect, it } from "vitest";
import type { ChannelEvent } from "../../src/index.ts";
import { type Falsy, type UseChannelOptions, useChannel } from "../../src/react/index.ts";
import { stage } from "./world.tsx";

const ROOM = "demo:room";

function Listens(props: UseChannelOptions & { name?: string | Falsy }) {
  const { state, recovered, code } = useChannel("name" in props ? props.name : ROOM, props);
  return `${state} ${recovered} ${code}`;
}

describe("useChannel", () => {
  it("subscribes once in StrictMode, hears events without rendering, and leaves when it is gone", async () => {
    const heard: unknown[] = [];
    let numRenders = 0;
    const Counted = () => {
      numRenders += 1;
      return useChannel(ROOM, { onEvent: ({ data }) => heard.push(data) }).state;
    };
    const { world, sent, show, run, advance, text } = await stage(<Counted />);
    expect([text(), sent.map(({ kind }) => kind)]).toEqual(["subscribed", ["subscribe"]]);
    const before = numRenders;
    await run(() => world.server.publish(ROOM, 1));
    await run(() => world.server.publish(ROOM, 2));
    expect([heard, numRenders]).toEqual([[1, 2], before]);
    show(null);
    await advance(1);
    expect(sent.map(({ kind }) => kind)).toEqual(["subscribe", "unsubscribe"]);
  });

  it("calls the listeners of the last render", async () => {
    const heard: unknown[] = [];
    const to = (mark: string) => (event: ChannelEvent) => heard.push([mark, event.data]);
    const { world, sent, show, run } = await stage(<Listens onEvent={to("old")} />);
    show(<Listens onEvent={to("new")} />);
    await run(() => world.server.publish(ROOM, 1));
    expect([heard, sent.length]).toEqual([[["new", 1]], 1]);
  });

  it("keeps the subscription while one component leaves and another comes", async () => {
    const { sent, show, advance, text } = await stage(<Listens key="a" />);
    show(<Listens key="b" />);
    await advance(1);
    expect([text(), sent.map(({ kind }) => kind)]).toEqual(["subscribed null null", ["subscribe"]]);
  });

  it("goes to another channel with its name", async () => {
    const { sent, show, advance, text } = await stage(<Listens />);
    show(<Listens name="demo:other" />);
    await advance(1);
    expect(text()).toBe("subscribed null null");
    expect(sent.map(({ kind, body }) => [kind, body["channel"]])).toEqual([
      ["subscribe", ROOM],
      ["subscribe", "demo:other"],
      ["unsubscribe", ROOM],
    ]);
  });

  it.each([null, undefined, false, ""] as const)("does nothing for %j", async (name) => {
    const { sent, text, show, advance } = await stage(<Listens name={name} />);
    expect([text(), sent]).toEqual(["unsubscribed null null", []]);
    show(<Listens />);
    await advance(0);
    expect(text()).toBe("subscribed null null");
    show(<Listens enabled={false} />);
    await advance(1);
    expect([text(), sent.length]).toEqual(["unsubscribed null null", 2]);
  });

  it("tells what a recovery gave, and resets", async () => {
    const causes: string[] = [];
    const { world, run, advance, text } = await stage(
      <Listens onReset={({ cause }) => causes.push(cause)} />,
    );
    await run(() => world.server.dropAll());
    expect(text()).toBe("unsubscribed null null");
    await advance(20_000);
    expect(text()).toBe("subscribed true null");
    await run(() => {
      world.server.loseLog(ROOM);
      world.server.dropAll();
    });
    await advance(20_000);
    expect([text(), causes]).toEqual(["subscribed false null", ["epoch-changed"]]);
  });

  it("shows the refusal, and listens again when it is mounted anew", async () => {
    const { world, run, show, advance, text } = await stage(<Listens key="a" />);
    await run(() => world.server.last.send("unsubscribed", { channel: ROOM, code: "revoked", reason: "r" }));
    expect(text()).toBe("ended null revoked");
    await advance(60_000);
    expect(text()).toBe("ended null revoked");
    show(<Listens key="b" />);
    await advance(0);
    expect(text()).toBe("subscribed null null");
  });

  it("listens again after a refusal when it is enabled again", async () => {
    const { world, run, show, advance, text } = await stage(<Listens />);
    await run(() => world.server.last.send("unsubscribed", { channel: ROOM, code: "revoked", reason: "r" }));
    show(<Listens enabled={false} />);
    expect(text()).toBe("unsubscribed null null");
    show(<Listens />);
    await advance(0);
    expect(text()).toBe("subscribed null null");
  });
});
