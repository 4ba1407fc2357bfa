"""What preparing a swap is in any store: steps that are taken in slices, what is missing, and whose preparation it is. No store's own work.

Owner of: how far a preparation is, in memory; after a crash it begins anew. First what was not scanned is found. If that, with what has changed,
is more than is told key by key, the generation is made whole: with entries that are kept though they were not scanned, and with what has changed
meanwhile as it is now. How, each store says in steps of its own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from syncd.ids import ChannelName
from syncd.ports_state import KeyName, TaggedKey
from syncd.store.base import Slice
from syncd.store.rebuilds import RebuildLease, SwapPlan

__all__ = ["MAX_LATE", "MAX_LISTED", "ByLease", "Steps"]

MAX_LISTED = 1_000
"""Changed rows that a generation lists one by one; nobody tells more of them one by one."""

MAX_LATE = 100
"""So many keys that changed meanwhile are left to the swap at most: some ms."""


class Steps(abc.ABC):
    """Prepares one swap."""

    def __init__(self, plan: SwapPlan) -> None:
        """Begin with nothing done."""
        self.is_whole = False
        """Whether more may have changed than is told key by key."""
        self.missing: list[TaggedKey] = []
        """What was not scanned and is to be deleted, one more than is told key by key at most."""
        self._plan = plan
        self._num_missing: dict[ChannelName, int] = {}
        self._among: dict[ChannelName, list[KeyName]] | None = None
        """Where alone something may be missing, if the plan says so."""
        if plan.among is not None:
            self._among = {}
            for channel, key in plan.among:
                self._among.setdefault(channel, []).append(key)
        self._steps = self._run()

    @abc.abstractmethod
    def _run(self) -> Iterator[None]:
        """Stop after each step."""

    @property
    def lists_missing(self) -> bool:
        """Whether `missing` has all that is missing."""
        return sum(self._num_missing.values()) == len(self.missing)

    @property
    def keeps_unscanned(self) -> bool:
        """Whether there may be entries that stay though they were not scanned."""
        return self._among is not None or not self._plan.deletes_missing

    def go_on(self, time_slice: Slice) -> bool:
        """Prepare for a slice; returns whether there is more to do."""
        while not time_slice.is_over():
            if next(self._steps, self) is self:
                return False
        return True

    def _finish_steps(self) -> None:
        for _ in self._steps:
            pass

    def _note_missing(self, channel: ChannelName, keys: Sequence[KeyName]) -> None:
        if keys:
            self._num_missing[channel] = self._num_missing.get(channel, 0) + len(keys)
            room = self._plan.max_events + 1 - len(self.missing)
            self.missing += [(channel, key) for key in keys[: max(room, 0)]]

    def _kept(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[KeyName]:
        """Of entries that were not scanned, those that stay."""
        gone: frozenset[KeyName] = frozenset()
        if self._plan.deletes_missing and self._among is not None:
            gone = frozenset(self._among.get(channel, ()))
        return [key for key in keys if key not in gone]


P = TypeVar("P")


class ByLease(Generic[P]):
    """The preparation under way for each collection: another lease begins its own."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, P]] = {}

    def of(self, lease: RebuildLease, make: Callable[[], P]) -> P:
        """Return a lease's preparation, made if there is none."""
        token, found = self._found.get(lease.collection, (0, None))
        if found is None or token != lease.token:
            found = make()
            self._found[lease.collection] = (lease.token, found)
        return found

    def under_way(self, collection: str) -> P | None:
        """Return the preparation for a collection, whoever's it is."""
        return self._found.get(collection, (0, None))[1]

    def forget(self, collection: str) -> None:
        """It is over, or failed: what comes begins anew."""
        self._found.pop(collection, None)
