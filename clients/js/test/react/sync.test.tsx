// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { expect, it } from "vitest";
import { useSyncStatus } from "../../src/react/index.ts";
import { stage } from "./world.tsx";

it("useSyncStatus counts what is pending, online or not, until it is decided", async () => {
  const Status = () => {
    const { status, numPending } = useSyncStatus();
    return `${status} ${numPending}`;
  };
  const here = await stage(<Status />);
  expect(here.text()).toBe("synchronized 0");
  await here.run(() => here.world.server.dropAll());
  act(() => {
    here.client.mutate("orders.put", { key: "a", value: 1 });
    here.client.mutate("orders.put", { key: "b", value: 1 });
  });
  expect(here.text()).toBe("synchronizing 2");
  await here.advance(20_000);
  expect(here.text()).toBe("synchronized 0");
});
