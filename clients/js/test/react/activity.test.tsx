// @vitest-environment happy-dom
import { Activity } from "react";
import { expect, it } from "vitest";
import { useChannel, useCollection } from "../../src/react/index.ts";
import { stage } from "./world.tsx";

const ROOM = "demo:room";

function Look() {
  const [channel, orders] = [useChannel(ROOM), useCollection("orders")];
  return [channel.state, channel.code, orders.status, orders.code].filter(Boolean).join(" ");
}

const shown = (mode: "visible" | "hidden") => (
  <Activity mode={mode}>
    <Look />
  </Activity>
);

it("asks for nothing while it is hidden, and for all again when it is shown", async () => {
  const here = await stage(shown("visible"));
  expect(here.text()).toBe("subscribed current");
  here.show(shown("hidden"));
  await here.advance(1);
  expect(here.sent.map(({ kind }) => kind)).toEqual(["subscribe", "watch", "unsubscribe", "unwatch"]);
  here.show(shown("visible"));
  await here.advance(1);
  expect(here.text()).toBe("subscribed current");
});

it("asks again when it is shown again after the server has ended both, also beside others that do", async () => {
  const here = await stage(shown("visible"));
  await here.run(() => {
    for (const channel of [ROOM, "orders"]) {
      here.world.server.last.send("unsubscribed", { channel, code: "revoked", reason: "r" });
    }
  });
  expect(here.text()).toBe("ended revoked idle revoked");
  here.show(shown("hidden"));
  await here.advance(1);
  await here.run(() => {
    here.client.channel(ROOM).subscribe({});
    here.client.collection("orders").watch();
  });
  await here.advance(1);
  here.show(shown("visible"));
  await here.advance(1);
  expect(here.text()).toBe("subscribed current");
});
