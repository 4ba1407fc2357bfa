import { QueryClient, QueryObserver } from "@tanstack/react-query";
import { beforeEach, describe, expect, it } from "vitest";
import { type Client, createClient } from "../../src/index.ts";
import { fillQueries } from "../../src/tanstack-query/index.ts";
import { createFakeWorld, type FakeWorld } from "../../src/testing/index.ts";

let world: FakeWorld;
let client: Client;
let queryClient: QueryClient;

const put = (key: string, value: unknown) => world.server.entries.write("orders", key, value);

beforeEach(async () => {
  world = createFakeWorld();
  client = createClient({ url: "ws://x/ws", environment: world.environment });
  queryClient = new QueryClient();
  client.connect();
  await world.clock.advance(0);
  put("b", 2);
  put("a", 1);
});

describe("fillQueries", () => {
  it("keeps the list, its observers are told, and it ends", async () => {
    const seen: unknown[] = [];
    const observer = new QueryObserver(queryClient, {
      queryKey: ["orders"],
      queryFn: () => new Promise<number[]>(() => undefined),
      staleTime: Number.POSITIVE_INFINITY,
    });
    const end = observer.subscribe(({ data }) => {
      if (data !== undefined) seen.push(data);
    });
    const stop = fillQueries(client.collection("orders"), queryClient, { list: ["orders"] });
    await world.clock.advance(0);
    expect(queryClient.getQueryData(["orders"])).toEqual([1, 2]);
    put("c", 3);
    world.server.entries.write("orders", "a", undefined);
    expect(queryClient.getQueryData(["orders"])).toEqual([2, 3]);
    await new Promise((done) => setTimeout(done));
    expect(seen.at(-1)).toEqual([2, 3]);
    stop();
    await world.clock.advance(1);
    put("d", 4);
    expect(queryClient.getQueryData(["orders"])).toEqual([2, 3]);
    end();
    queryClient.clear();
  });

  it("shows predictions, and takes them back", async () => {
    fillQueries(client.collection("orders"), queryClient, {
      list: ["orders"],
      select: (entries) => entries.map(({ key, value, pending }) => [key, value, pending.length]),
    });
    await world.clock.advance(0);
    world.server.entries.isDeciding = false;
    client.mutate("orders.put", { key: "a", value: 10 });
    client.mutate("orders.put", { key: "a", value: 11, if_version: 99 }).server.catch(() => undefined);
    expect(queryClient.getQueryData(["orders"])).toEqual([
      ["a", 10, 1],
      ["b", 2, 0],
    ]);
    world.server.entries.decideAll();
    expect(queryClient.getQueryData(["orders"])).toEqual([
      ["a", 10, 0],
      ["b", 2, 0],
    ]);
  });

  it("changes single entries that a query holds, and makes no queries for the others", async () => {
    queryClient.setQueryData(["order", "a"], 0);
    fillQueries(client.collection("orders"), queryClient, { entry: (key) => ["order", key] });
    await world.clock.advance(0);
    expect(queryClient.getQueryData(["order", "a"])).toBe(1);
    world.server.entries.write("orders", "a", undefined);
    expect(queryClient.getQueryData(["order", "a"])).toBe(null);
    expect(queryClient.getQueryCache().getAll()).toHaveLength(1);
  });

  it("fills at once what is watched already", async () => {
    client.collection("orders").watch();
    await world.clock.advance(0);
    queryClient.setQueryData(["order", "a"], 0);
    fillQueries(client.collection("orders"), queryClient, {
      list: ["orders"],
      entry: (key) => ["order", key],
    });
    expect(queryClient.getQueryData(["orders"])).toEqual([1, 2]);
    expect(queryClient.getQueryData(["order", "a"])).toBe(1);
  });

  it("fills nothing before the collection is known", async () => {
    world.server.dropAll();
    fillQueries(client.collection("orders"), queryClient, { list: ["orders"] });
    expect(queryClient.getQueryData(["orders"])).toBe(undefined);
    await world.clock.advance(20_000);
    expect(queryClient.getQueryData(["orders"])).toEqual([1, 2]);
  });
});
