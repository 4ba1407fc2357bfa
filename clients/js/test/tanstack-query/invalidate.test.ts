import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { beforeEach, describe, expect, it } from "vitest";
import { type Client, createClient } from "../../src/index.ts";
import { invalidateQueries } from "../../src/tanstack-query/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";

let world: FakeWorld;
let client: Client;
let queryClient: QueryClient;

/** Have data under these keys. */
function cached(...keys: readonly (readonly unknown[])[]): void {
  for (const key of keys) queryClient.setQueryData(key, "data");
}

/** The keys that are stale now. */
const stale = () =>
  queryClient
    .getQueryCache()
    .getAll()
    .filter(({ state }) => state.isInvalidated)
    .map(({ queryKey }) => queryKey.join("/"));

beforeEach(async () => {
  world = createFakeWorld();
  client = createClient({ url: "ws://x/ws", environment: world.environment });
  queryClient = new QueryClient();
  client.connect();
  client.collection("prices").watch({ keys: ["apple"] }, () => undefined);
  await world.clock.advance(0);
  cached(["prices"], ["prices", "apple"], ["prices", "pear"], ["orders"]);
});

describe("invalidateQueries", () => {
  it("makes all queries below a key stale, and no other", () => {
    invalidateQueries(client, queryClient, { prices: ["prices"] });
    world.server.entries.invalidate("prices", { tags: ["fruit"] });
    expect(stale()).toEqual(["prices", "prices/apple", "prices/pear"]);
  });

  it("makes those stale that a function names by keys, tags or all", () => {
    invalidateQueries(client, queryClient, {
      prices: ({ isAll, keys, tags }) => {
        if (isAll) return [["prices"]];
        return [...keys.map((key) => ["prices", key]), ...tags.map((tag) => [tag])];
      },
    });
    cached(["fruit", 1]);
    world.server.entries.invalidate("prices", { keys: ["pear"] });
    expect(stale()).toEqual(["prices/pear"]);
    world.server.entries.invalidate("prices", { tags: ["fruit"] });
    expect(stale()).toEqual(["prices/pear", "fruit/1"]);
    world.server.entries.invalidate("prices");
    expect(stale()).toEqual(["prices", "prices/apple", "prices/pear", "fruit/1"]);
  });

  it("does nothing for collections that are not named, whatever they are called", async () => {
    client.collection("constructor").watch();
    await world.clock.advance(0);
    invalidateQueries(client, queryClient, { orders: ["orders"] });
    world.server.entries.invalidate("prices");
    world.server.entries.invalidate("constructor");
    expect([stale(), world.errors]).toEqual([[], []]);
  });

  it("ends, and reports what a function throws", () => {
    const stop = invalidateQueries(client, queryClient, {
      prices: () => {
        throw new Error("of the application");
      },
    });
    world.server.entries.invalidate("prices");
    expect(world.errors).toEqual([expect.objectContaining({ message: "of the application" })]);
    stop();
    world.server.entries.invalidate("prices");
    expect([world.errors.length, stale()]).toEqual([1, []]);
  });

  it("fetches again what is shown", async () => {
    let numFetched = 0;
    const observer = new QueryObserver(queryClient, {
      queryKey: ["prices", "list"],
      queryFn: () => {
        numFetched += 1;
        return numFetched;
      },
      staleTime: Number.POSITIVE_INFINITY,
    });
    const end = observer.subscribe(() => undefined);
    await expect.poll(() => observer.getCurrentResult().data).toBe(1);
    invalidateQueries(client, queryClient, { prices: ["prices"] });
    world.server.entries.invalidate("prices");
    await expect.poll(() => observer.getCurrentResult().data).toBe(2);
    end();
  });

  it("makes everything stale after a reconnect, and not at the first connection", async () => {
    const told: unknown[] = [];
    const late = createClient({ url: "ws://x/ws", environment: world.environment });
    invalidateQueries(late, queryClient, {
      prices: (stale) => {
        told.push(stale);
        return [["prices"]];
      },
    });
    late.connect();
    await world.clock.advance(0);
    expect([late.state, told, stale()]).toEqual(["connected", [], []]);
    world.server.dropAll();
    expect(told).toEqual([]);
    await world.clock.advance(20_000);
    expect(told).toEqual([{ collection: "prices", keys: [], tags: [], isAll: true, cause: "reconnected" }]);
    expect(stale()).toContain("prices/apple");
  });
});
