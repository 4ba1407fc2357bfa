// @vitest-environment happy-dom
import { describe, expect, it } from "vitest";
import {
  type InvalidationMap,
  type Stale,
  SyncProvider,
  useBroadcastInvalidation,
  useEntity,
} from "../../src/react/index.ts";
import { connectedClient, stage } from "./world.tsx";

describe("useBroadcastInvalidation", () => {
  const Listens = ({ map }: { map: InvalidationMap }) => {
    useEntity("prices", "apple");
    useBroadcastInvalidation(map);
    return null;
  };

  it("calls the function of the collection, of the last render, once in StrictMode", async () => {
    const heard: unknown[] = [];
    const to = (mark: string): InvalidationMap => ({
      prices: ({ collection, keys, tags, isAll }: Stale) => heard.push([mark, collection, keys, tags, isAll]),
      orders: () => heard.push("orders"),
      "*": () => heard.push("others"),
    });
    const here = await stage(<Listens map={to("old")} />);
    here.show(<Listens map={to("new")} />);
    const { entries } = here.world.server;
    await here.run(() => entries.invalidate("prices", { keys: ["apple"] }));
    await here.run(() => entries.invalidate("prices", { tags: ["fruit"] }));
    await here.run(() => entries.invalidate("prices"));
    expect(heard).toEqual([
      ["new", "prices", ["apple"], [], false],
      ["new", "prices", [], ["fruit"], false],
      ["new", "prices", [], [], true],
    ]);
  });

  it("calls * for what is not named, and nobody when it is gone", async () => {
    const heard: string[] = [];
    const map = { "*": ({ collection }: Stale) => heard.push(collection) };
    const here = await stage(<Listens map={map} />);
    await here.run(() => here.world.server.entries.invalidate("prices"));
    expect(heard).toEqual(["prices"]);
    here.show(null);
    await here.run(() => here.world.server.entries.invalidate("prices"));
    expect(heard).toHaveLength(1);
  });

  it("calls every function after a reconnect, as nobody knows what was missed", async () => {
    const heard: unknown[] = [];
    const note = ({ collection, isAll, cause }: Stale) => heard.push([collection, isAll, cause]);
    const here = await stage(<Listens map={{ prices: note, "*": note }} />);
    await here.run(() => here.world.server.dropAll());
    expect(heard).toEqual([]);
    await here.advance(20_000);
    expect(heard).toEqual([
      ["prices", true, "reconnected"],
      ["*", true, "reconnected"],
    ]);
  });

  it("listens to another client when the provider has another one, and to none for null", async () => {
    let numHeard = 0;
    const map = { prices: () => (numHeard += 1) };
    const here = await stage();
    const other = await connectedClient(here.world);
    const under = (client: typeof other | null) => (
      <SyncProvider client={client}>
        <Listens map={map} />
      </SyncProvider>
    );
    for (const [client, expected] of [
      [here.client, 1],
      [other, 2],
      [null, 2],
    ] as const) {
      here.show(under(client));
      await here.advance(1);
      await here.run(() => here.world.server.entries.invalidate("prices"));
      expect(numHeard).toBe(expected);
    }
  });
});
