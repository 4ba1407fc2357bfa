// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import {
  type CollectionView,
  type Falsy,
  shallowEqual,
  useCollection,
  useEntity,
  usePending,
} from "../../src/react/index.ts";
import { type Stage, stage } from "./world.tsx";

interface Order {
  readonly status: string;
}

type Orders = CollectionView<Order>;

const keys = ({ entries }: Orders) => entries.map(({ key }) => key).join(" ");

function Lists({ name = "orders" }: { readonly name?: string | Falsy }) {
  const view = useCollection<Order>(name);
  return `${view.status} ${view.code ?? ""} ${keys(view)}`;
}

const kinds = ({ sent }: Stage) => sent.map(({ kind }) => kind);

function orders({ world }: Pick<Stage, "world">) {
  return {
    put: (key: string, status = "new") => world.server.entries.write("orders", key, { status }),
    delete: (key: string) => world.server.entries.write("orders", key, undefined),
  };
}

describe("useCollection", () => {
  it("is loading, then shows what there is, sorted, as it changes", async () => {
    const here = await stage();
    orders(here).put("b");
    orders(here).put("a");
    act(() => here.show(<Lists />));
    await here.advance(0);
    expect(here.text()).toBe("current  a b");
    await here.run(() => orders(here).put("aa"));
    expect(here.text()).toBe("current  a aa b");
    await here.run(() => orders(here).delete("b"));
    expect(here.text()).toBe("current  a aa");
  });

  it("watches once in StrictMode and for all that watch the same, and ends with the last", async () => {
    const here = await stage([<Lists key="a" />, <Lists key="b" />]);
    expect(kinds(here)).toEqual(["watch"]);
    here.show([<Lists key="b" />]);
    await here.advance(1);
    here.show(<Lists key="c" />);
    await here.advance(1);
    expect(kinds(here)).toEqual(["watch"]);
    here.show(null);
    await here.advance(1);
    expect(kinds(here)).toEqual(["watch", "unwatch"]);
  });

  it("shows at once what another component watches already", async () => {
    const here = await stage(<Lists key="a" />);
    await here.run(() => orders(here).put("a"));
    const seen: string[] = [];
    const Late = () => {
      const { status, entries } = useCollection("orders");
      seen.push(`${status} ${entries.length}`);
      return null;
    };
    here.show([<Lists key="a" />, <Late key="b" />]);
    expect(new Set(seen)).toEqual(new Set(["current 1"]));
  });

  it("says loading from the first render on, and stale while the connection is away", async () => {
    const here = await stage();
    const seen: string[] = [];
    const Look = () => {
      const { status } = useCollection("orders");
      seen.push(status);
      return status;
    };
    here.show(<Look />);
    await here.advance(0);
    expect([...new Set(seen)]).toEqual(["loading", "current"]);
    await here.run(() => here.world.server.dropAll());
    expect(here.text()).toBe("stale");
    await here.run(() => orders(here).put("a"));
    await here.advance(20_000);
    expect(here.text()).toBe("current");
  });

  it.each([null, undefined, false, ""] as const)("watches nothing for %j", async (name) => {
    const Look = (props: { name: string | Falsy }) => {
      const view = useCollection<Order>(props.name);
      return `${view.status} ${keys(view)}`;
    };
    const here = await stage(<Look name={name} />);
    expect([here.text(), here.sent]).toEqual(["idle ", []]);
    here.show(<Look name="orders" />);
    await here.advance(0);
    expect(here.text()).toBe("current ");
    here.show(<Look name={name} />);
    await here.advance(1);
    expect([here.text(), kinds(here)]).toEqual(["idle ", ["watch", "unwatch"]]);
  });

  it("renders only when the selection changes", async () => {
    let numRenders = 0;
    const NewOnes = () => {
      numRenders += 1;
      const list = useCollection<Order, readonly string[]>(
        "orders",
        ({ entries }) => entries.filter(({ value }) => value.status === "new").map(({ key }) => key),
        shallowEqual,
      );
      return list.join(" ");
    };
    const here = await stage(<NewOnes />);
    await here.run(() => orders(here).put("a"));
    await here.run(() => orders(here).put("b", "shipped"));
    expect(here.text()).toBe("a");
    const before = numRenders;
    await here.run(() => orders(here).put("b", "returned"));
    await here.run(() => orders(here).put("c", "shipped"));
    await here.run(() => orders(here).put("a"));
    expect([here.text(), numRenders]).toEqual(["a", before]);
    await here.run(() => orders(here).put("c"));
    expect(here.text()).toBe("a c");
  });

  it("keeps what a selector returned when the component renders anew, though the selector is new", async () => {
    const seen = new Set<unknown>();
    const Look = ({ turn }: { turn: number }) => {
      seen.add(
        useCollection<Order, readonly unknown[]>("orders", ({ entries }) => [...entries], shallowEqual),
      );
      return `${turn}`;
    };
    const here = await stage(<Look turn={1} />);
    await here.run(() => orders(here).put("a"));
    seen.clear();
    here.show(<Look turn={2} />);
    here.show(<Look turn={3} />);
    expect([here.text(), seen.size]).toEqual(["3", 1]);
  });

  it("takes a selector that makes something new each time, and runs it once for each change", async () => {
    let numRuns = 0;
    const select = ({ entries }: Orders) => {
      numRuns += 1;
      return { count: entries.length };
    };
    const Look = () => `${useCollection("orders", select).count}`;
    const here = await stage(<Look />);
    numRuns = 0;
    await here.run(() => orders(here).put("a"));
    expect([here.text(), numRuns]).toEqual(["1", 1]);
  });

  it("uses the selector of the last render", async () => {
    const Look = ({ status }: { status: string }) =>
      useCollection<Order, string>("orders", ({ entries }) =>
        entries
          .filter(({ value }) => value.status === status)
          .map(({ key }) => key)
          .join(" "),
      );
    const here = await stage(<Look status="new" />);
    await here.run(() => orders(here).put("a"));
    await here.run(() => orders(here).put("b", "shipped"));
    expect(here.text()).toBe("a");
    here.show(<Look status="shipped" />);
    expect(here.text()).toBe("b");
  });

  it("shows one partition, or some keys, and nothing else that is watched", async () => {
    const Look = (props: { selection: { partition: string } | { keys: string[] } }) =>
      keys(useCollection<Order, Orders>("stock", (view) => view, Object.is, props.selection));
    const here = await stage();
    const { entries } = here.world.server;
    entries.partitioned.add("stock");
    for (const key of ["eu/1", "eu/2", "us/1"]) entries.write("stock", key, { status: "new" });
    here.show([
      <Look key="1" selection={{ partition: "eu" }} />,
      "|",
      <Look key="2" selection={{ keys: ["us/1"] }} />,
      "|",
      <Look key="3" selection={{ keys: ["eu/2", "eu/3"] }} />,
    ]);
    await here.advance(0);
    expect(here.text()).toBe("eu/1 eu/2|us/1|eu/2");
    expect(here.sent.filter(({ kind }) => kind === "watch")).toHaveLength(3);
  });

  it("shows why the server ended the watch, and watches again when it is mounted anew", async () => {
    const here = await stage(<Lists key="a" />);
    await here.run(() =>
      here.world.server.last.send("unsubscribed", { channel: "orders", code: "revoked", reason: "r" }),
    );
    expect(here.text()).toBe("idle revoked ");
    await here.advance(60_000);
    expect(here.text()).toBe("idle revoked ");
    here.show(<Lists key="b" />);
    await here.advance(0);
    expect(here.text()).toBe("current  ");
  });
});

