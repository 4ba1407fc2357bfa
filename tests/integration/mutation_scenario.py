"""ONCE under fire: clients add to counters, one mutation outstanding each, and resend until they know the outcome."""

import contextlib

import attrs
import trio

from syncd.testing.crowd import wait_until
from syncd.testing.plain_client import Closed, PlainClient

KEYS = ["a", "b", "c", "d", "e"]
NUM_CLIENTS = 50
NUM_WATCHERS = 4
RETRY_S = 0.05


async def in_thread(work, *args):
    return await trio.to_thread.run_sync(work, *args)


@attrs.define(eq=False)
class Tally:
    """What is known of all clients together."""

    num_acknowledged: int = 0
    num_resent: int = 0
    num_known: int = 0
    """Resent, and decided before: counted once all the same."""
    is_over: bool = False


@attrs.define(eq=False)
class Mutator:
    """One client over all its connections."""

    port: int
    key: str
    tally: Tally
    claim: dict | None = None
    mid: int = 0
    """Of the last mutation that was acknowledged."""
    is_pending: bool = False
    values: list = attrs.field(factory=list)

    async def run(self):
        """Mutate until told to stop, and then until the last outcome is known."""
        while self.is_pending or not self.tally.is_over:
            with contextlib.suppress(OSError, Closed):
                client = await PlainClient.connect(self.port)
                try:
                    await self._serve(client)
                finally:
                    await client.aclose()
            await trio.sleep(RETRY_S)

    async def _serve(self, client):
        welcome = await client.hello(**({} if self.claim is None else {"clients": [self.claim]}))
        state = welcome["clients"][0]
        if self.claim is None:
            self.claim = {"client": state["client"], "secret": state["secret"]}
        assert state["client"] == self.claim["client"], "the client is still known"
        last = state.get("last_mid", 0)
        assert last in ((self.mid, self.mid + 1) if self.is_pending else (self.mid,))
        self.tally.num_known += last > self.mid
        while self.is_pending or not self.tally.is_over:
            self.tally.num_resent += self.is_pending
            self.is_pending = True
            await client.send("mutate", mid=self.mid + 1, name="counters.add", args=[self.key])
            kind, body = await client.expect("outcome", "error", "out_of_order")
            assert kind != "out_of_order", body
            if kind == "error":
                assert body["retryable"], body
                await trio.sleep(RETRY_S)
                continue
            assert body["mid"] == self.mid + 1
            assert body["status"] == "ok", body
            self.values.append(body["value"])
            self.mid += 1
            self.is_pending = False
            self.tally.num_acknowledged += 1


@attrs.define(eq=False)
class Watcher:
    """Watches all counters, over all its connections, from where it stands."""

    port: int
    position: dict | None = None
    entries: dict = attrs.field(factory=dict)
    num_recovered: int = 0

    async def run(self):
        while True:
            with contextlib.suppress(OSError, Closed):
                client = await PlainClient.connect(self.port)
                try:
                    await self._serve(client)
                finally:
                    await client.aclose()
            await trio.sleep(RETRY_S)

    async def _serve(self, client):
        await client.hello()
        asked = {} if self.position is None else {"position": self.position}
        await client.send("watch", id=1, collection="counters", all=True, **asked)
        while True:
            kind, body = await client.receive()
            if kind == "watched":
                self._watched(body)
            elif kind == "event":
                self._event(body)
            elif kind == "mark":
                self.position = body["position"]
            elif kind == "ping":
                await client.send("pong")
            elif kind in ("error", "lagged"):
                raise Closed

    def _watched(self, body):
        if body["recovered"]:
            self.num_recovered += 1
        else:
            assert self.position is None, "every position lies inside the retention"
            self.entries = {
                entry["key"]: (entry["version"], entry["value"]) for entry in body["entries"]
            }
        self.position = body["position"]

    def _event(self, body):
        offset = body["offset"]
        if offset <= self.position["offset"]:
            return
        self.entries[body["key"]] = (offset, body["data"]["value"])
        self.position = {"epoch": self.position["epoch"], "offset": offset}


async def mutate_under_kills(server, num_kills, acks_between, rng, kill):
    """Kill a node again and again while everybody mutates; check that each acknowledged mutation counts once.

    Args:
        kill: Ends the server process, in a thread.
    """
    await in_thread(server.start)
    tally = Tally()
    mutators = [Mutator(server.port, KEYS[n % len(KEYS)], tally) for n in range(NUM_CLIENTS)]
    watchers = [Watcher(server.port) for _ in range(NUM_WATCHERS)]
    async with trio.open_nursery() as everybody:
        for watcher in watchers:
            everybody.start_soon(watcher.run)
        async with trio.open_nursery() as nursery:
            for mutator in mutators:
                nursery.start_soon(mutator.run)
            for _ in range(num_kills):
                goal = tally.num_acknowledged + rng.randint(1, acks_between)
                await wait_until(
                    lambda goal=goal: tally.num_acknowledged >= goal, 30, "outcomes go on"
                )
                await in_thread(kill)
                await in_thread(server.start)
            goal = tally.num_acknowledged + NUM_CLIENTS
            await wait_until(lambda: tally.num_acknowledged >= goal, 30, "work after the last kill")
            tally.is_over = True
        await check(server.port, mutators, watchers)
        everybody.cancel_scope.cancel("seen enough")
    return tally, watchers


async def check(port, mutators, watchers):
    """The counters are what was acknowledged, offsets have no holes, and all watchers see that."""
    client = await PlainClient.connect(port)
    await client.hello()
    _, answer = await client.ask("read", collection="counters", keys=KEYS)
    await client.aclose()
    for entry in answer["entries"]:
        values = sorted(v for m in mutators if m.key == entry["key"] for v in m.values)
        assert values == list(range(1, entry["value"] + 1)), "each outcome is of its own increment"
    total = sum(mutator.mid for mutator in mutators)
    assert sum(entry["value"] for entry in answer["entries"]) == total
    truth = {entry["key"]: (entry["version"], entry["value"]) for entry in answer["entries"]}
    assert max(version for version, _ in truth.values()) == total, "one offset a mutation, no holes"
    await wait_until(
        lambda: all(watcher.entries == truth for watcher in watchers), 10, "watchers converge"
    )
