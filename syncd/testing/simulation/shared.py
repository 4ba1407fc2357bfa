"""What simulated nodes share: one store, whose commits are told over an air that delays, loses and says so, as Redis and its pub/sub do.

`SharedStore` is a node's own way to the one `DiskStore`: it buffers a transaction and has it done whole, as the script of a commit is. A reply can be
lost after the commit took effect; the server can be away; another server can be there when it is back, which never heard of the end; the process
can die before or behind the commit.
"""

from __future__ import annotations

import collections
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from syncd.errors import StoreUnavailable
from syncd.ids import ChannelName, Epoch
from syncd.ports import Appended, AppendRequest, AppendResult
from syncd.ports_bus import BusEvents, BusStatistics
from syncd.ports_state import (
    Committed,
    EntryRead,
    KeyName,
    LookedUp,
    MutationCommit,
    MutationResult,
)
from syncd.store.base import StoreOptions
from syncd.store.redis_keys import BusEvent, BusMessage, RedisNames, encode_message
from syncd.testing.simulation.disk import Disk, DiskStore

__all__ = ["NAMES", "Air", "SharedStore", "SimulatedBus"]

NAMES = RedisNames("sim")
NEVER = -2
"""A version that no entry has."""


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
        self.latency_s = 0.01
        self.lost = 0.0
        """Share of messages that are lost without a word."""
        self.lost_replies = 0.0
        """Share of commits whose reply does not come."""
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

    @property
    def is_away(self) -> bool:
        """Whether nobody can ask anything."""
        return not self.is_there.is_set()

    def calm_down(self) -> None:
        """Lose nothing any more."""
        self.come_back()
        self.lost = self.lost_replies = 0.0
        self.latency_s = 0.005


