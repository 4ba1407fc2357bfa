"""All promises of DESIGN section 2 over three nodes and a Redis to which things happen, by a plan that a seed makes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import attrs
import trio

from syncd.testing.cluster import Cluster, open_cluster
from syncd.testing.counter_history import CounterHistory
from syncd.testing.crowd import Peer, SubscribingPeer, read_log, wait_until
from syncd.testing.history import History
from syncd.testing.plain_client import open_client
from tests.cluster.faults import Fault, do
from tests.cluster.peers import COLLECTION, KEYS, Adder, Publisher, Watcher

APP = str(Path(__file__).with_name("counter_app.py"))
CHANNELS = ["log:one", "log:two"]
CONFIG = """
[timing]
ping_s = 1.0
[limits]
recovery_events = 1000000
[namespaces.log]
history = "durable"
history_size = 1000000
[namespaces.log.allow]
subscribe = ["anyone"]
publish = ["anyone"]
history = ["anyone"]
[collections.counters]
read = ["anyone"]
mutate = ["anyone"]
"""
SILENCE_S = 3.0
"""Pings come every second; a busy machine is given two more."""
SETTLE_S = 60.0


@attrs.define(eq=False)
class World:
    """A cluster, its clients and what they saw."""

    cluster: Cluster
    rng: random.Random
    """Of what clients do. What they do depends on when things happen; the plan does not."""
    may_lose: bool
    history: History = attrs.field(factory=History)
    counters: CounterHistory = attrs.field(init=False)
    adders: list[Adder] = attrs.field(factory=list)
    watchers: list[Watcher] = attrs.field(factory=list)
    publishers: list[Publisher] = attrs.field(factory=list)
    subscribers: list[SubscribingPeer] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        """Make the clients; none runs yet."""
        self.counters = CounterHistory(COLLECTION, self.may_lose)
        for n in range(6):
            adder = Adder(
                f"adder{n}", self.a_port, self.counters, self.rng, window=1 + n % 3, pause_s=0.02
            )
            self.adders.append(adder)
        for n in range(3):
            self.watchers.append(Watcher(f"watcher{n}", self.a_port, self.counters))
        for n in range(4):
            channel = CHANNELS[n % len(CHANNELS)]
            self.publishers.append(Publisher(f"publisher{n}", self.a_port, channel, self.history))
        for n in range(3):
            peer = SubscribingPeer(f"subscriber{n}", self.a_port, CHANNELS, self.history)
            self.subscribers.append(peer)

    def a_port(self) -> int:
        """Return any node's, as a balancer would that knows nothing."""
        return self.rng.choice(self.cluster.ports)

    @property
    def peers(self) -> Sequence[Peer]:
        """Everybody."""
        return [*self.adders, *self.watchers, *self.publishers, *self.subscribers]

    @property
    def observers_subscribed(self) -> bool:
        """Whether every subscriber is subscribed and every watcher has a view."""
        return all(
            observer.is_subscribed
            for peer in self.subscribers
            for observer in peer.observers.values()
        ) and all(watcher.view.is_whole for watcher in self.watchers)

    async def begin(self, nursery: trio.Nursery) -> None:
        """Start everybody: those who look first, so that they see everything from its first event on."""
        for peer in self.peers:
            peer.silence_s = SILENCE_S
        for peer in (*self.watchers, *self.subscribers):
            nursery.start_soon(peer.run)
        await wait_until(lambda: self.observers_subscribed, 20, "everybody subscribed")
        for peer in (*self.adders, *self.publishers):
            nursery.start_soon(peer.run)

    async def roam(self) -> None:
        """Somebody changes nodes, again and again."""
        while True:
            await trio.sleep(self.rng.uniform(0.05, 0.4))
            await self.rng.choice(self.peers).hang_up()

    async def settle(self) -> None:
        """Have nothing new done, and wait until everything is decided."""
        for peer in (*self.adders, *self.publishers):
            peer.is_stopping = True
        await wait_until(
            lambda: all(peer.is_settled for peer in (*self.adders, *self.publishers)),
            SETTLE_S,
            "everything decided",
        )

    async def check(self) -> None:
        """Hold everything seen against what there is."""
        for channel in CHANNELS:
            await self._check_channel(channel)
        for port in self.cluster.ports:
            await self._check_counters(port)

    async def _check_channel(self, channel: str) -> None:
        epoch, events = await read_log(self.a_port(), channel)
        top = events[-1]["offset"] if events else 0
        observers = [peer.observers[channel] for peer in self.subscribers]
        await self._converge(
            lambda: all(
                each.is_subscribed and each.epoch == epoch and each.offset >= top
                for each in observers
            ),
            lambda: (
                f"at {top} of {epoch} of {channel}: "
                f"{[(each.name, each.epoch, each.offset) for each in observers]}"
            ),
        )
        first = 1 if not self.may_lose else events[0]["offset"] if events else 1
        self.history.check_log(channel, epoch, events, first, may_lose=self.may_lose)
        if not self.may_lose:
            self.history.check_complete(channel, top)

    async def _check_counters(self, port: int) -> None:
        async with open_client(port) as client:
            while True:
                kind, body = await client.ask("read", collection=COLLECTION, keys=KEYS)
                if kind == "ok":
                    break
                assert body["retryable"], body
                await trio.sleep(0.1)
        entries = {
            entry["key"]: (entry["version"], entry["value"])
            for entry in body["entries"]
            if not entry.get("deleted")
        }
        self.counters.check_entries(body["position"]["epoch"], entries)
        views = [watcher.view for watcher in self.watchers]
        await self._converge(
            lambda: all(view.is_whole and view.entries == entries for view in views),
            lambda: f"{entries}: {[(each.name, each.epoch, each.entries) for each in views]}",
        )

    async def _converge(self, is_so: Callable[[], bool], what: Callable[[], str]) -> None:
        try:
            await wait_until(is_so, 20, "converge")
        except AssertionError:
            self.history.breach(f"not converged {what()}")

    def report(self) -> str:
        """Return what happened in one line."""
        errors: dict[str, int] = {}
        for adder in self.adders:
            for code, count in adder.errors.items():
                errors[code] = errors.get(code, 0) + count
        counts = self.counters
        return (
            f"{counts.num_decided} mutations, {sum(a.num_resent for a in self.adders)} resent, "
            f"{sum(a.num_known for a in self.adders)} known; {counts.num_reads} reads; "
            f"{self.history.num_acknowledged} publications; "
            f"{sum(peer.num_connections for peer in self.peers)} connections; "
            f"{len(counts.epochs)} epochs; {counts.num_lost} clients lost; errors {errors}"
        )


