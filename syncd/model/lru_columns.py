"""Where the entries of an `Lru` are: columns, lists indexed by *slot*, with the order of use as a linked list through two of them.

No object per entry, so the garbage collector has nothing to walk. Slot 0 heads the order. Keys find their slot through 61 small tables
instead of a large one, because a table of a million keys stands still for 40 ms when it grows (an `OrderedDict` for 300); 61 is prime,
so that keys with a common factor of two (ids made of shifted times) spread too.

`Lru` decides; this keeps. Invariant: every slot is free, or in the list with a key and a place in a table.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterator
from itertools import islice
from math import inf
from typing import Any, Final, Generic, TypeVar

from syncd.model.expiry_wheel import LATEST, ExpiryWheel
from syncd.model.tag_index import TagIndex

__all__ = ["NUM_TABLES", "LruColumns"]

K = TypeVar("K", bound=Hashable)

NUM_TABLES: Final = 61
_FREE: Final = object()
"""The key of a slot that is free."""

_MIN_GROWTH, _MAX_GROWTH = 16, 1024


class LruColumns(Generic[K]):
    """Entries in slots. For `Lru` only, which is one."""

    __slots__ = (
        "_dead", "_free", "_fresh", "_keys", "_newer", "_older", "_sizes", "_tables", "_tags",
        "_values", "_wheel", "num_bytes", "num_entries",
    )  # fmt: skip

    def __init__(self) -> None:
        self._empty()

    def _empty(self) -> None:
        """Begin with nothing but the head of the list. What was held goes last, as its end may run code that comes back here."""
        held = [getattr(self, name, None) for name in ("_keys", "_values", "_tables", "_tags")]
        self.num_entries = self.num_bytes = 0
        self._tables: list[dict[K, int]] = [{} for _ in range(NUM_TABLES)]
        self._keys: list[Any] = [_FREE]
        self._values: list[Any] = [None]
        self._sizes = array("q", bytes(8))
        self._fresh = array("d", [inf])
        self._dead = array("d", [inf])
        self._older = [0]
        self._newer = [0]
        self._free: list[int] = []
        self._tags: TagIndex[K] = TagIndex()
        self._wheel = ExpiryWheel()
        self._wheel.grow(1)
        del held

    def __len__(self) -> int:
        """Entries held, with those that are dead and not cleared away yet."""
        return self.num_entries

    # ---------------------------------------------------------------------------------------- reading

    def keys(self) -> list[K]:
        """All keys held, least recently used first. Takes time in proportion to their number."""
        return [self._keys[slot] for slot in self._walk(self._newer)]

    def newest_keys(self, max_keys: int) -> list[K]:
        """Keys of the most recently used entries, the newest first: what to load first after a start."""
        return [self._keys[slot] for slot in islice(self._walk(self._older), max_keys)]

    def _walk(self, step: list[int]) -> Iterator[int]:
        slot = step[0]
        while slot:
            yield slot
            slot = step[slot]

    def scan(self, cursor: int, max_slots: int) -> tuple[list[K], int]:
        """Return some keys and the cursor for the next ones, in no order; 0 begins, and 0 comes back at the end.

        Between the calls the cache may be used and changed: a key that is held from the first call to the last comes exactly once,
        replaced or not; one that came or went meanwhile comes or does not. `clear` does not disturb this. Looks at `max_slots` slots, free
        ones included.
        """
        first = max(cursor, 1)
        end = first + max_slots
        keys = [key for key in self._keys[first:end] if key is not _FREE]
        return keys, (end if end < len(self._keys) else 0)

    def tags(self, key: K) -> tuple[str, ...]:
        """The tags a key was put with."""
        return self._tags.tags_of.get(key, ())

    def tagged(self, tag: str) -> list[K]:
        """The keys that carry a tag, in the order they were tagged; with those that are dead and not cleared away yet."""
        return self._tags.keys(tag)

    def deadlines(self, key: K) -> tuple[float, float] | None:
        """Until when a key is fresh, and when it is gone. None if it is not held."""
        slot = self._tables[hash(key) % NUM_TABLES].get(key)
        return None if slot is None else (self._fresh[slot], self._dead[slot])

    # ---------------------------------------------------------------------------------------- moving

    def _grow(self) -> None:
        """Add free slots to all columns, a few hundred at a time: no pause at any size."""
        size = len(self._keys)
        num_slots = min(max(_MIN_GROWTH, size), _MAX_GROWTH)
        self._keys += [_FREE] * num_slots
        self._values += [None] * num_slots
        self._sizes.frombytes(bytes(8 * num_slots))
        never = array("d", [inf]) * num_slots
        self._fresh += never
        self._dead += never
        self._older += [0] * num_slots
        self._newer += [0] * num_slots
        self._wheel.grow(num_slots)
        self._free += range(size + num_slots - 1, size - 1, -1)

    def _take_slot(self) -> int:
        """A free slot, counted as an entry and linked to itself: not in the list, with no charge."""
        if not self._free:
            self._grow()
        slot = self._free.pop()
        self._older[slot] = self._newer[slot] = slot
        self._sizes[slot] = 0
        self.num_entries += 1
        return slot

    def _forget(self, key: K) -> None:
        """Take a key out of its table and its tags."""
        del self._tables[hash(key) % NUM_TABLES][key]
        if self._tags.tags_of:
            self._tags.drop(key)

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

    def _set_dead(self, slot: int, dead_at: float, now: float) -> None:
        """Set when an entry is gone; it is linked anew if it would be found too late otherwise."""
        self._dead[slot] = dead_at
        if self._wheel.dues[slot] > dead_at + (dead_at - now) * LATEST:
            self._wheel.link(slot, dead_at, now)

    def _drop(self, slot: int) -> None:
        """Take an entry out of everything. Its value goes last, when the accounts are right again."""
        key, value = self._keys[slot], self._values[slot]
        self._forget(key)
        before, after = self._older[slot], self._newer[slot]
        self._newer[before] = after
        self._older[after] = before
        self._dead[slot] = (
            inf  # it may still be in the wheel, which must not take it for a dead one
        )
        self._keys[slot], self._values[slot] = _FREE, None
        self.num_bytes -= self._sizes[slot]
        self.num_entries -= 1
        self._free.append(slot)
        del value
