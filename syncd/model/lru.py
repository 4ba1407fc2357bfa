"""The memory of a cache: least recently used goes first, limits by entries and by bytes, lifetimes, tags, and exact counts.

Pure and not thread-safe. Used by `syncd.cache.LRUCache` (which adds a lock and a clock) and by actors, which own one each. Callers
hand down the time, in seconds of one clock that never goes back. How entries are kept: `lru_columns`.

Invariants, held to by a stateful test:
- `num_bytes` is the sum of all charges, between calls never above `max_bytes`, and `len` never above `max_entries`.
- insertions = evictions + expirations + removals + `len`.
- No call does work for more than `EXPIRED_PER_CALL` expired entries besides those that must go to hold a limit.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable
from math import inf
from typing import Final, Generic, TypeVar

from syncd.model.expiry_wheel import LATEST
from syncd.model.lru_columns import NUM_TABLES, LruColumns
from syncd.model.lru_facts import (
    ABSENT,
    UNLIMITED,
    Absent,
    LruStatistics,
    State,
    checked_limit,
    wrong_lifetime,
)
from syncd.model.tag_index import TAG_BYTES

__all__ = ["ENTRY_BYTES", "EXPIRED_PER_CALL", "Lru"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

ENTRY_BYTES = 190
"""Charged for an entry besides its key and value: columns, links, its place in a table with the spare room. A test holds it to be enough."""

EXPIRED_PER_CALL = 16
"""Expired entries that one call clears away: about 10 us, and far more than the one entry that a call can add."""

_COUNTS = (
    "evictions", "expirations", "hits", "insertions", "misses", "negative_hits", "num_bytes", "num_entries",
    "oversized", "removals", "replacements", "stale_hits",
)  # fmt: skip


class Lru(LruColumns[K], Generic[K, V]):
    """Entries by key, the least recently used first to go.

    Args:
        max_entries: At most so many; None for no limit.
        max_bytes: At most so many bytes of keys, values and what it takes to keep them; None for no limit.
        chance: Uniform in [0, 1); spreads lifetimes that are given with jitter.
    """

    __slots__ = (
        "_chance", "_max_bytes", "_max_entries", "evictions", "expirations", "hits", "insertions", "misses", "negative_hits",
        "oversized", "removals", "replacements", "stale_hits",
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self._chance = chance
        self._max_entries, self._max_bytes = checked_limit(max_entries), checked_limit(max_bytes)
        self.hits = self.negative_hits = self.stale_hits = self.misses = 0
        self.insertions = self.replacements = self.oversized = 0
        self.evictions = self.expirations = self.removals = 0

    # ---------------------------------------------------------------------------------------- reading

    def hit(self, key: K, now: float, default: D) -> V | Absent | D:
        """Return a fresh value (or ABSENT), count the hit and make it the newest; else the default, and count nothing.

        The fast half of `look`: callers that get the default call that.
        """
        if now >= self._wheel.next_due:
            self.sweep(now)
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        if slot is None or now >= self._fresh[slot]:
            return default
        self.hits += 1
        older = self._older
        last = older[0]
        if slot != last:
            newer = self._newer
            before, after = older[slot], newer[slot]
            newer[before] = after
            older[after] = before
            older[slot] = last
            newer[last] = slot
            newer[slot] = 0
            older[0] = slot
        value: V | Absent = self._values[slot]
        if value is ABSENT:
            self.negative_hits += 1
        return value

    def look(self, key: K, now: float) -> tuple[State, V | None]:
        """Look a key up: its state, and its value if fresh or stale. Counts the lookup; what is found becomes the newest."""
        value = self.hit(key, now, _NOTHING)
        if value is ABSENT:
            return State.ABSENT, None
        if not isinstance(value, _Nothing):
            return State.FRESH, value
        slot = self._alive(key, now)
        if slot is None:
            self.misses += 1
            return State.MISS, None
        self.stale_hits += 1
        self._make_newest(slot)
        return State.STALE, self._values[slot]

    def peek(self, key: K, now: float) -> tuple[State, V | None]:
        """Look a key up and change nothing: no counts, no order."""
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        if slot is None or now >= self._dead[slot]:
            return State.MISS, None
        if self._values[slot] is ABSENT:
            return State.ABSENT, None
        return State.FRESH if now < self._fresh[slot] else State.STALE, self._values[slot]

    def statistics(self) -> LruStatistics:
        """All counts at this moment."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return LruStatistics(
            max_entries=None if self._max_entries == UNLIMITED else self._max_entries,
            max_bytes=None if self._max_bytes == UNLIMITED else self._max_bytes,
            **counts,
        )

    # ---------------------------------------------------------------------------------------- writing

    def put(  # noqa: C901, PLR0912, PLR0915 - the hot path stays in one piece, each call more costs 60 ns
        self,
        key: K,
        value: V | Absent,
        size_bytes: int,
        now: float,
        ttl_s: float = inf,
        stale_s: float = 0.0,
        jitter: float = 0.0,
        tags: Iterable[str] = (),
    ) -> bool:
        """Keep a value as the newest; the least recently used make room.

        Args:
            size_bytes: What key and value hold; `ENTRY_BYTES` and the tags are added here.
            ttl_s: Fresh for so long; above 0.
            stale_s: Usable as stale for so long after that; absence never is.
            jitter: The part of `ttl_s` that chance may take away, in [0, 1): what came together does not die together.

        Returns:
            False if it is larger than the limit: then nothing is kept under this key.
        """
        if now >= self._wheel.next_due:
            self.sweep(now)
        if not (ttl_s > 0 and stale_s >= 0):
            raise wrong_lifetime(ttl_s, stale_s)
        if tags:
            tags = tuple(tags)
            size_bytes += TAG_BYTES * len(tags)
        size_bytes += ENTRY_BYTES
        if size_bytes > self._max_bytes:
            self.oversized += 1
            self.remove(key, now)
            return False
        if jitter and self._chance is not None:
            ttl_s *= 1.0 - jitter * self._chance()
        fresh_until = dead_at = now + ttl_s
        if stale_s and value is not ABSENT:
            dead_at += stale_s
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        if slot is None:
            slot = self._enter(key, now)
        else:
            if now < self._dead[slot]:
                self.replacements += 1
            else:
                self.expirations += 1
                self.insertions += 1
            if self._tags.tags_of:
                self._tags.drop(key)
        older, newer = self._older, self._newer
        if slot != (last := older[0]):
            before, after = older[slot], newer[slot]
            newer[before], older[after] = after, before
            older[slot], newer[last], newer[slot], older[0] = last, slot, 0, slot
        _former = self._values[slot]  # freed on return: its end may run code that comes back
        self.num_bytes += size_bytes - self._sizes[slot]
        self._values[slot] = value
        self._sizes[slot] = size_bytes
        self._fresh[slot], self._dead[slot] = fresh_until, dead_at
        if dead_at != inf and self._wheel.dues[slot] > dead_at + (dead_at - now) * LATEST:
            self._wheel.link(slot, dead_at, now)
        if tags:
            self._tags.add(key, tags)
        if self.num_bytes > self._max_bytes or self.num_entries > self._max_entries:
            self._make_room(now)
        return True

    def renew(self, key: K, value: V, size_bytes: int) -> bool:
        """Give an entry without lifetime and tags another value, and make it the newest.

        The fast half of `put`: callers that get False, upon which nothing has changed, call that.

        Args:
            value: Not ABSENT.
            size_bytes: As for `put`.
        """
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        if slot is None or self._fresh[slot] != inf or self._tags.tags_of:
            return False
        sizes = self._sizes
        size_bytes += ENTRY_BYTES
        num_bytes = self.num_bytes + size_bytes - sizes[slot]
        if num_bytes > self._max_bytes:
            return False
        self.num_bytes = num_bytes
        self.replacements += 1
        older, newer = self._older, self._newer
        if slot != (last := older[0]):
            before, after = older[slot], newer[slot]
            newer[before], older[after] = after, before
            older[slot], newer[last], newer[slot], older[0] = last, slot, 0, slot
        sizes[slot] = size_bytes
        values = self._values
        _former = values[slot]  # freed on return: its end may run code that comes back
        values[slot] = value
        return True

    def remove(self, key: K, now: float) -> bool:
        """Drop a key. Returns whether it was there, fresh or stale."""
        slot = self._alive(key, now)
        if slot is None:
            return False
        self.removals += 1
        self._drop(slot)
        return True

    def remove_tag(self, tag: str, now: float) -> list[K]:
        """Drop all keys with a tag and return those that went alive. Takes time in proportion to their number."""
        return [key for key in self._tags.keys(tag) if self.remove(key, now)]

    def make_stale(self, key: K, now: float, stale_s: float) -> bool:
        """End a key's freshness now; it is usable as stale for so long, if it was to live that long. Absence goes.

        Returns:
            Whether it is stale now; False for one that is not held or absent.
        """
        slot = self._alive(key, now)
        if slot is None:
            return False
        if stale_s <= 0 or self._values[slot] is ABSENT:
            self.remove(key, now)
            return False
        self._fresh[slot] = min(self._fresh[slot], now)
        self._set_dead(slot, min(self._dead[slot], now + stale_s), now)
        return True

    def clear(self) -> int:
        """Drop everything; return how many entries that were. Takes time in proportion to their number."""
        num_entries = self.num_entries
        self.removals += num_entries
        self._empty()
        return num_entries

    def set_limits(self, *, max_entries: int | None, max_bytes: int | None, now: float) -> None:
        """Replace both limits. What is too much goes at once, in time proportional to its number."""
        self._max_entries, self._max_bytes = checked_limit(max_entries), checked_limit(max_bytes)
        self.sweep(now)
        self._make_room(now)

    def sweep(self, now: float, max_entries: int = EXPIRED_PER_CALL) -> int:
        """Clear away expired entries, looking at no more than so many; return how many there were."""
        num_dead = 0
        for slot in self._wheel.take_due(now, max_entries):
            dead_at = self._dead[slot]
            if dead_at <= now:
                self.expirations += 1
                num_dead += 1
                self._drop(slot)
            elif dead_at != inf:
                self._wheel.link(slot, dead_at, now)
        return num_dead

    # ---------------------------------------------------------------------------------------- inside

    def _enter(self, key: K, now: float) -> int:
        """Give a new key a slot: a free one, or, in a full cache, the oldest entry's, in half the steps of `_make_room`."""
        self.insertions += 1
        gone = None
        if self.num_entries < self._max_entries or now >= self._wheel.next_due:
            slot = self._take_slot()
        else:
            slot = self._newer[0]
            gone = self._keys[slot]
            self._forget(gone)
            if now < self._dead[slot]:
                self.evictions += 1
            else:
                self.expirations += 1
        self._tables[hash(key) % NUM_TABLES][key] = slot
        self._keys[slot] = key
        del gone  # last, as its end may run code that comes back here
        return slot

    def _alive(self, key: K, now: float) -> int | None:
        """The slot of a fresh or stale key; a dead one is dropped."""
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        if slot is None or now < self._dead[slot]:
            return slot
        self.expirations += 1
        self._drop(slot)
        return None

    def _make_room(self, now: float) -> None:
        """Drop expired entries that are due first, then the least recently used, until the limits hold."""
        while self.num_bytes > self._max_bytes or self.num_entries > self._max_entries:
            if self._wheel.next_due <= now and self.sweep(now):
                continue
            oldest = self._newer[0]
            if now >= self._dead[oldest]:
                self.expirations += 1
            else:
                self.evictions += 1
            self._drop(oldest)


class _Nothing(enum.Enum):
    NOTHING = "nothing"


_NOTHING: Final = _Nothing.NOTHING
