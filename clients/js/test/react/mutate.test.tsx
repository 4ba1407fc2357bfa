// @vitest-environment happy-dom
import { act } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import { MutationFailed } from "../../src/index.ts";
import { type Falsy, type MutateResult, type UseMutateOptions, useMutate } from "../../src/react/index.ts";
import { type Stage, stage } from "./world.tsx";

interface Args {
  readonly key: string;
  readonly value: unknown;
}

type Result = MutateResult<unknown, Args, unknown>;

let shown: Result;

function Puts({
  name = "orders.put",
  ...options
}: UseMutateOptions<unknown, Args, unknown> & { name?: string | Falsy }) {
  shown = useMutate<Args, unknown, unknown>(name, options);
  const { status, error, variables, isPaused } = shown;
  return `${status} ${variables?.key ?? ""} ${error?.message ?? ""}${isPaused ? "paused" : ""}`;
}

const args = (key: string): Args => ({ key, value: 1 });

/** Callbacks that note what they are called with. */
function noting(): { calls: unknown[]; callbacks: UseMutateOptions<unknown, Args, unknown> } {
  const calls: unknown[] = [];
  const callbacks = {
    onMutate: (variables: Args) => {
      calls.push(["mutate", variables.key]);
      return "before";
    },
    onSuccess: (data: unknown, variables: Args, before: unknown) =>
      calls.push(["success", data, variables.key, before]),
    onError: (error: Error, variables: Args, before: unknown) =>
      calls.push(["error", error.name, variables.key, before]),
    onSettled: (data: unknown, error: Error | null, variables: Args, before: unknown) =>
      calls.push(["settled", data, error?.name ?? null, variables.key, before]),
  };
  return { calls, callbacks };
}

const mutations = ({ sent }: Stage) => sent.filter(({ kind }) => kind === "mutate");

