"""The end of a rebuild: the store swaps its generation in, watchers are told, memory follows.

Owner of: swaps that the store was asked for. As with a group, events go to the broadcaster in the store's callback, in the order of the
commits; memory follows in the actor's turn. Invariant (REBUILD): the store's one transaction is what readers see the old or the new of.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from syncd.actors.cache_owner.committing import Item, write_memory
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.reloading import Reloading
from syncd.errors import SyncdError
from syncd.ports_collections import CommittedEvent, DeliverCommitted, RenewChannel
from syncd.ports_state import Committed, KeyName, MutationCommit, StateStoreHandle
from syncd.store.rebuilds import RebuildStore, SwapGeneration, Swapped, SwapPlan
from syncd.wire.encode_entries import entry_record, invalidation_record

__all__ = ["OwnersStore", "RebuildStoreHandle", "Swapping"]

MAX_EVENTS = 1_000
"""Changes of a swap that are told one by one. With more, watchers are sent to a new snapshot."""

PREPARE_S = 0.005
"""Of the store's time at once, as its slices of reads are."""

T = TypeVar("T")


class RebuildStoreHandle(Protocol):
    """The store actor, as rebuilds see it."""

    def rebuild(
        self, work: Callable[[RebuildStore], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Perform something of a rebuild; `done` comes later and must not block."""


class OwnersStore(StateStoreHandle, RebuildStoreHandle, Protocol):
    """What the cache-owner asks of the store actor."""


class Swapping:
    """Carries out swaps."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        reloading: Reloading,
        store: RebuildStoreHandle,
        *,
        deliver: Callable[[DeliverCommitted | RenewChannel], None],
        call: Callable[[Callable[[], None]], None],
        wall_ms: Callable[[], int],
    ) -> None:
        """Hold what it works with; `call` has something done in the actor's turn."""
        self._holdings = holdings
        self._fetching = fetching
        self._reloading = reloading
        self._store = store
        self._deliver = deliver
        self._call = call
        self._wall_ms = wall_ms
        self._asked: set[SwapGeneration] = set()

    def swap(self, message: SwapGeneration) -> None:
        """Have the store prepare and swap, then tell and follow."""
        self._asked.add(message)
        self._prepare(message)

    def _prepare(self, message: SwapGeneration) -> None:
        """Have a slice of the swap's work done, as long as there is any: others' reads and commits go between."""
        plan, lease = _plan(message, self._wall_ms()), message.lease

        def done(has_more: bool | SyncdError | None) -> None:  # noqa: FBT001 - as the store answers
            if message not in self._asked:
                return
            if isinstance(has_more, SyncdError) or has_more is None:
                self._asked.discard(message)
                message.done(has_more)
            elif has_more:
                self._prepare(message)
            else:
                self._swap(message)

        self._store.rebuild(lambda rebuilds: rebuilds.prepare(lease, plan, PREPARE_S), done)

    def _swap(self, message: SwapGeneration) -> None:
        at_ms, lease = self._wall_ms(), message.lease
        plan = _plan(message, at_ms)

        def done(answer: Swapped | SyncdError | None) -> None:
            if isinstance(answer, Swapped):
                self._tell(answer, at_ms)
            self._call(lambda: self._follow(message, answer, at_ms))

        self._store.rebuild(lambda rebuilds: rebuilds.swap(lease, plan), done)

    def _tell(self, swapped: Swapped, at_ms: int) -> None:
        """Let watchers know: of each change, or that they are to come again."""
        if not swapped.writes:
            for channel in swapped.positions:
                self._deliver(RenewChannel(channel))
            return
        epochs = {channel: position.epoch for channel, position in swapped.positions.items()}
        events = [
            CommittedEvent(w.channel, epochs[w.channel], version, at_ms, w.key, w.record)
            for w, version in zip(swapped.writes, swapped.versions, strict=True)
        ]
        self._deliver(DeliverCommitted(events))

    def _follow(
        self, message: SwapGeneration, answer: Swapped | SyncdError | None, at_ms: int
    ) -> None:
        """Bring memory to what the swap made so."""
        self._asked.discard(message)
        if isinstance(answer, Swapped):
            holding = self._holdings.holding(message.lease.collection)
            if answer.writes:
                self._follow_each(holding, answer, at_ms, is_old=message.was_invalidated)
            elif answer.num_changed:
                self._follow_whole(holding, answer, is_old=message.was_invalidated)
        message.done(answer)

    def _follow_each(self, holding: Holding, swapped: Swapped, at_ms: int, *, is_old: bool) -> None:
        writes = list(swapped.writes)
        result = Committed(list(swapped.versions), dict(swapped.positions))
        item = Item(MutationCommit(None, 0, [], writes, b"", at_ms))
        write_memory(self._holdings, item, result, is_old=is_old)
        self._holdings.committed_alone(result.positions)
        if is_old:
            keys: list[KeyName] = [write.key for write in writes]
            self._reloading.reload(holding, keys, (), ())

    def _follow_whole(self, holding: Holding, swapped: Swapped, *, is_old: bool) -> None:
        """Forget all of a collection: the store has what is so, dirty entries included."""
        holding.memory.clear()
        self._holdings.take_back(holding, ())
        self._fetching.changed_all(lambda channel: channel.partition("/")[0] == holding.name)
        for channel, position in swapped.positions.items():
            self._holdings.forget_channel(channel, position)
        if is_old:
            self._reloading.doubt(holding)

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits; the store goes on, and what it then brings is told and in no memory."""
        asked, self._asked = self._asked, set()
        for message in asked:
            message.done(error)


def _plan(message: SwapGeneration, at_ms: int) -> SwapPlan:
    return SwapPlan(
        at_ms=at_ms,
        deletes_missing=message.deletes_missing,
        max_events=MAX_EVENTS,
        entry_record=lambda key, value: entry_record(key, at_ms, value=value),
        whole_record=invalidation_record(at_ms),
        among=message.among,
    )