class SimulatedBus:
    """One node's links to the air. Implements `BusPort`; whatever breaks them ends in a gap."""

    def __init__(self, air: Air, events: BusEvents, number: int) -> None:
        self.number = number
        self._air = air
        self._events = events
        self._wanted: dict[bytes, None] = {}
        self._subscribed: set[bytes] = set()
        self._queue: collections.deque[tuple[float, Callable[[], None]]] = collections.deque()
        self._last_at = 0.0
        self._changed = trio.Event()
        self._is_up = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then it is as if the process had died."""
        self._air.buses.add(self)
        task_status.started()
        try:
            while True:
                await trio.sleep(self._air.rng.expovariate(1 / 0.05))
                if self._air.is_away:
                    continue
                self._is_up = True
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
        self._wake()

    def hear(self, topic: bytes, payload: bytes) -> None:
        """Something was published."""
        if topic in self._subscribed:
            self._later(lambda: self._events.on_messages([(topic, payload)]))

    def _later(self, deliver: Callable[[], None]) -> None:
        delay_s = self._air.latency_s * (0.5 + self._air.rng.random())
        self._last_at = max(self._last_at, trio.current_time() + delay_s)
        self._queue.append((self._last_at, deliver))
        self._wake()

    def _subscribe(self, topics: list[bytes]) -> None:
        def take_effect() -> None:
            wanted = [topic for topic in topics if topic in self._wanted]
            self._subscribed.update(wanted)
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

    def statistics(self) -> BusStatistics:
        """See `BusPort.statistics`; nothing is counted."""
        return BusStatistics(self._is_up, (), len(self._wanted), len(self._subscribed), *[0] * 10)


class SharedStore:
    """A node's way to the store of all. Implements `Store` by what it does not say itself being the store's."""

    blocks = True

    def __init__(self, air: Air, node: str) -> None:
        self._air = air
        self._node = node
        self._begun: list[tuple[Callable[[Any], Any], Any, list[Any]]] = []
        self.armed: str | None = None
        """Where this process dies next: `before commit` or `after commit`."""
        self.on_crash: Callable[[str], None] = lambda _where: None
        self.is_dead = False
        self.unsure_at = -1000.0
        self.rebuilds = _SharedRebuilds(air)

    @property
    def _inner(self) -> DiskStore:
        return self._air.store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found) or name.startswith("acknowledge"):
            return found  # what is acknowledged is noted, and never fails

        def call(*args: Any, **keywords: Any) -> Any:
            self._check()
            return found(*args, **keywords)

        return call

    def look_up(
        self,
        channel: ChannelName,
        keys: Sequence[KeyName],
        *,
        with_dirty: bool = False,
        clients: Sequence[str] = (),
    ) -> LookedUp:
        """See `StateReader.look_up`; this store is not alone."""
        self._check()
        found = self._inner.look_up(channel, keys, clients=clients)
        if with_dirty:
            dirty = self._inner.dirty(channel.partition("/")[0], None, 1_000_000)
            found.dirty = {
                d.key: d.version for d in dirty if d.channel == channel and d.key in keys
            }
        return found

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """See `Store.acknowledge_forwarded`."""
        if epoch in (None, self._inner.load(channel, 0, 0).head.epoch):
            self._inner.acknowledge_forwarded(channel, key, version)

    def make_bus(self, events: BusEvents) -> SimulatedBus:
        """Return the node's links to the air."""
        return SimulatedBus(self._air, events, next(self._air.numbers))

    def statistics(self) -> Any:
        """See `Store.statistics`."""
        return self._inner.statistics()

    def look(self) -> Any:
        """Return the one connection, for the oracle."""
        return self._inner.look()

    def is_unsure(self) -> bool:
        """See `RedisStore.is_unsure`."""
        return trio.current_time() - self.unsure_at < 600.0

    def _check(self) -> None:
        if self.is_dead:
            raise StoreUnavailable("The process is dead.")
        if self._air.is_away:
            raise StoreUnavailable("The server is away.")

    def open(self) -> None:
        """It is open."""

    def close(self) -> None:
        """It stays open for the others."""

    def rollback(self) -> None:
        """See `Store.rollback`."""
        self._begun = []

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        results: list[AppendResult] = []
        self._begun.append((self._append, batch, results))
        return results

    def _append(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        return self._inner.begin(batch)

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        results: list[MutationResult] = []
        self._begun.append((self._decide, group, results))
        return results

    def _decide(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        return self._inner.begin_commit([self._of_this_life(each) for each in group])

    def _of_this_life(self, mutation: MutationCommit) -> MutationCommit:
        """Let what was read in another epoch conflict: a store that is not shared does not look at `MutationCommit.epochs`."""
        reads = [
            attrs.evolve(read, version=NEVER, written_by=None)
            if self._is_of_another_life(read, mutation)
            else read
            for read in mutation.reads
        ]
        return attrs.evolve(mutation, reads=reads)

    def _is_of_another_life(self, read: EntryRead, mutation: MutationCommit) -> bool:
        epoch = mutation.epochs.get(read.channel)
        return epoch is not None and epoch != self._inner.load(read.channel, 0, 0).head.epoch

    def commit(self) -> None:
        """Have it done whole, and told; or not at all; or without an answer."""
        begun, self._begun = self._begun, []
        self._check()
        self._die_if("before commit")
        try:
            for begin, what, results in begun:
                results.extend(begin(what))
            self._inner.commit()
        except BaseException:
            self._inner.rollback()
            raise
        self._tell(begun)
        self._die_if("after commit")
        if self._air.rng.random() < self._air.lost_replies:
            self.unsure_at = trio.current_time()
            raise StoreUnavailable("The answer was lost.", is_unknown=True)

    def _die_if(self, where: str) -> None:
        if self.armed == where:
            self.armed = None
            self.on_crash(where)
            self._check()

    def _tell(self, begun: list[tuple[Callable[[Any], Any], Any, list[Any]]]) -> None:
        told: dict[ChannelName, BusMessage] = {}

        def add(channel: ChannelName, epoch: Any, event: BusEvent) -> None:
            message = told.setdefault(channel, BusMessage(self._node, epoch, []))
            message.events.append(event)  # type: ignore[attr-defined]

        for _, asked, results in begun:
            for request, result in zip(asked, results, strict=True):
                if isinstance(request, AppendRequest):
                    if isinstance(result, Appended) and not result.is_duplicate:
                        add(request.channel, result.epoch, _event(request, result.offset))
                elif isinstance(result, Committed):
                    _add_mutation(request, result, add)
        for channel, message in told.items():
            self._air.tell(NAMES.bus(channel).encode(), encode_message(message))


def _add_mutation(commit: MutationCommit, result: Committed, add: Callable[..., None]) -> None:
    for write, version in zip(commit.writes, result.versions, strict=True):
        epoch = result.positions[write.channel].epoch
        event = BusEvent(version, commit.at_ms, write.key, write.record, write.full)
        add(write.channel, epoch, event)
    for request, appended in zip(commit.events, result.appended, strict=True):
        add(request.channel, appended.epoch, _event(request, appended.offset))


def _event(request: AppendRequest, offset: int) -> BusEvent:
    return BusEvent(offset, request.at_ms, request.key, request.record)


class _SharedRebuilds:
    """Leases that nodes hold against each other; all else is the store's."""

    def __init__(self, air: Air) -> None:
        self._air = air

    def __getattr__(self, name: str) -> Any:
        return getattr(self._air.store.rebuilds, name)

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.hold`."""
        if self._air.is_away:
            raise StoreUnavailable("The server is away.")
        now = trio.current_time()
        held = self._air.leases.get(name)
        if held is not None and held[0] != holder and held[1] > now:
            return False
        self._air.leases[name] = (holder, now + lease_ms / 1000)
        return True
