"""`LRUCache`: the pure `Lru` with a lock and a clock, for threads and tasks alike.

The lock is held for about a microsecond at a time and never while foreign code runs, except the `__hash__` and `__eq__` of keys and the
`__del__` of dropped values; it is re-entrant, so those may come back here.
"""

from __future__ import annotations

import enum
import math
import random
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar, overload

import attrs

from syncd.cache.allocator import LARGE_LIMIT_BYTES, return_large_blocks
from syncd.model.flights import Flights
from syncd.model.lru import Lru
from syncd.model.lru_facts import ABSENT, Absent, LruStatistics, State
from syncd.model.value_sizes import size_of

__all__ = ["NOTHING", "Core", "LRUCache", "Lifetimes", "Nothing"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")


class Nothing(enum.Enum):
    """Not a value."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING


@attrs.frozen
class Core(Generic[K, V]):
    """The parts of an `LRUCache`, for the loads that fill it. Cache and flights are touched under the lock only."""

    lock: Any
    """A `threading.RLock`, which is no type."""
    lru: Lru[K, V]
    flights: Flights[K]
    lifetimes: Lifetimes
    clock: Callable[[], float]
    chance: Callable[[], float]


@attrs.frozen
class Lifetimes:
    """What entries get that are set without."""

    ttl_s: float
    stale_s: float
    jitter: float

    def __attrs_post_init__(self) -> None:
        if not (self.ttl_s > 0 and self.stale_s >= 0 and 0 <= self.jitter < 1):
            raise ValueError("needs ttl > 0, stale >= 0 and 0 <= jitter < 1")


class LRUCache(Generic[K, V]):
    """A thread-safe cache: the least recently used entry goes first. Times are seconds.

    Args:
        max_entries: At most so many entries.
        max_bytes: At most so many bytes of keys, values and bookkeeping; from 32 MiB on also of gaps (`cache/allocator`). One of the
            two limits is needed.
        ttl: Entries are fresh for so long; None for ever.
        stale: Then `look` still returns them for so long, as stale; `get` does not.
        jitter: The part of `ttl` that chance may take away, 0 to 1: what was loaded together does not expire together.
        size: Returns the bytes a value holds; else exact for bytes, str and numbers, estimated for others (`model/value_sizes`).
        clock: Seconds that never go back.
        chance: Uniform in [0, 1).
    """

    def __init__(
        self,
        max_entries: int | None = None,
        *,
        max_bytes: int | None = None,
        ttl: float | None = None,
        stale: float = 0.0,
        jitter: float = 0.0,
        size: Callable[[V], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] | None = None,
    ) -> None:
        _check_limits(max_entries, max_bytes)
        _hold_promise(max_bytes)
        chance = chance or random.Random().random  # noqa: S311 - spreads lifetimes, guards nothing
        self._lifetimes = Lifetimes(math.inf if ttl is None else ttl, stale, jitter)
        self._lock = threading.RLock()
        self._lru: Lru[K, V] = Lru(max_entries=max_entries, max_bytes=max_bytes, chance=chance)
        self._flights: Flights[K] = Flights()
        self._clock = clock
        self._size = size_of if size is None else size
        self._ttl_s, self._stale_s, self._jitter = attrs.astuple(self._lifetimes)
        self._hit, self._put = self._lru.hit, self._lru.put
        self._outdatable = self._flights.by_key
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self.core = Core(self._lock, self._lru, self._flights, self._lifetimes, clock, chance)
        """For this package."""

    # ---------------------------------------------------------------------------------------- reading

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: object = None) -> object:
        """Return the fresh value, or the default: also for keys known to be absent. A stale value counts as missed."""
        try:
            self._acquire()
            value = self._hit(key, self._clock(), NOTHING)
            if value is NOTHING:
                self._lru.misses += 1
        except BaseException:
            self._let_go()
            raise
        self._release()
        return default if value is NOTHING or value is ABSENT else value

    def __getitem__(self, key: K) -> V:
        value = self.get(key, NOTHING)
        if isinstance(value, Nothing):
            raise KeyError(key)
        return value

    def look(self, key: K) -> tuple[State, V | None]:
        """Return what is known of a key, and its value if it is fresh or stale."""
        with self._lock:
            return self._lru.look(key, self._clock())

    def peek(self, key: K) -> tuple[State, V | None]:
        """The same without a trace: no counts, no effect on what goes next."""
        with self._lock:
            return self._lru.peek(key, self._clock())

    def hit(self, key: K) -> V | Absent | Nothing:
        """Return what is known for sure, and count it, or NOTHING uncounted. For those who go on to load."""
        try:
            self._acquire()
            value = self._hit(key, self._clock(), NOTHING)
        except BaseException:
            self._let_go()
            raise
        self._release()
        return value

    def __contains__(self, key: K) -> bool:
        """Whether there is a fresh value. Leaves no trace."""
        return self.peek(key)[0] is State.FRESH

    def __len__(self) -> int:
        """Entries held; may include a few that are dead and not cleared away yet."""
        with self._lock:  # an entry is in before those that give way to it are out
            return self._lru.num_entries

    def __iter__(self) -> Iterator[K]:
        """Over a copy of `keys()`."""
        return iter(self.keys())

    @property
    def num_bytes(self) -> int:
        """What all entries hold together, as charged against `max_bytes`."""
        with self._lock:
            return self._lru.num_bytes

    def keys(self) -> list[K]:
        """All keys held, least recently used first."""
        with self._lock:
            return self._lru.keys()

    def stats(self) -> LruStatistics:
        """All counts, at one moment."""
        with self._lock:
            return self._lru.statistics()

    # ---------------------------------------------------------------------------------------- writing

    def set(
        self,
        key: K,
        value: V,
        *,
        ttl: float | None = None,
        stale: float | None = None,
        size: int | None = None,
        tags: Iterable[str] = (),
    ) -> bool:
        """Keep a value. A load under way for the key is done again.

        Args:
            ttl: Instead of the cache's own; `math.inf` for ever.
            stale: Instead of the cache's own.
            size: The bytes the value holds, if known; the key and the bookkeeping are added.
            tags: What it can be invalidated by.

        Returns:
            False if it is larger than `max_bytes`: then nothing is kept under this key.
        """
        if size is None:
            size = self._size(value)
        if size < 0:
            raise ValueError(f"a size must not be below 0, but is {size}")
        size += size_of(key)
        if ttl is None:
            ttl = self._ttl_s
        if stale is None:
            stale = self._stale_s
        try:
            self._acquire()
            if self._outdatable:
                self._flights.outdate(key)
            kept = self._put(key, value, size, self._clock(), ttl, stale, self._jitter, tags)
        except BaseException:
            self._let_go()
            raise
        self._release()
        return kept

    def __setitem__(self, key: K, value: V) -> None:
        self.set(key, value)

    def set_absent(self, key: K, *, ttl: float | None = None) -> None:
        """Remember that there is nothing under this key."""
        ttl_s = self._lifetimes.ttl_s if ttl is None else ttl
        with self._lock:
            self._flights.outdate(key)
            self._lru.put(key, ABSENT, size_of(key), self._clock(), ttl_s=ttl_s)

    def invalidate(self, key: K) -> bool:
        """Drop a key; a load under way for it is done again. Returns whether something was there."""
        with self._lock:
            self._flights.outdate(key)
            return self._lru.remove(key, self._clock())

    def __delitem__(self, key: K) -> None:
        if not self.invalidate(key):
            raise KeyError(key)

    def invalidate_tag(self, tag: str) -> int:
        """Drop all that carries a tag, in time proportional to that. Returns how many entries that were."""
        with self._lock:
            self._flights.outdate_tag(tag)
            return len(self._lru.remove_tag(tag, self._clock()))

    def clear(self) -> int:
        """Drop everything; return how many entries there were."""
        with self._lock:
            self._flights.outdate_all()
            return self._lru.clear()

    def set_limits(self, *, max_entries: int | None = None, max_bytes: int | None = None) -> None:
        """Replace both limits; what is too much goes at once."""
        _check_limits(max_entries, max_bytes)
        _hold_promise(max_bytes)
        with self._lock:
            self._lru.set_limits(max_entries=max_entries, max_bytes=max_bytes, now=self._clock())

    def sweep(self, max_entries: int = 1_000) -> int:
        """Clear away expired entries, at most so many; for caches that nobody uses for long. Returns how many there were."""
        with self._lock:
            return self._lru.sweep(self._clock(), max_entries)

    def _let_go(self) -> None:
        """Release the lock after an error, if it was taken: an interrupted wait for it (Ctrl-C) was not.

        Hot methods take the lock inside their `try` and release it by hand, in two fifths of the time of `with`. Nothing is lost: an
        interrupt that comes right after the lock was taken is raised inside the `try`.
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]  # noqa: SLF001 - as `threading.Condition` asks it
            self._release()


def _check_limits(max_entries: int | None, max_bytes: int | None) -> None:
    if max_entries is None and max_bytes is None:
        raise ValueError("a cache needs max_entries or max_bytes: without a limit it is a leak")


def _hold_promise(max_bytes: int | None) -> None:
    """A limit of bytes is one of memory, gaps included."""
    if max_bytes is not None and max_bytes >= LARGE_LIMIT_BYTES:
        return_large_blocks()