describe("useMutate", () => {
  it("is idle, pending, successful, and idle again", async () => {
    const here = await stage(<Puts />);
    const { entries } = here.world.server;
    expect([here.text(), shown.isIdle]).toEqual(["idle  ", true]);
    entries.isDeciding = false;
    act(() => shown.mutate(args("a")));
    expect([here.text(), shown.isPending, shown.isIdle]).toEqual(["pending a ", true, false]);
    await here.advance(0);
    await here.run(() => entries.decideAll());
    expect([here.text(), shown.isSuccess, shown.data]).toEqual(["success a ", true, null]);
    expect(entries.get("orders", "a")).toBe(1);
    act(() => shown.reset());
    expect([here.text(), shown.isIdle, shown.data]).toEqual(["idle  ", true, undefined]);
    expect(mutations(here)).toHaveLength(1);
  });

  it("shows a rejection, which mutate does not throw and mutateAsync does", async () => {
    const here = await stage(<Puts name="orders.none" />);
    await here.run(() => shown.mutate(args("a")));
    await here.advance(0);
    expect([here.text(), shown.isError]).toEqual(["error a The mutation ended: unknown_mutator.", true]);
    expect(shown.error).toBeInstanceOf(MutationFailed);
    let thrown: unknown;
    await here.run(() => {
      shown.mutateAsync(args("b")).catch((error: unknown) => {
        thrown = error;
      });
    });
    await here.advance(0);
    expect(thrown).toBeInstanceOf(MutationFailed);
  });

  it("returns from mutateAsync what the mutator returned at the server", async () => {
    const here = await stage(<Puts name="orders.count" />);
    here.world.server.entries.mutators.set("orders.count", () => 42);
    let data: unknown;
    await here.run(() => {
      void shown.mutateAsync(args("a")).then((value) => {
        data = value;
      });
    });
    await here.advance(0);
    expect([data, shown.data]).toEqual([42, 42]);
  });

  it("calls what was given in the order of TanStack Query: of the hook, then of the call", async () => {
    const [ofHook, ofCall] = [noting(), noting()];
    const order: string[] = [];
    const here = await stage(
      <Puts
        {...ofHook.callbacks}
        onSettled={(...given) => {
          order.push("hook");
          return ofHook.callbacks.onSettled?.(...given);
        }}
      />,
    );
    const { onSuccess, onSettled } = ofCall.callbacks;
    await here.run(() =>
      shown.mutate(args("a"), {
        onSuccess,
        onSettled: (...given) => {
          order.push("call");
          return onSettled?.(...given);
        },
      }),
    );
    await here.advance(0);
    expect(ofHook.calls).toEqual([
      ["mutate", "a"],
      ["success", null, "a", "before"],
      ["settled", null, null, "a", "before"],
    ]);
    expect(ofCall.calls).toEqual([
      ["success", null, "a", "before"],
      ["settled", null, null, "a", "before"],
    ]);
    expect(order).toEqual(["hook", "call"]);
  });

  it("gives every callback where the mutation was made, last", async () => {
    const contexts: unknown[] = [];
    const note = (...given: unknown[]) => {
      const { client } = given.pop() as { client: unknown };
      contexts.push([client === here.client, given.length]);
    };
    const callbacks = { onSuccess: note, onError: note, onSettled: note };
    const here = await stage(<Puts onMutate={note} {...callbacks} />);
    await here.run(() => shown.mutate(args("a"), callbacks));
    await here.advance(0);
    here.show(<Puts name="orders.none" {...callbacks} />);
    await here.run(() => shown.mutate(args("b"), callbacks));
    await here.advance(0);
    const [ofSuccess, ofSettled] = [
      [true, 3],
      [true, 4],
    ];
    const both = [ofSuccess, ofSettled, ofSuccess, ofSettled];
    expect(contexts).toEqual([[true, 1], ...both, ...both]);
  });

  it("says when the last mutation was made, and 0 while idle", async () => {
    const here = await stage(<Puts />);
    expect(shown.submittedAt).toBe(0);
    const madeAt = here.world.environment.wallNow();
    await here.run(() => shown.mutate(args("a")));
    await here.advance(5_000);
    expect([shown.status, shown.submittedAt]).toEqual(["success", madeAt]);
    await here.run(() => shown.mutate(args("b")));
    expect(shown.submittedAt).toBe(madeAt + 5_000);
    act(() => shown.reset());
    expect(shown.submittedAt).toBe(0);
  });

  it("calls the same for errors", async () => {
    const [ofHook, ofCall] = [noting(), noting()];
    const here = await stage(<Puts name="orders.none" {...ofHook.callbacks} />);
    await here.run(() => shown.mutate(args("a"), ofCall.callbacks));
    await here.advance(0);
    const told = [
      ["error", "MutationFailed", "a", "before"],
      ["settled", undefined, "MutationFailed", "a", "before"],
    ];
    expect([ofHook.calls, ofCall.calls]).toEqual([[["mutate", "a"], ...told], told]);
  });

  it("makes no mutation when onMutate throws, and takes an error of onSuccess for its own", async () => {
    const broken = () => {
      throw new Error("of the application");
    };
    const here = await stage(<Puts onMutate={broken} />);
    await here.run(() => shown.mutate(args("a")));
    expect([here.text(), mutations(here)]).toEqual(["error a of the application", []]);
    here.show(<Puts onSuccess={broken} />);
    await here.run(() => shown.mutate(args("b")));
    await here.advance(0);
    expect([here.text(), mutations(here).length]).toEqual(["error b of the application", 1]);
  });

  it("shows the last mutation alone; callbacks of earlier calls are not called, those of the hook are", async () => {
    const [ofHook, first, second] = [noting(), noting(), noting()];
    const here = await stage(<Puts {...ofHook.callbacks} />);
    const { entries } = here.world.server;
    entries.isDeciding = false;
    act(() => shown.mutate(args("a"), first.callbacks));
    act(() => shown.mutate(args("b"), second.callbacks));
    await here.advance(0);
    await here.run(() => entries.decideAll());
    expect(here.text()).toBe("success b ");
    expect(first.calls).toEqual([]);
    expect(second.calls.map((call) => (call as string[])[0])).toEqual(["success", "settled"]);
    expect(ofHook.calls.filter((call) => (call as string[])[0] === "success")).toHaveLength(2);
  });

  it("goes on when its component is gone, and calls what the hook was given alone", async () => {
    const [ofHook, ofCall] = [noting(), noting()];
    const here = await stage(<Puts {...ofHook.callbacks} />);
    const { entries } = here.world.server;
    entries.isDeciding = false;
    act(() => shown.mutate(args("a"), ofCall.callbacks));
    await here.advance(0);
    here.show(null);
    await here.run(() => entries.decideAll());
    expect([entries.get("orders", "a"), ofCall.calls]).toEqual([1, []]);
    expect(ofHook.calls.map((call) => (call as string[])[0])).toEqual(["mutate", "success", "settled"]);
  });

  it("forgets at reset what is on its way, which goes on", async () => {
    const ofCall = noting();
    const here = await stage(<Puts />);
    const { entries } = here.world.server;
    entries.isDeciding = false;
    act(() => shown.mutate(args("a"), ofCall.callbacks));
    act(() => shown.reset());
    await here.advance(0);
    await here.run(() => entries.decideAll());
    expect([here.text(), ofCall.calls, entries.get("orders", "a")]).toEqual(["idle  ", [], 1]);
  });

  it("calls the callbacks of the last render", async () => {
    const [before, after] = [noting(), noting()];
    const here = await stage(<Puts {...before.callbacks} />);
    here.world.server.entries.isDeciding = false;
    act(() => shown.mutate(args("a")));
    await here.advance(0);
    here.show(<Puts {...after.callbacks} />);
    await here.run(() => here.world.server.entries.decideAll());
    expect(before.calls).toEqual([["mutate", "a"]]);
    expect(after.calls.map((call) => (call as string[])[0])).toEqual(["success", "settled"]);
  });

  it("is paused while there is no connection, and sent with the next one", async () => {
    const here = await stage(<Puts />);
    await here.run(() => here.world.server.dropAll());
    act(() => shown.mutate(args("a")));
    expect(here.text()).toBe("pending a paused");
    await here.advance(20_000);
    expect(here.text()).toBe("success a ");
  });

  it("keeps its functions", async () => {
    const here = await stage(<Puts />);
    const before = shown;
    await here.run(() => shown.mutate(args("a")));
    await here.advance(0);
    here.show(<Puts name="orders.delete" />);
    expect([shown.mutate, shown.mutateAsync, shown.reset]).toEqual([
      before.mutate,
      before.mutateAsync,
      before.reset,
    ]);
  });

  it("fails for a falsy name", async () => {
    const here = await stage(<Puts name={null} />);
    await here.run(() => shown.mutate(args("a")));
    expect([shown.isError, mutations(here)]).toEqual([true, []]);
  });
});
