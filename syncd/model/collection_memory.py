"""What a collection has in memory: entries, how fresh they are, and exact counts.

Owner: the cache-owner, one for each collection. Pure: time is given, in seconds of one clock. An entry that does not exist is kept like
others, with no value, so that asking again costs nothing. Memory only forgets; what entries *are* the store knows (or, for volatile
collections, nobody else).
"""

from __future__ import annotations

import enum
import math

import attrs

from syncd.model.lru import Lru
from syncd.model.recording import Place

__all__ = ["CachedEntry", "CollectionMemory", "Freshness", "Limits"]

OBJECT_BYTES = 260
"""Of a `CachedEntry`, its key pair and the headers of its value and tags, beside what `Lru` charges (measured in the tests)."""


class Freshness(enum.Enum):
    """What an entry in memory is worth."""

    FRESH = "fresh"
    STALE = "stale"
    """Past its lifetime, inside its stale window: served while it is loaded anew."""
    DEAD = "dead"
    """To be loaded anew before it is served."""


@attrs.define(eq=False)
class CachedEntry:
    """One entry in memory."""

    version: int
    """0: there never was one; of a deleted entry the deletion's, if known."""
    value: bytes | None
    """Encoded msgpack; None: there is no such entry."""
    tags: tuple[str, ...] = ()
    fresh_until: float = math.inf
    writer: str | None = None
    """Client whose mutation made it so."""
    num_expiries: int = 0
    """Kept by the memory: how often all was expired before it came."""


@attrs.define
class Limits:
    """What may change while a node runs."""

    max_entries: int
    max_bytes: int
    ttl_s: float | None
    stale_s: float


class CollectionMemory:
    """Entries of one collection, the least recently used first to go."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._expired_at: list[float] = []
        """When all was expired. Entries find out when they are looked at: going through all of them would hold the loop."""
        self.hits = self.negative_hits = self.stale_hits = self.misses = 0
        self._lru: Lru[Place, CachedEntry] = Lru(
            max_entries=limits.max_entries, max_bytes=limits.max_bytes
        )

    def __len__(self) -> int:
        return len(self._lru)

    @property
    def num_bytes(self) -> int:
        """Charged for entries held."""
        return self._lru.num_bytes

    @property
    def evictions(self) -> int:
        """Entries that went to hold a limit."""
        return self._lru.evictions

    def get(self, place: Place, now: float) -> CachedEntry | None:
        """Return an entry and make it the newest; no count."""
        found = self._lru.hit(place, now, None)
        if not isinstance(found, CachedEntry):
            return None
        return found if found.num_expiries == len(self._expired_at) else self._expired(found)

    def peek(self, place: Place, now: float) -> CachedEntry | None:
        """Return an entry and change nothing."""
        found = self._lru.peek(place, now)[1]
        if found is None or found.num_expiries == len(self._expired_at):
            return found
        return self._expired(found)

    def _expired(self, entry: CachedEntry) -> CachedEntry:
        """End the freshness of an entry that was there when all was expired."""
        entry.fresh_until = min(entry.fresh_until, self._expired_at[entry.num_expiries])
        entry.num_expiries = len(self._expired_at)
        return entry

    def look_up(self, place: Place, now: float) -> CachedEntry | None:
        """Return an entry for somebody who asked for it: counted."""
        entry = self.get(place, now)
        freshness = None if entry is None else self.freshness(entry, now)
        if entry is None or freshness is Freshness.DEAD:
            self.misses += 1
        elif freshness is Freshness.STALE:
            self.stale_hits += 1
        else:
            self.hits += 1
            if entry.value is None:
                self.negative_hits += 1
        return entry

    def freshness(self, entry: CachedEntry, now: float) -> Freshness:
        """Return what an entry is worth now. What is known not to exist is never served stale."""
        if now < entry.fresh_until:
            return Freshness.FRESH
        if entry.value is not None and now < entry.fresh_until + self.limits.stale_s:
            return Freshness.STALE
        return Freshness.DEAD

    def keep(self, place: Place, entry: CachedEntry, now: float) -> None:
        """Keep an entry as the newest; the least recently used make room."""
        value, tags = entry.value, entry.tags
        size = OBJECT_BYTES + len(place[1])
        if value is not None:
            size += len(value)
        entry.num_expiries = len(self._expired_at)
        if not tags and self._lru.renew(place, entry, size):
            return
        for tag in tags:
            size += len(tag)
        self._lru.put(place, entry, size, now, tags=tags)

    def expire(self, place: Place, now: float) -> None:
        """The entry may have changed at its source: it is fresh no more."""
        entry = self.peek(place, now)
        if entry is not None:
            entry.fresh_until = min(entry.fresh_until, now)

    def expire_all(self, now: float) -> None:
        """Any entry may have changed at its source. Returns at once, however many there are."""
        self._expired_at.append(now)

    def forget(self, place: Place, now: float) -> bool:
        """Drop an entry; tell whether it was there."""
        return self._lru.remove(place, now)

    def clear(self) -> int:
        """Drop everything; return how many entries there were."""
        return self._lru.clear()

    def places(self) -> list[Place]:
        """Return where entries in memory lie, the least recently used first."""
        return self._lru.keys()

    def scan(self, cursor: int, max_places: int) -> tuple[list[Place], int]:
        """Return some places and the cursor for the next ones; see `Lru.scan`."""
        return self._lru.scan(cursor, max_places)

    def newest(self, max_places: int) -> list[Place]:
        """Return where the most recently used entries lie, the newest first."""
        return self._lru.newest_keys(max_places)

    def tagged(self, tag: str) -> list[Place]:
        """Return where the entries in memory that have a tag lie."""
        return self._lru.tagged(tag)

    def change_limits(self, limits: Limits, now: float) -> None:
        """Replace all limits; what is too much goes at once."""
        self.limits = limits
        self._lru.set_limits(max_entries=limits.max_entries, max_bytes=limits.max_bytes, now=now)
