"""A simulated node's own way to the one `DiskStore` that all share.

It buffers a transaction and has it done whole, as the script of a commit is, and told over the air. A reply can be lost after the commit took
effect, or before it does; the server can be away; the process can die before or behind the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from syncd.errors import StoreUnavailable
from syncd.ids import ChannelName, Epoch
from syncd.ports_bus import BusEvents
from syncd.ports_log import Appended, AppendRequest, AppendResult
from syncd.ports_state import (
    Committed,
    EntryRead,
    KeyName,
    LookedUp,
    MutationCommit,
    MutationResult,
    OutOfOrder,
)
from syncd.store.redis_keys import BusEvent, BusMessage, RedisNames, encode_message
from syncd.testing.simulation.air import Air, SimulatedBus
from syncd.testing.simulation.disk import DiskStore

__all__ = ["NAMES", "SharedStore"]

NAMES = RedisNames("sim")
NEVER = -2
"""A version that no entry has."""
NO_MID = 2**52
"""A number that is nobody's turn."""

_Begun = tuple[Callable[[Any], Any], Any, list[Any]]
"""What is to be done, with what, and where its results belong."""


class SharedStore:
    """A node's way to the store of all. Implements `Store` by what it does not say itself being the store's."""

    blocks = True

    def __init__(self, air: Air, node: str) -> None:
        self._air = air
        self._node = node
        self._begun: list[_Begun] = []
        self.armed: str | None = None
        """Where this process dies next: `before commit` or `after commit`."""
        self.on_crash: Callable[[str], None] = lambda _where: None
        self.is_dead = False
        self.bus: SimulatedBus | None = None
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

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """See `Store.acknowledge`; this store has lives."""
        if era in ("", self.era()):
            self._inner.acknowledge(client, upto)

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """See `Store.acknowledge_forwarded`."""
        if epoch in (None, self._inner.load(channel, 0, 0).head.epoch):
            self._inner.acknowledge_forwarded(channel, key, version)

    def make_bus(self, events: BusEvents) -> SimulatedBus:
        """Return the node's links to the air."""
        self.bus = SimulatedBus(self._air, events, next(self._air.numbers))
        return self.bus

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
        results = self._inner.begin_commit([self._of_this_life(each) for each in group])
        are_old = [each.era not in ("", self.era()) for each in group]
        return [
            OutOfOrder(0) if is_old else result
            for result, is_old in zip(results, are_old, strict=True)
        ]

    def era(self) -> str:
        """See `StateReader.era`."""
        return f"era {self._air.num_lives}"

    def _of_this_life(self, mutation: MutationCommit) -> MutationCommit:
        """Let what was read in another epoch conflict: a store that is not shared does not look at `MutationCommit.epochs`."""
        reads = [
            attrs.evolve(read, version=NEVER, written_by=None)
            if self._is_of_another_life(read, mutation)
            else read
            for read in mutation.reads
        ]
        mid = mutation.mid if mutation.era in ("", self.era()) else NO_MID
        return attrs.evolve(mutation, reads=reads, mid=mid)

    def _is_of_another_life(self, read: EntryRead, mutation: MutationCommit) -> bool:
        epoch = mutation.epochs.get(read.channel)
        return epoch is not None and epoch != self._inner.load(read.channel, 0, 0).head.epoch

    def commit(self) -> None:
        """Have it done whole, and told; or not at all; or without an answer."""
        begun, self._begun = self._begun, []
        self._check()
        self._die_if("before commit")
        if self._air.late and self._air.rng.random() < self._air.late:
            self._air.do_late(partial(self._take_effect, begun))
            self._give_up()
        self._take_effect(begun)
        self._die_if("after commit")
        if self._air.rng.random() < self._air.lost_replies:
            self._give_up()

    def _take_effect(self, begun: list[_Begun]) -> None:
        try:
            for begin, what, results in begun:
                results.extend(begin(what))
            self._inner.commit()
        except BaseException:
            self._inner.rollback()
            raise
        self._tell(begun)

    def _give_up(self) -> None:
        """Nobody here knows whether it was done, or will be."""
        self.unsure_at = trio.current_time()
        raise StoreUnavailable("The answer was lost.", is_unknown=True)

    def _die_if(self, where: str) -> None:
        if self.armed == where:
            self.armed = None
            self.on_crash(where)
            self._check()

    def _tell(self, begun: list[_Begun]) -> None:
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