describe("predictions", () => {
  const Look = () => {
    const pending = usePending("orders", "a");
    const status = useCollection<Order, string>(
      "orders",
      ({ entries }) => entries[0]?.value.status ?? "none",
    );
    const entity = useEntity<Order>("orders", "a");
    return `${status} ${entity?.status} ${pending.length}`;
  };

  it("are shown before the server has answered, and settle in one render", async () => {
    const here = await stage();
    orders(here).put("a");
    const seen: string[] = [];
    const Watch = () => {
      const text = Look();
      if (seen.at(-1) !== text) seen.push(text);
      return text;
    };
    here.show(<Watch />);
    await here.advance(0);
    const { entries } = here.world.server;
    entries.isDeciding = false;
    seen.length = 0;
    act(() => {
      here.client.mutate("orders.patch", { key: "a", patch: { status: "shipped" } });
    });
    expect(here.text()).toBe("shipped shipped 1");
    await here.advance(0);
    await here.run(() => entries.decideAll());
    expect(here.text()).toBe("shipped shipped 0");
    expect(seen).toEqual(["shipped shipped 1", "shipped shipped 0"]);
  });

  it("are taken back when the server rejects, in one render", async () => {
    const here = await stage();
    orders(here).put("a");
    here.show(<Look />);
    await here.advance(0);
    const { entries } = here.world.server;
    entries.mutators.set("orders.patch", (tx) => tx.reject("no", "No."));
    entries.isDeciding = false;
    act(() => {
      here.client.mutate("orders.patch", { key: "a", patch: { status: "shipped" } });
    });
    expect(here.text()).toBe("shipped shipped 1");
    await here.advance(0);
    await here.run(() => entries.decideAll());
    expect(here.text()).toBe("new new 0");
  });
});

