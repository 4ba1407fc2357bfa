// Prints how long a collection of 10,000 rows takes to load, to change and to predict, beside TanStack Query with code written
// by hand and, where it is installed, Replicache; run `npm run build` before.

import { encode } from "@msgpack/msgpack";
import { createClient } from "../dist/index.js";
import { createFakeWorld } from "../dist/testing/index.js";
import { HandWritten } from "./beside.mjs";
import { findReplicache, Replica } from "./replicache.mjs";

const NUM_ROWS = 10_000;
const NUM_PENDING = 50;

const row = (n) => ({
  status: n % 3 ? "open" : "shipped",
  total: n,
  customer: `customer-${n % 97}`,
  lines: [n, n + 1],
});
const keyOf = (n) => `order-${String(n).padStart(6, "0")}`;
const frame = (kind, body) => encode([kind, body]);

/** Pages of a snapshot as they come from a server. */
function pages(id) {
  const made = [];
  const head = { id, channel: "orders", unchanged: [] };
  for (let start = 0; start < NUM_ROWS; start += 1000) {
    const entries = Array.from({ length: 1000 }, (_, n) => ({
      key: keyOf(start + n),
      version: 1,
      value: row(start + n),
    }));
    const more = start + 1000 < NUM_ROWS;
    const first = { position: { epoch: "e", offset: NUM_ROWS }, recovered: false };
    made.push(
      frame(start === 0 ? "watched" : "snapshot", { ...head, ...(start === 0 ? first : {}), entries, more }),
    );
  }
  return made;
}

async function connected() {
  const world = createFakeWorld();
  const mutators = {
    orders: { ship: (tx, { id }) => tx.patch(id, { status: "shipped", by: tx.get(id).customer }) },
  };
  const client = createClient({ url: "ws://x/ws", environment: world.environment, mutators });
  client.connect();
  await world.clock.advance(0);
  const end = world.server.last;
  let watchId = 0;
  end.onMessage = (kind, body) => {
    if (kind === "watch") watchId = body.id;
  };
  const orders = client.collection("orders");
  orders.watch();
  return { client, orders, end, frames: pages(watchId) };
}

function load({ end, orders, frames }) {
  for (const one of frames) end.sendFrame(one);
  return orders.list().length;
}

function median(times) {
  return times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
}

async function timeLoad() {
  const times = [];
  for (let run = 0; run < 15; run++) {
    const all = await connected();
    const start = performance.now();
    if (load(all) !== NUM_ROWS) throw new Error("Not everything was loaded.");
    times.push(performance.now() - start);
  }
  return median(times);
}

function changed(offset, n) {
  const at = { channel: "orders", epoch: "e", offset, at_ms: 0 };
  return frame("event", { ...at, key: keyOf(n), data: { value: { ...row(n), total: offset } } });
}

/** One event, and one selector that looks at the whole list. */
async function timeEvent() {
  const all = await connected();
  load(all);
  const { orders, end } = all;
  let seen = 0;
  let list = null;
  orders.subscribe(() => {
    if (orders.list() !== list) seen += 1;
    list = orders.list();
  });
  const times = [];
  for (let run = 0; run < 500; run++) {
    const one = changed(NUM_ROWS + 1 + run, (run * 7919) % NUM_ROWS);
    const start = performance.now();
    end.sendFrame(one);
    times.push(performance.now() - start);
  }
  if (seen !== 500) throw new Error(`${seen} changes were told.`);
  return median(times);
}

/** An event below 50 predictions, all of which are made anew. */
async function timeRebase() {
  const all = await connected();
  load(all);
  const { client, orders, end } = all;
  for (let n = 0; n < NUM_PENDING; n++) client.mutate.orders.ship({ id: keyOf(n) });
  if (orders.list().filter(({ pending }) => pending.length > 0).length !== NUM_PENDING)
    throw new Error("Not pending.");
  const times = [];
  for (let run = 0; run < 100; run++) {
    const one = changed(NUM_ROWS + 1 + run, run % NUM_PENDING);
    const start = performance.now();
    end.sendFrame(one);
    times.push(performance.now() - start);
    if (orders.get(keyOf(run % NUM_PENDING)).status !== "shipped") throw new Error("Not predicted.");
  }
  return median(times);
}

