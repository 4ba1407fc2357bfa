"""Sorted places of entries in memory, and the part of them that a collection has. Used by `MemoryState`."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

from syncd.ports_state import DirtyKey, TaggedKey
from syncd.store.memory_log import Undo

__all__ = ["DirtyPlaces", "insert_place", "places_inside", "remove_place"]


def insert_place(places: list[TaggedKey], place: TaggedKey) -> None:
    """Put a place where it belongs; it is not there yet."""
    bisect.insort(places, place)


def remove_place(places: list[TaggedKey], place: TaggedKey) -> None:
    """Take a place out; it is there."""
    del places[bisect.bisect_left(places, place)]


def places_inside(
    places: list[TaggedKey], collection: str, after: TaggedKey | None
) -> Iterator[TaggedKey]:
    """Yield the places of `<collection>` and `<collection>/...` after `after`, in order."""
    start = 0 if after is None else bisect.bisect_right(places, after)
    inside = f"{collection}/"
    for place in itertools.islice(places, start, None):
        if place[0] == collection or place[0].startswith(inside):
            yield place


class DirtyPlaces:
    """Dirty keys with their versions."""

    def __init__(self, undo: list[Undo]) -> None:
        self._undo = undo
        self._versions: dict[TaggedKey, int] = {}
        self._order: list[TaggedKey] = []

    def __contains__(self, place: TaggedKey) -> bool:
        return place in self._versions

    def put(self, place: TaggedKey, version: int) -> None:
        """Let a key be dirty, in the open transaction."""
        old = self._versions.get(place)
        self._set(place, version)
        self._undo.append(lambda: self._set(place, old))

    def acknowledge(self, place: TaggedKey, version: int) -> None:
        """See `Store.acknowledge_forwarded`."""
        if self._versions.get(place) == version:
            self._set(place, None)

    def read(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """See `StateReader.dirty`."""
        inside = itertools.islice(places_inside(self._order, collection, after), limit)
        return [DirtyKey(*place, self._versions[place]) for place in inside]

    def _set(self, place: TaggedKey, version: int | None) -> None:
        if version is None:
            remove_place(self._order, place)
            del self._versions[place]
            return
        if place not in self._versions:
            insert_place(self._order, place)
        self._versions[place] = version
