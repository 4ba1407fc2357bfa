/** What must compile of the hooks, and what must not. */

import { QueryClient as CoreQueryClient } from "@tanstack/query-core";
import { QueryClient } from "@tanstack/react-query";
import { type ChannelsClient, createClient as createChannelsClient } from "../../src/channels/index.ts";
import { type Client, createClient, type Member, type MutatorTx } from "../../src/index.ts";
import {
  type CollectionView,
  SyncProvider,
  shallowEqual,
  useBroadcastInvalidation,
  useChannel,
  useClient,
  useCollection,
  useConnection,
  useEntity,
  useMutate,
  useOthers,
  usePending,
  usePresence,
  useSyncStatus,
} from "../../src/react/index.ts";
import { useMutations } from "../../src/react/mutations/index.ts";
import { fillQueries, invalidateQueries } from "../../src/tanstack-query/index.ts";

const client: Client | null = createClient({ url: "/ws" });
const ofChannels: ChannelsClient = createChannelsClient({ url: "/ws" });

export function Right(props: { room: string | null }) {
  const { state, retryAt } = useConnection();
  const own: Client = useClient();
  const view = useChannel(props.room && `demo:${props.room}`, {
    onEvent: ({ data }) => void data,
    enabled: true,
  });
  const others: readonly Member[] = useOthers("demo:room");
  const count: number = useOthers("demo:room", (all) => all.length);
  const names: string[] = useOthers(
    false,
    (all) => all.map(({ member }) => member),
    (a, b) => a.join() === b.join(),
  );
  const [cursor, setCursor, error] = usePresence("demo:room", { x: 0, y: 0 });
  setCursor({ x: 1, y: 2 });
  setCursor((before) => ({ ...before, x: before.x + 1 }));
  void [state, retryAt, own, view.state, others, count, names, cursor.x, error?.message];
  const { state: ownState }: ChannelsClient = useClient<ChannelsClient>();
  void [ownState, <SyncProvider key="channels" client={ofChannels} />];
  return <SyncProvider client={client}>text</SyncProvider>;
}

export function Wrong() {
  // @ts-expect-error a provider needs a client, or null
  void (<SyncProvider>text</SyncProvider>);
  // @ts-expect-error a client of channels has no collections
  useClient<ChannelsClient>().collection("orders");
  // @ts-expect-error it is a client, not what one is made with
  void (<SyncProvider client={{ url: "/ws" }} />);
  // @ts-expect-error a channel has a name, or none
  useChannel(3);
  // @ts-expect-error there is no such listener
  useChannel("demo:room", { onMessage: () => undefined });
  // @ts-expect-error there is no such state
  void (useConnection().state === "open");
  // @ts-expect-error the selection is a number
  const count: string = useOthers("demo:room", (all) => all.length);
  useOthers(
    "demo:room",
    (all) => all.length,
    // @ts-expect-error numbers are compared, not members
    (a, b) => a.member === b.member,
  );
  const [, set] = usePresence("demo:room", { x: 0 });
  // @ts-expect-error the state keeps its type
  set({ y: 1 });
  // @ts-expect-error members do not change
  useOthers("demo:room").push();
  return count;
}

interface Order {
  readonly status: "new" | "shipped";
}

interface Ship {
  readonly order_id: string;
}

const mutators = {
  orders: { ship: (tx: MutatorTx, { order_id }: Ship) => tx.patch(order_id, { status: "shipped" }) },
};

const withMutators = createClient({ url: "/ws", mutators });