/** The same three with query-core and code written by hand. */
function timeBeside() {
  const [loads, events, rebases] = [[], [], []];
  const frames = pages(1);
  const timed = (times, run) => {
    const start = performance.now();
    run();
    times.push(performance.now() - start);
  };
  for (let run = 0; run < 15; run++) {
    const one = new HandWritten();
    timed(loads, () => one.load(frames));
    if (one.list.length !== NUM_ROWS) throw new Error("Not everything was loaded.");
    one.end();
  }
  const one = new HandWritten();
  one.load(frames);
  for (let run = 0; run < 200; run++) {
    const frame = changed(NUM_ROWS + 1 + run, (run * 7919) % NUM_ROWS);
    timed(events, () => one.event(frame));
  }
  const ship = (value) => ({ ...value, status: "shipped", by: value.customer });
  one.predictions = Array.from({ length: NUM_PENDING }, (_, n) => ({ key: keyOf(n), change: ship }));
  for (let run = 0; run < 100; run++) {
    const frame = changed(NUM_ROWS + 201 + run, run % NUM_PENDING);
    timed(rebases, () => one.event(frame));
    if (one.list[run % NUM_PENDING].value.status !== "shipped") throw new Error("Not predicted.");
  }
  if (one.numTold < 300) throw new Error(`${one.numTold} changes were told.`);
  one.end();
  return [median(loads), median(events), median(rebases)];
}

/** The same three with Replicache; the whole list is read anew at each event, or what changed is told. */
async function timeReplicache(Replicache, way) {
  const entries = Array.from({ length: NUM_ROWS }, (_, n) => [keyOf(n), row(n)]);
  const [loads, events, rebases] = [[], [], []];
  const loaded = async () => {
    const one = new Replica(Replicache, way);
    await one.ready();
    loads.push(await one.load(entries));
    if (way === "list" && one.rows.length !== NUM_ROWS) throw new Error("Not everything was loaded.");
    return one;
  };
  for (let run = 0; run < 4; run++) await (await loaded()).close();
  const one = await loaded();
  for (let run = 0; run < 100; run++) {
    const n = (run * 7919) % NUM_ROWS;
    events.push(await one.event(keyOf(n), { ...row(n), total: NUM_ROWS + run }));
  }
  for (let n = 0; n < NUM_PENDING; n++) await one.ship(keyOf(n));
  for (let run = 0; run < 50; run++) {
    const n = run % NUM_PENDING;
    rebases.push(await one.event(keyOf(n), { ...row(n), total: 2 * NUM_ROWS + run }));
    const { status, total } = await one.read(keyOf(n));
    if (status !== "shipped" || total !== 2 * NUM_ROWS + run) throw new Error("Not predicted anew.");
  }
  await one.close();
  return [median(loads), median(events), median(rebases)];
}

const LIMITS = [
  [`cold load of ${NUM_ROWS} entries`, timeLoad, 150],
  ["one event and one selector", timeEvent, 0.3],
  [`rebase of ${NUM_PENDING} pending`, timeRebase, 5],
];

const others = [["query-core and code by hand", timeBeside()]];
const Replicache = await findReplicache();
if (Replicache === null) console.log("Replicache is not installed: npm install --no-save replicache@15.3.0");
else {
  others.push(["replicache, list read", await timeReplicache(Replicache, "list")]);
  others.push(["replicache, changes told", await timeReplicache(Replicache, "diff")]);
}

for (const [place, [name, time, limitMs]] of LIMITS.entries()) {
  const ms = await time();
  const verdict = ms <= limitMs ? "ok" : "TOO SLOW";
  const beside = others.map(([other, times]) => `${other}: ${times[place].toFixed(3)} ms`).join("; ");
  console.log(`${name}: ${ms.toFixed(3)} ms of ${limitMs} ms - ${verdict}; ${beside}`);
  if (ms > limitMs) process.exitCode = 1;
}
