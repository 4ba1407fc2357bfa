/** What must compile of the hooks, and what must not. */

import { type Client, createClient, type Member } from "../../src/index.ts";
import {
  SyncProvider,
  useChannel,
  useClient,
  useConnection,
  useOthers,
  usePresence,
} from "../../src/react/index.ts";

const client: Client | null = createClient({ url: "/ws" });

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
  return <SyncProvider client={client}>text</SyncProvider>;
}

export function Wrong() {
  // @ts-expect-error a provider needs a client, or null
  void (<SyncProvider>text</SyncProvider>);
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
