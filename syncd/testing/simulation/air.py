"""The server that simulated nodes share: what it has, whether it is there, and the air over which it tells nodes of each other's commits.

The air delays, loses and says so, as Redis and its pub/sub do. Another server can be there when it is back, which never heard of the end.
"""

from __future__ import annotations

import collections
import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs
import trio

from syncd.actors.bridge.actor import CHECK_S
from syncd.ports_bus import BusEvents, BusStatistics
from syncd.store.base import StoreOptions
from syncd.testing.simulation.disk import Disk

__all__ = ["Air", "Copy", "SimulatedBus"]

LATE_S = 0.4
"""How late a late commit is in the mean: often before its client asks again."""
LOOKED_S = 1.5 * CHECK_S + 1.0
"""After this long every node has looked at what it hears of."""


@attrs.frozen
class Copy:
    """What a replica of the server has."""

    path: Path
    leases: Mapping[str, tuple[str, float]]


class Air:
    """The server as all nodes see it: what it has, whether it is there, and what it tells whom."""

    def __init__(
        self, rng: random.Random, disk: Disk, options: StoreOptions, timer: Callable[[], float]
    ) -> None:
        self.rng = rng
        self.store = disk.open_store(options, timer)
        self._disk, self._options, self._timer = disk, options, timer
        self.num_lives = 1
        self.latency_s = 0.01
        self.lost = 0.0
        """Share of messages that are lost without a word."""
        self.lost_replies = 0.0
        """Share of commits whose reply does not come."""
        self.late = 0.0
        """Share of commits that take effect when nobody waits for the reply any more."""
        self.counts: Counter[str] = Counter()
        self.nursery: trio.Nursery
        """Where what is late waits."""
        self.is_there = trio.Event()
        self.is_there.set()
        self.buses: set[SimulatedBus] = set()
        self.numbers = itertools.count()
        self.leases: dict[str, tuple[str, float]] = {}

    def tell(self, topic: bytes, payload: bytes) -> None:
        """Publish to whoever has subscribed."""
        for bus in sorted(self.buses, key=lambda bus: bus.number):
            if self.rng.random() >= self.lost:
                bus.hear(topic, payload)
            else:
                bus.miss(topic)

    def do_late(self, work: Callable[[], None]) -> None:
        """Do something in a while, as a server does that was slow; what it had not read when it went away is never done."""
        self.nursery.start_soon(
            self._do_late, work, self.is_there, self.rng.expovariate(1 / LATE_S)
        )

    async def _do_late(self, work: Callable[[], None], is_there: trio.Event, wait_s: float) -> None:
        await trio.sleep(wait_s)
        if is_there is self.is_there:
            self.counts["late commits"] += 1
            work()

    def unheard(self) -> list[str]:
        """Return topics of which nodes lost the last message without a word, and may not have looked again yet."""
        since = trio.current_time() - LOOKED_S
        missed = {t for bus in self.buses for t, at in bus.missed.items() if at > since}
        return sorted(topic.decode() for topic in missed)

    def leave(self) -> None:
        """The server is gone: every link breaks."""
        self.is_there = trio.Event()
        for bus in sorted(self.buses, key=lambda bus: bus.number):
            bus.cut()

    def come_back(self) -> None:
        """The server is there again, with all it had."""
        self.is_there.set()

    def copy(self) -> Copy:
        """Copy what it has, leases included."""
        return Copy(self._disk.copy(), dict(self.leases))

    def take_over(self, copy: Copy) -> None:
        """Have another server in its place, which never heard of what came after the copy. Called while it is away."""
        self.store = self._disk.take_over(copy.path, self._options, self._timer)
        self.leases = dict(copy.leases)
        self.num_lives += 1

    @property
    def is_away(self) -> bool:
        """Whether nobody can ask anything."""
        return not self.is_there.is_set()

    def calm_down(self) -> None:
        """Lose nothing any more."""
        self.come_back()
        self.lost = self.lost_replies = self.late = 0.0
        self.latency_s = 0.005


