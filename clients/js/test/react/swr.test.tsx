// @vitest-environment happy-dom

import useSWR, { SWRConfig, useSWRConfig } from "swr";
import { expect, it } from "vitest";
import { useBroadcastInvalidation, useEntity } from "../../src/react/index.ts";
import { stage } from "./world.tsx";

it("the recipe for SWR fetches again what was invalidated, and nothing else", async () => {
  const fetched: string[] = [];
  const fetcher = async (path: string) => {
    fetched.push(path);
    return `${path} ${fetched.length}`;
  };
  const Prices = () => {
    const { mutate } = useSWRConfig();
    useEntity("prices", "-");
    useBroadcastInvalidation({
      prices: ({ isAll, keys }) => {
        if (isAll) void mutate((path) => typeof path === "string" && path.startsWith("/prices"));
        for (const key of keys) void mutate(`/prices/${key}`);
      },
    });
    const apple = useSWR("/prices/apple", fetcher);
    const pear = useSWR("/prices/pear", fetcher);
    return `${apple.data} ${pear.data}`;
  };
  const here = await stage(
    <SWRConfig value={{ provider: () => new Map(), dedupingInterval: 0 }}>
      <Prices />
    </SWRConfig>,
  );
  await expect.poll(() => here.text()).toBe("/prices/apple 1 /prices/pear 2");
  await here.run(() => here.world.server.entries.invalidate("prices", { keys: ["pear"] }));
  await expect.poll(() => here.text()).toBe("/prices/apple 1 /prices/pear 3");
  await here.run(() => here.world.server.entries.invalidate("prices"));
  await expect.poll(() => fetched.slice(3)).toEqual(["/prices/apple", "/prices/pear"]);
});