async def live_through(
    folder: Path,
    seed: int,
    happen: Callable[[Cluster], Awaitable[None]],
    *,
    appendfsync: str | None = "always",
    may_lose: bool = False,
) -> World:
    """Have things happen to three nodes under load, and check everything; AssertionError with every breach found.

    Args:
        seed: Of what clients choose.
        happen: To the cluster; returns when the worst is over.
        appendfsync: Of Redis.
        may_lose: What was acknowledged may be lost, if new epochs begin then.
    """
    async with open_cluster(folder, 3, config=CONFIG, app=APP, appendfsync=appendfsync) as cluster:
        world = World(cluster, random.Random(seed), may_lose)
        async with trio.open_nursery() as nursery:
            await world.begin(nursery)
            async with trio.open_nursery() as roaming:
                roaming.start_soon(world.roam)
                await happen(cluster)
                roaming.cancel_scope.cancel("the worst is over")
            await cluster.wait_ready(60.0)
            await world.settle()
            await world.check()
            nursery.cancel_scope.cancel("seen enough")
        print(world.report(), flush=True)
        breaches = world.history.violations + world.counters.violations
        assert not breaches, "\n".join(breaches)
    return world


def following(plan: Sequence[Fault]) -> Callable[[Cluster], Awaitable[None]]:
    """Return what has the faults of a plan happen, one after the other."""

    async def happen(cluster: Cluster) -> None:
        for fault in plan:
            print(f"  {fault}", flush=True)
            await do(cluster, fault)
            await trio.sleep(fault.pause_s)

    return happen


async def roll(cluster: Cluster) -> None:
    """Restart every node in turn, as an operator does; the next one goes when this one is ready."""
    for index, node in enumerate(cluster.nodes):
        await trio.sleep(1.0)
        code, _took_s = await trio.to_thread.run_sync(node.stop)
        assert code == 0, f"node {index} ended with {code}"
        await cluster.start_node(index)
        await cluster.wait_ready(60.0)
    await trio.sleep(1.0)