class SimulatedBus:
    """One node's links to the air. Implements `BusPort`; whatever breaks them ends in a gap."""

    def __init__(self, air: Air, events: BusEvents, number: int) -> None:
        self.number = number
        self._air = air
        self._events = events
        self._wanted: dict[bytes, None] = {}
        self._subscribed: set[bytes] = set()
        self._up_at = 0.0
        self._heard_at: dict[bytes, float] = {}
        """When a topic was subscribed last, or something of it was heard after a loss."""
        self.missed: dict[bytes, float] = {}
        """When the last message of a topic was lost without a word. The next one, or a gap, tells of it."""
        self._queue: collections.deque[tuple[float, Callable[[], None]]] = collections.deque()
        self._last_at = 0.0
        self._changed = trio.Event()
        self._is_up = False

    def hears_since(self, topic: bytes) -> float:
        """Return since when what is told of a topic is heard, all of it; infinity if it is not."""
        if topic in self.missed or topic not in self._subscribed:
            return math.inf
        return max(self._up_at, self._heard_at.get(topic, 0.0))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then it is as if the process had died."""
        self._air.buses.add(self)
        task_status.started()
        try:
            while True:
                await trio.sleep(self._air.rng.expovariate(1 / 0.05))
                if self._air.is_away:
                    continue
                self._is_up, self._up_at = True, trio.current_time()
                self._events.on_link(is_up=True)
                self._subscribe(list(self._wanted))
                await self._serve()
                self._events.on_link(is_up=False)
        finally:
            self._air.buses.discard(self)

    async def _serve(self) -> None:
        """Deliver what comes, in order, until the link is cut."""
        while self._is_up:
            if not self._queue or self._queue[0][0] > trio.current_time():
                with trio.move_on_at(self._queue[0][0] if self._queue else float("inf")):
                    await self._changed.wait()
                continue
            _, deliver = self._queue.popleft()
            deliver()
            await trio.lowlevel.checkpoint()

    def cut(self) -> None:
        """The links break: what is under way is lost."""
        self._is_up = False
        self._subscribed.clear()
        self._queue.clear()
        self.missed.clear()
        self._wake()

    def hear(self, topic: bytes, payload: bytes) -> None:
        """Something was published."""
        if topic in self._subscribed:
            if self.missed.pop(topic, None) is not None:
                self._heard_at[topic] = trio.current_time()
            self._later(lambda: self._events.on_messages([(topic, payload)]))

    def miss(self, topic: bytes) -> None:
        """Something was published, and is lost on the way here."""
        if topic in self._subscribed:
            self.missed[topic] = trio.current_time()

    def _later(self, deliver: Callable[[], None]) -> None:
        delay_s = self._air.latency_s * (0.5 + self._air.rng.random())
        self._last_at = max(self._last_at, trio.current_time() + delay_s)
        self._queue.append((self._last_at, deliver))
        self._wake()

    def _subscribe(self, topics: list[bytes]) -> None:
        def take_effect() -> None:
            wanted = [topic for topic in topics if topic in self._wanted]
            self._subscribed.update(wanted)
            self._heard_at.update(dict.fromkeys(wanted, trio.current_time()))
            if wanted:
                self._later(lambda: self._events.on_gap(wanted))

        self._later(take_effect)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -------------------------------------------------------------------------------- BusPort

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """See `BusPort.publish`."""
        if self._is_up:
            self._air.tell(topic, payload)
        return self._is_up

    def want(self, topics: Iterable[bytes]) -> None:
        """See `BusPort.want`."""
        new = [topic for topic in topics if topic not in self._wanted]
        self._wanted.update(dict.fromkeys(new))
        if new and self._is_up:
            self._subscribe(new)

    def unwant(self, topics: Iterable[bytes]) -> None:
        """See `BusPort.unwant`."""
        for topic in topics:
            self._wanted.pop(topic, None)
            self._subscribed.discard(topic)
            self.missed.pop(topic, None)

    def statistics(self) -> BusStatistics:
        """See `BusPort.statistics`; nothing is counted."""
        return BusStatistics(self._is_up, (), len(self._wanted), len(self._subscribed), *[0] * 10)
