// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { renderToString } from "react-dom/server";
import { expect, it } from "vitest";
import { cancelMutation, type PendingMutation } from "../../src/mutations/index.ts";
import { SyncProvider, shallowEqual, useClient } from "../../src/react/index.ts";
import { useMutations } from "../../src/react/mutations/index.ts";
import { stage } from "./world.tsx";

it("useMutations lists what is pending and how far it is, and a button takes back what was not sent", async () => {
  const List = () => {
    const client = useClient();
    const shown = useMutations().map(({ id, name, status }) => (
      <button key={id} type="button" onClick={() => cancelMutation(client, id)}>
        {name} {status},
      </button>
    ));
    return shown.length === 0 ? "nothing" : shown;
  };
  const here = await stage(<List />);
  expect(here.text()).toBe("nothing");
  here.world.server.entries.isDeciding = false;
  await here.run(() => here.world.server.dropAll());
  await act(async () => {
    here.client.mutate("orders.put", { key: "a", value: 1 });
    here.client.mutate("orders.patch", { key: "b", patch: {} });
  });
  expect(here.text()).toBe("orders.put queued,orders.patch queued,");
  await here.run(() => here.view.container.querySelector("button")?.click());
  expect(here.text()).toBe("orders.patch queued,");
  await here.advance(20_000);
  expect(here.text()).toBe("orders.patch sent,");
  await here.run(() => {
    here.world.server.entries.isDeciding = true;
    here.world.server.entries.decideAll();
  });
  await here.advance(0);
  expect(here.text()).toBe("nothing");
});

it("useMutations renders again only when what is selected is no longer equal", async () => {
  let numRenders = 0;
  const unsent = (all: readonly PendingMutation[]) => all.filter(({ status }) => status === "queued");
  const Unsent = () => {
    numRenders += 1;
    return `${useMutations(unsent, shallowEqual).length} unsent`;
  };
  const here = await stage(<Unsent />);
  here.world.server.entries.isDeciding = false;
  numRenders = 0;
  await act(async () => void here.client.mutate("orders.put", { key: "a", value: 1 }));
  expect([here.text(), numRenders]).toEqual(["0 unsent", 0]); // It was sent at once.
  await here.run(() => here.world.server.dropAll());
  await act(async () => void here.client.mutate("orders.put", { key: "b", value: 1 }));
  expect([here.text(), numRenders > 0]).toEqual(["1 unsent", true]);
});

it("useMutations shows an empty list on a server, and without a client", async () => {
  const Count = () => `${useMutations().length} pending`;
  const { client, world } = await stage();
  world.server.entries.isDeciding = false;
  client.mutate("orders.put", { key: "a", value: 1 });
  for (const one of [client, null]) {
    const inTree = (
      <SyncProvider client={one}>
        <Count />
      </SyncProvider>
    );
    expect(renderToString(inTree)).toBe("0 pending");
  }
});
