/** Mutations in components, under the names and rules of TanStack Query's `useMutation`. */

import { useEffect, useMemo, useRef, useState } from "react";
import type { Client } from "../client.js";
import type { Falsy } from "./channel.js";
import { useConnection, useWholeClient } from "./client.js";
import { nothing, useLatest } from "./store.js";

/** Where a mutation was made: for callbacks that stand outside of components. */
export interface MutateContext {
  /** Null where the provider has none: then the mutation fails. */
  readonly client: Client | null;
}

/** What is called when one mutation has ended. `before` is what `onMutate` returned. */
export interface MutateCallbacks<Data, Variables, Before> {
  readonly onSuccess?:
    | ((data: Data, variables: Variables, before: Before | undefined, context: MutateContext) => unknown)
    | undefined;
  readonly onError?:
    | ((error: Error, variables: Variables, before: Before | undefined, context: MutateContext) => unknown)
    | undefined;
  readonly onSettled?:
    | ((
        data: Data | undefined,
        error: Error | null,
        variables: Variables,
        before: Before | undefined,
        context: MutateContext,
      ) => unknown)
    | undefined;
}

/** What is called at every mutation of a hook, also when its component is gone. Promises that are returned are waited for. */
export interface UseMutateOptions<Data, Variables, Before> extends MutateCallbacks<Data, Variables, Before> {
  /** Called before the mutation is made, which waits for nothing; when it throws, none is made. */
  readonly onMutate?: ((variables: Variables, context: MutateContext) => Before) | undefined;
}

/** The last mutation of a hook. */
type MutateState<Data, Variables> =
  | Shown<"idle", undefined, null, undefined>
  | Shown<"pending", undefined, null, Variables>
  | Shown<"success", Data, null, Variables>
  | Shown<"error", undefined, Error, Variables>;

interface Shown<Status, Data, Problem, Variables> {
  readonly status: Status;
  /** What the mutator returned at the server. */
  readonly data: Data;
  /** Mostly `MutationFailed`, whose `status` says whether anything changed. */
  readonly error: Problem;
  readonly variables: Variables;
  readonly isIdle: Status extends "idle" ? true : false;
  readonly isPending: Status extends "pending" ? true : false;
  readonly isSuccess: Status extends "success" ? true : false;
  readonly isError: Status extends "error" ? true : false;
}

type Submitted<Data, Variables> = MutateState<Data, Variables> & { readonly submittedAt: number };

/** What `useMutate` returns: the state of the last mutation, and the functions, which stay the same. */
export type MutateResult<Data, Variables, Before> = MutateState<Data, Variables> & {
  /** When it was made, by this machine's wall clock; ms since 1970, 0 while idle. */
  readonly submittedAt: number;
  /** It is pending and cannot be sent, as there is no connection. */
  readonly isPaused: boolean;
  /** Make a mutation. Never throws; `callbacks` are called if this is still the last one, and the component is shown. */
  readonly mutate: (variables: Variables, callbacks?: MutateCallbacks<Data, Variables, Before>) => void;
  /** The same, as a promise of what the mutator returned. */
  readonly mutateAsync: (
    variables: Variables,
    callbacks?: MutateCallbacks<Data, Variables, Before>,
  ) => Promise<Data>;
  /** Forget the last mutation, which goes on, and be idle. */
  readonly reset: () => void;
};

function shown<Status extends string, Data, Problem, Variables>(
  status: Status,
  data: Data,
  error: Problem,
  variables: Variables,
): Shown<Status, Data, Problem, Variables> {
  const is = (other: string) => (status as string) === other;
  return {
    status,
    data,
    error,
    variables,
    isIdle: is("idle"),
    isPending: is("pending"),
    isSuccess: is("success"),
    isError: is("error"),
  } as Shown<Status, Data, Problem, Variables>;
}

const IDLE = { ...shown("idle", undefined, null, undefined), submittedAt: 0 };

/** Call what an application gave; what it throws is nobody's answer, so it is reported as an unhandled rejection. */
async function call(callback: () => unknown): Promise<void> {
  try {
    await callback();
  } catch (error) {
    void Promise.reject(error);
  }
}

