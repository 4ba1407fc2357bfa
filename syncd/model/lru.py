"""The memory of a cache: least recently used goes first, limits by entries and by bytes, lifetimes, tags, and exact counts.

Pure and not thread-safe. Used by `syncd.cache.LRUCache` (which adds a lock and a clock) and by actors, which own one each. Callers
hand down the time, in seconds of one clock that never goes back.

Entries live in columns, lists indexed by *slot*: no object per entry, so the garbage collector has nothing to walk, and order is a
linked list through two of them (slot 0 is its head), so a hit costs six stores. Keys find their slot through 64 small tables
instead of a large one, because a table of a million keys stands still for 40 ms when it grows (an `OrderedDict` for 300).

Invariants, held to by a stateful test:
- `num_bytes` is the sum of all charges and never above `max_bytes` between calls; `len` never above `max_entries`.
- insertions = evictions + expirations + removals + `len`.
- No call does work for more than `EXPIRED_PER_CALL` expired entries besides those that must go to hold a limit.
"""

from __future__ import annotations

import enum
import math
import sys
from array import array
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Generic, TypeVar

from syncd.model.expiry_wheel import ExpiryWheel
from syncd.model.lru_facts import ABSENT, Absent, LruStatistics, State
from syncd.model.tag_index import TAG_BYTES, TagIndex

