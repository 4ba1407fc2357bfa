"""When the entries of a cache are due to be dropped: buckets of deadlines, every step in constant time.

Owned by `Lru`, which numbers its entries by *slot* and compares exact deadlines itself; this only finds, later and cheaply, those
that nobody asked for again. A bucket spans at most a 64th of the life its entries were given, so a dead entry is found at most that
much after its death, and a million entries with one lifetime make at most 129 buckets. Within a bucket the entries form a linked list, so that
replacing or deleting one leaves nothing behind.
"""

from __future__ import annotations

import heapq
import math

__all__ = ["ExpiryWheel"]

_BUCKETS_PER_LIFE_LOG2 = 6
"""64 to 128 buckets a lifetime: an entry stays at most 1.6 % longer than it should."""

_NONE = -1
"""No slot."""


class ExpiryWheel:
    """Slots by the time they are due. Invariant: a slot is linked at most once, in the bucket `_dues[slot]`."""

    __slots__ = ("_after", "_before", "_dues", "_heads", "_heap", "_life_s", "_width_s", "next_due")

    def __init__(self) -> None:
        self._before: list[int] = []
        self._after: list[int] = []
        self._dues: list[float] = []
        self._heads: dict[float, int] = {}
        self._heap: list[float] = []
        self._life_s = self._width_s = 0.0  # no life yet
        self.next_due = math.inf
        """Nothing is due before; compared on every operation of the cache."""

    def grow(self, num_slots: int) -> None:
        """Make room for so many slots more."""
        self._before += [_NONE] * num_slots
        self._after += [_NONE] * num_slots
        self._dues += [0.0] * num_slots

    def link(self, slot: int, dead_at: float, life_s: float) -> None:
        """Remember a slot that dies at `dead_at`; `life_s` is the nominal life that sets how fine its bucket is."""
        if life_s != self._life_s:
            self._set_life(life_s)
        self._link(slot, (dead_at // self._width_s + 1.0) * self._width_s)

    def relink(self, slot: int, dead_at: float, life_s: float) -> None:
        """Give a linked slot another death: mostly in the same bucket, and then nothing is to be done."""
        if life_s != self._life_s:
            self._set_life(life_s)
        due = (dead_at // self._width_s + 1.0) * self._width_s
        if due != self._dues[slot]:
            self.unlink(slot)
            self._link(slot, due)

    def _set_life(self, life_s: float) -> None:
        self._life_s = life_s
        self._width_s = math.ldexp(1.0, math.frexp(life_s)[1] - 1 - _BUCKETS_PER_LIFE_LOG2)

    def _link(self, slot: int, due: float) -> None:
        head = self._heads.get(due)
        if head is None:
            heapq.heappush(self._heap, due)
            self.next_due = self._heap[0]
            head = _NONE
        elif head != _NONE:
            due = self._dues[head]  # one float object for the whole bucket
            self._before[head] = slot
        self._before[slot] = _NONE
        self._after[slot] = head
        self._dues[slot] = due
        self._heads[due] = slot

    def unlink(self, slot: int) -> None:
        """Forget a linked slot. An emptied bucket stays until it is due: there are few, and it may fill again."""
        before, after = self._before[slot], self._after[slot]
        if before == _NONE:
            self._heads[self._dues[slot]] = after
        else:
            self._after[before] = after
        if after != _NONE:
            self._before[after] = before

    def pop_due(self, now: float) -> int:
        """Unlink and return a slot that is dead for certain, or -1 if none is due."""
        while self.next_due <= now:
            due = self.next_due
            slot = self._heads[due]
            if slot != _NONE:
                self.unlink(slot)
                return slot
            del self._heads[due]
            heapq.heappop(self._heap)
            self.next_due = self._heap[0] if self._heap else math.inf
        return _NONE
