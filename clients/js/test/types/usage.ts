/** What must compile, and what must not: read by `tsc -p tsconfig.types.json`, with the browser's types. */

import { WebSocket as NodeWebSocket } from "ws";
import {
  type Client,
  type ConnectionState,
  createClient,
  type Member,
  type Position,
} from "../../src/index.ts";
import { createFakeWorld } from "../../src/testing/index.ts";

const client: Client = createClient({ url: "/ws" });
createClient({ url: "/ws", getToken: () => "token", group: "device" });
createClient({ url: "/ws", getToken: async () => null });
createClient({ url: "/ws", environment: { WebSocket } });
createClient({ url: "/ws", environment: { WebSocket: NodeWebSocket } });
createClient({ url: "/ws", environment: createFakeWorld().environment });

const state: ConnectionState = client.state;
const stop: () => void = client.channel("a:b").subscribe({ onEvent: (event) => event.position?.offset });
const position: Promise<Position | null> = client.channel("a:b").publish({ any: "thing" });
const others: readonly Member[] = client.channel("a:b").presence.others;
void [state, stop, position, others];

// @ts-expect-error a client needs a URL
createClient({});
// @ts-expect-error a token is a string
createClient({ url: "/ws", getToken: () => 3 });
// @ts-expect-error there is no such state
const wrong: ConnectionState = "open";
void wrong;
client.channel("a:b").subscribe({
  onEvent: (event) => {
    // @ts-expect-error what was published may be anything: look before you use it
    event.data.id;
    // @ts-expect-error an event does not change
    event.data = 1;
  },
});
// @ts-expect-error there is no such listener
client.channel("a:b").subscribe({ onMessage: () => undefined });
// @ts-expect-error a limit is a number
client.channel("a:b").history({ limit: "10" });
// @ts-expect-error members do not change
client.channel("a:b").presence.others.push();