__all__ = ["ENTRY_BYTES", "EXPIRED_PER_CALL", "Lru"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

ENTRY_BYTES = 170
"""Charged for an entry besides its key and value: columns, links, its place in a table with the spare room. A test holds it to be enough."""

EXPIRED_PER_CALL = 16
"""Expired entries that one call clears away: about 10 us, and far more than the one entry that a call can add."""

_TABLES = 64
_MASK = _TABLES - 1
_MIN_GROWTH, _MAX_GROWTH = 16, 1024
_UNLIMITED = sys.maxsize
_COUNTS = (
    "evictions", "expirations", "hits", "insertions", "misses", "negative_hits", "num_bytes", "num_entries",
    "oversized", "removals", "replacements", "stale_hits",
)  # fmt: skip


class Lru(Generic[K, V]):
    """Entries by key, the least recently used first to go.

    Args:
        max_entries: At most so many; None for no limit.
        max_bytes: At most so many bytes of keys, values and what it takes to keep them; None for no limit.
        chance: Uniform in [0, 1); spreads lifetimes that are given with jitter.
    """

    __slots__ = (
        "_chance", "_dead", "_free", "_fresh", "_keys", "_max_bytes", "_max_entries", "_newer", "_older",
        "_sizes", "_tables", "_tags", "_values", "_wheel", *_COUNTS,
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        chance: Callable[[], float] | None = None,
    ) -> None:
        self._chance = chance
        self._max_entries, self._max_bytes = _checked(max_entries), _checked(max_bytes)
        self.hits = self.negative_hits = self.stale_hits = self.misses = 0
        self.insertions = self.replacements = self.oversized = 0
        self.evictions = self.expirations = self.removals = 0
        self._empty()

    def _empty(self) -> None:
        """Begin with nothing but the head of the order."""
        self.num_entries = self.num_bytes = 0
        self._tables: list[dict[K, int]] = [{} for _ in range(_TABLES)]
        self._keys: list[Any] = [None]
        self._values: list[Any] = [None]
        self._sizes = array("q", [0])
        self._fresh = array("d", [0.0])
        self._dead = array("d", [0.0])
        self._older = [0]
        self._newer = [0]
        self._free: list[int] = []
        self._tags: TagIndex[K] = TagIndex()
        self._wheel = ExpiryWheel()
        self._wheel.grow(1)

    def __len__(self) -> int:
        """Entries held, with those that are dead and not cleared away yet."""
        return self.num_entries

    # ---------------------------------------------------------------------------------------- reading

    def hit(self, key: K, now: float, default: D) -> V | Absent | D:
        """Return a fresh value (or ABSENT), count the hit and make it the newest; else the default, and count nothing.

        The fast half of `look`: callers that get the default call that.
        """
        if now >= self._wheel.next_due:
            self.sweep(now)
        slot = self._tables[hash(key) & _MASK].get(key)
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
        slot = self._tables[hash(key) & _MASK].get(key)
        if slot is None or now >= self._dead[slot]:
            return State.MISS, None
        if self._values[slot] is ABSENT:
            return State.ABSENT, None
        return State.FRESH if now < self._fresh[slot] else State.STALE, self._values[slot]

    def keys(self) -> list[K]:
        """All keys held, least recently used first."""
        found: list[K] = []
        slot = self._newer[0]
        while slot:
            found.append(self._keys[slot])
            slot = self._newer[slot]
        return found

    def tags(self, key: K) -> tuple[str, ...]:
        """The tags a key was put with."""
        return self._tags.tags_of.get(key, ())

    def statistics(self) -> LruStatistics:
        """All counts at this moment."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return LruStatistics(
            max_entries=None if self._max_entries == _UNLIMITED else self._max_entries,
            max_bytes=None if self._max_bytes == _UNLIMITED else self._max_bytes,
            **counts,
        )

    # ---------------------------------------------------------------------------------------- writing

    def put(  # noqa: C901, PLR0915 - the hot path stays in one piece, each call more costs 60 ns
        self,
        key: K,
        value: V | Absent,
        size_bytes: int,
        now: float,
        *,
        ttl_s: float = math.inf,
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
            raise ValueError(
                f"lifetime {ttl_s} s must be above 0, stale window {stale_s} s not below"
            )
        if tags:
            tags = tuple(tags)
            size_bytes += TAG_BYTES * len(tags)
        size_bytes += ENTRY_BYTES
        if size_bytes > self._max_bytes:
            self.oversized += 1
            self.remove(key, now)
            return False
        table = self._tables[hash(key) & _MASK]
        slot = table.get(key)
        if slot is None:
            slot = self._add(key, table)
            former, former_dead_at = None, math.inf
        else:
            former = self._values[slot]  # freed last, as its end may run code that comes back here
            former_dead_at = self._dead[slot]
            self._prepare_reuse(slot, key, is_dead=now >= former_dead_at)
        self._values[slot] = value
        self._sizes[slot] = size_bytes
        self.num_bytes += size_bytes
        if ttl_s == math.inf:
            fresh_until = dead_at = math.inf
        else:
            spread = 1.0 - jitter * self._chance() if jitter and self._chance is not None else 1.0
            fresh_until = now + ttl_s * spread
            if value is ABSENT:
                stale_s = 0.0
            dead_at = fresh_until + stale_s
        self._fresh[slot] = fresh_until
        self._dead[slot] = dead_at
        if dead_at != math.inf:
            move = self._wheel.link if former_dead_at == math.inf else self._wheel.relink
            move(slot, dead_at, ttl_s + stale_s)
        elif former_dead_at != math.inf:
            self._wheel.unlink(slot)
        if tags:
            self._tags.add(key, tags)
        if self.num_bytes > self._max_bytes or self.num_entries > self._max_entries:
            self._make_room(now)
        del former
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
        """Drop all keys with a tag and return those that were alive. Takes time in proportion to their number."""
        return [key for key in self._tags.keys(tag) if self.remove(key, now)]

    def clear(self) -> int:
        """Drop everything; return how many entries there were."""
        num_entries = self.num_entries
        self.removals += num_entries
        self._empty()
        return num_entries

    def set_limits(self, *, max_entries: int | None, max_bytes: int | None, now: float) -> None:
        """Replace both limits. What is too much goes at once, in time proportional to its number."""
        self._max_entries, self._max_bytes = _checked(max_entries), _checked(max_bytes)
        self.sweep(now)
        self._make_room(now)

    def sweep(self, now: float, max_entries: int = EXPIRED_PER_CALL) -> int:
        """Clear away at most so many expired entries; return how many there were."""
        for done in range(max_entries):
            slot = self._wheel.pop_due(now)
            if slot < 0:
                return done
            self._dead[slot] = math.inf  # it has left the wheel
            self.expirations += 1
            self._drop(slot)
        return max_entries

    # ---------------------------------------------------------------------------------------- inside

    def _alive(self, key: K, now: float) -> int | None:
        """The slot of a fresh or stale key; a dead one is dropped."""
        slot = self._tables[hash(key) & _MASK].get(key)
        if slot is None or now < self._dead[slot]:
            return slot
        self.expirations += 1
        self._drop(slot)
        return None

    def _add(self, key: K, table: dict[K, int]) -> int:
        """Give a new key a slot, as the newest."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        table[key] = slot
        self._keys[slot] = key
        self.num_entries += 1
        self.insertions += 1
        last = self._older[0]
        self._older[slot] = last
        self._newer[last] = slot
        self._newer[slot] = 0
        self._older[0] = slot
        return slot

    def _prepare_reuse(self, slot: int, key: K, *, is_dead: bool) -> None:
        """Undo the accounts of a slot whose key gets a new value. A dead entry counts as expired, the new one as inserted."""
        if is_dead:
            self.expirations += 1
            self.insertions += 1
        else:
            self.replacements += 1
        if self._tags.tags_of:
            self._tags.drop(key)
        self.num_bytes -= self._sizes[slot]
        self._make_newest(slot)

    def _grow(self) -> None:
        """Add free slots to all columns, a few hundred at a time: no pause at any size."""
        size = len(self._keys)
        num_slots = min(max(_MIN_GROWTH, size), _MAX_GROWTH)
        nothing = [None] * num_slots
        self._keys += nothing
        self._values += nothing
        self._sizes.frombytes(bytes(8 * num_slots))
        self._fresh.frombytes(bytes(8 * num_slots))
        self._dead.frombytes(bytes(8 * num_slots))
        self._older += [0] * num_slots
        self._newer += [0] * num_slots
        self._wheel.grow(num_slots)
        self._free += range(size + num_slots - 1, size - 1, -1)

    def _make_newest(self, slot: int) -> None:
        older, newer = self._older, self._newer
        before, after = older[slot], newer[slot]
        newer[before] = after
        older[after] = before
        last = older[0]
        older[slot] = last
        newer[last] = slot
        newer[slot] = 0
        older[0] = slot

    def _make_room(self, now: float) -> None:
        """Drop expired entries first, then the least recently used, until the limits hold."""
        while self.num_bytes > self._max_bytes or self.num_entries > self._max_entries:
            if self._wheel.next_due <= now and self.sweep(now, 1):
                continue
            oldest = self._newer[0]
            if now >= self._dead[oldest]:
                self.expirations += 1
            else:
                self.evictions += 1
            self._drop(oldest)

    def _drop(self, slot: int) -> None:
        """Take an entry out of everything. Its value goes last, when the accounts are right again."""
        key, value = self._keys[slot], self._values[slot]
        del self._tables[hash(key) & _MASK][key]
        before, after = self._older[slot], self._newer[slot]
        self._newer[before] = after
        self._older[after] = before
        if self._dead[slot] != math.inf:
            self._wheel.unlink(slot)
        if self._tags.tags_of:
            self._tags.drop(key)
        self._keys[slot] = self._values[slot] = None
        self.num_bytes -= self._sizes[slot]
        self.num_entries -= 1
        self._free.append(slot)
        del value


class _Nothing(enum.Enum):
    NOTHING = "nothing"


_NOTHING: Final = _Nothing.NOTHING


def _checked(limit: int | None) -> int:
    """A limit as a number that can be compared with."""
    if limit is None:
        return _UNLIMITED
    if limit < 1:
        raise ValueError(f"a limit must be at least 1, not {limit}; None means no limit")
    return limit