export function RightState() {
  const view: CollectionView<Order> = useCollection<Order>("orders");
  const status: "new" | "shipped" | undefined = view.entries[0]?.value.status;
  const keys: string[] = useCollection(
    "orders",
    ({ entries }) => entries.map(({ key }) => key),
    shallowEqual,
  );
  const count: number = useCollection<Order, number>(null, ({ entries }) => entries.length);
  useCollection("stock", undefined, undefined, { partition: "eu" });
  const order: Order | null | undefined = useEntity<Order>("orders", "a");
  const pending: readonly number[] = usePending("orders", "a");
  const { numPending } = useSyncStatus();
  const ship = useMutate<Ship, null>("orders.ship", {
    onMutate: () => 3,
    onSuccess: (data, { order_id }) => [data, order_id],
    onError: (_error, _variables, before, { client: used }) => [before, used?.numPending],
  });
  const numUnsent: number = useMutations((all) => all.filter(({ status: far }) => far === "queued").length);
  const unsent = useMutations((all) => all.filter(({ name }) => name === "orders.ship"), shallowEqual);
  void [numUnsent, unsent[0]?.id, useMutations()[0]?.madeAtMs];
  const at: number = ship.submittedAt;
  void at;
  ship.mutate({ order_id: "a" });
  ship.mutate({ order_id: "a" }, { onError: ({ message }) => message });
  const data: Promise<null> = ship.mutateAsync({ order_id: "a" });
  if (ship.isError) void ship.error.message;
  if (ship.isSuccess) void (ship.data === null);
  if (ship.status === "pending") void ship.variables.order_id;
  const own = useClient<typeof mutators>();
  own.mutate.orders.ship({ order_id: "a" });
  useBroadcastInvalidation({ prices: ({ keys, tags, isAll }) => [keys, tags, isAll] });
  void [status, keys, count, order, pending, numPending, data];
  return <SyncProvider client={withMutators} />;
}

export function WrongState() {
  // @ts-expect-error values have the type that was said
  useCollection<Order>("orders").entries[0]?.value.total;
  // @ts-expect-error what an entry holds is unknown unless it is said
  useCollection("orders").entries[0]?.value.status;
  // @ts-expect-error entries do not change
  useCollection<Order>("orders").entries.push();
  // @ts-expect-error it may not be there
  useEntity<Order>("orders", "a").status;
  // @ts-expect-error an entity has a key
  useEntity<Order>("orders");
  const ship = useMutate<Ship, null>("orders.ship");
  // @ts-expect-error arguments have the type that was said
  ship.mutate({ id: "a" });
  // @ts-expect-error there is no data before success
  const data: null = ship.data;
  // @ts-expect-error there is an error in the state of error alone
  ship.error.message;
  useMutate("orders.ship", {
    // @ts-expect-error the provider may have no client
    onSuccess: (_data, _variables, _before, { client: used }) => used.newId(),
  });
  // @ts-expect-error the list is selected from, not filtered by an object
  useMutations({ status: "queued" });
  // @ts-expect-error nothing is done in it
  useMutations().push();
  const own = useClient<typeof mutators>();
  // @ts-expect-error there is no such mutator
  own.mutate.orders.cancel({ order_id: "a" });
  // @ts-expect-error it takes an order
  own.mutate.orders.ship({ id: "a" });
  // @ts-expect-error functions say what to do
  useBroadcastInvalidation({ prices: ["prices"] });
  return data;
}

for (const queryClient of [new QueryClient(), new CoreQueryClient()]) {
  const stop: () => void = invalidateQueries(withMutators, queryClient, {
    orders: ["orders"],
    prices: ({ keys }) => keys.map((key) => ["price", key]),
  });
  fillQueries(withMutators.collection<Order>("orders"), queryClient, {
    list: ["orders"],
    select: (entries) => entries.map(({ value }) => value.status),
    entry: (key) => ["orders", key],
  });
  // @ts-expect-error a query key is a list
  invalidateQueries(withMutators, queryClient, { orders: "orders" });
  // @ts-expect-error a function returns query keys
  invalidateQueries(withMutators, queryClient, { orders: () => ["orders"] });
  // @ts-expect-error a map says which queries
  invalidateQueries(withMutators, queryClient);
  // @ts-expect-error the query key of an entry is a list
  fillQueries(withMutators.collection("orders"), queryClient, { entry: (key) => key });
  stop();
}