/** What the functions of one hook share with it. */
interface Hook<Data, Variables, Before> {
  readonly latest: {
    readonly current: {
      readonly client: Client | null;
      readonly name: string | Falsy;
      readonly options: UseMutateOptions<Data, Variables, Before>;
    };
  };
  /** The call that is shown; null when none is. */
  last: object | null;
  isMounted: boolean;
  setState(state: Submitted<Data, Variables>): void;
}

/** Make one mutation and see it to its end. */
async function mutateBy<Data, Variables, Before>(
  hook: Hook<Data, Variables, Before>,
  variables: Variables,
  callbacks: MutateCallbacks<Data, Variables, Before> = {},
): Promise<Data> {
  const { latest } = hook;
  const { client, name } = latest.current;
  const submittedAt = client ? client.engine.outside.wallNow() : 0;
  const own = {};
  hook.last = own;
  const show = (next: MutateState<Data, Variables>): void => {
    if (hook.last === own) hook.setState({ ...next, submittedAt });
  };
  const isHeard = () => hook.isMounted && hook.last === own;
  show(shown("pending", undefined, null, variables));
  const context: MutateContext = { client };
  let rest: [Variables, Before | undefined, MutateContext] = [variables, undefined, context];
  try {
    rest = [variables, latest.current.options.onMutate?.(variables, context), context];
    if (!client || !name) throw new Error("There is no client, or no name.");
    const data = (await client.mutate(name, variables).server) as Data;
    await latest.current.options.onSuccess?.(data, ...rest);
    await latest.current.options.onSettled?.(data, null, ...rest);
    show(shown("success", data, null, variables));
    if (isHeard()) {
      void call(() => callbacks.onSuccess?.(data, ...rest));
      void call(() => callbacks.onSettled?.(data, null, ...rest));
    }
    return data;
  } catch (reason) {
    const error = reason as Error;
    await call(() => latest.current.options.onError?.(error, ...rest));
    await call(() => latest.current.options.onSettled?.(undefined, error, ...rest));
    show(shown("error", undefined, error, variables));
    if (isHeard()) {
      void call(() => callbacks.onError?.(error, ...rest));
      void call(() => callbacks.onSettled?.(undefined, error, ...rest));
    }
    throw error;
  }
}

/**
 * Make mutations, and show how the last one fares, as TanStack Query's `useMutation` does.
 *
 * What the mutator predicts is shown by the hooks of its collections at once, so `onMutate` has nothing to set. There are
 * no retries to ask for: a mutation is sent until it is decided. A mutation goes on when its component is gone.
 *
 * @param name Full name of the mutator, `orders.ship`. Falsy: mutations fail.
 */
export function useMutate<Variables = unknown, Data = unknown, Before = unknown>(
  name: string | Falsy,
  options: UseMutateOptions<Data, Variables, Before> = {},
): MutateResult<Data, Variables, Before> {
  type Callbacks = MutateCallbacks<Data, Variables, Before>;
  const client = useWholeClient();
  const isConnected = useConnection(({ state }) => state === "connected");
  const latest = useLatest({ client, name, options });
  const [state, setState] = useState<Submitted<Data, Variables>>(IDLE);
  const { current: hook } = useRef<Hook<Data, Variables, Before>>({
    latest,
    last: null,
    isMounted: false,
    setState,
  });
  useEffect(() => {
    hook.isMounted = true;
    return () => {
      hook.isMounted = false;
    };
  }, [hook]);
  const functions = useMemo(
    () => ({
      mutateAsync: (variables: Variables, callbacks?: Callbacks) => mutateBy(hook, variables, callbacks),
      mutate: (variables: Variables, callbacks?: Callbacks) => {
        mutateBy(hook, variables, callbacks).catch(nothing);
      },
      reset: () => {
        hook.last = null;
        setState(IDLE);
      },
    }),
    [hook],
  );
  return { ...state, ...functions, isPaused: state.isPending && !isConnected };
}