describe("useEntity", () => {
  const One = ({ name = "orders", id = "a" }: { name?: string | Falsy; id?: string | Falsy }) => {
    const order = useEntity<Order>(name, id);
    return order === undefined ? "unknown" : (order?.status ?? "none");
  };

  it("is undefined until it is known, null where there is none, and the value", async () => {
    const here = await stage();
    const seen: string[] = [];
    const Seen = () => {
      const text = One({});
      seen.push(text);
      return text;
    };
    here.show(<Seen />);
    await here.advance(0);
    await here.run(() => orders(here).put("a"));
    await here.run(() => orders(here).delete("a"));
    expect([...new Set(seen)]).toEqual(["unknown", "none", "new"]);
    expect(here.text()).toBe("none");
  });

  it("asks for one key, and for another when the key changes", async () => {
    const here = await stage(<One />);
    await here.run(() => orders(here).put("b", "shipped"));
    here.show(<One id="b" />);
    await here.advance(1);
    expect(here.text()).toBe("shipped");
    const watched = here.sent.filter(({ kind }) => kind === "watch").map(({ body }) => body["keys"]);
    expect(watched).toEqual([["a"], ["b"]]);
  });

  it("asks for nothing without a name or a key", async () => {
    const here = await stage([<One key="1" id={null} />, <One key="2" name={false} />]);
    expect([here.text(), here.sent]).toEqual(["unknownunknown", []]);
  });

  it("does not render when another entry changes", async () => {
    let numRenders = 0;
    const Counted = () => {
      numRenders += 1;
      return useEntity<Order>("orders", "a")?.status ?? "none";
    };
    const here = await stage([<Counted key="1" />, <Lists key="2" />]);
    await here.run(() => orders(here).put("a"));
    const before = numRenders;
    await here.run(() => orders(here).put("b"));
    expect([here.text(), numRenders]).toEqual(["newcurrent  a b", before]);
  });
});

describe("shallowEqual", () => {
  it("compares what lists and objects hold, and nothing below", () => {
    const held = {};
    expect(shallowEqual([1, held], [1, held])).toBe(true);
    expect(shallowEqual([1, {}], [1, {}])).toBe(false);
    expect(shallowEqual([1], [1, 2])).toBe(false);
    expect(shallowEqual({ a: undefined }, { b: undefined })).toBe(false);
    expect(shallowEqual({ a: 1 }, { a: 1 })).toBe(true);
    expect(shallowEqual(null, {})).toBe(false);
    expect(shallowEqual(Number.NaN, Number.NaN)).toBe(true);
  });
});
