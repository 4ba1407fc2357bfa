"""When the entries of a cache are due to be dropped: buckets of deadlines, every step in constant time.

Owned by `Lru`, which numbers its entries by *slot* and compares exact deadlines itself; this only finds, later and cheaply, those
that nobody asked for again. A slot sits in one bucket. When its entry gets a later death, or goes, it stays there: whoever takes
it out, once the bucket is due, sees that it is not dead and links it anew. So most changes cost nothing here.

A bucket spans at most a 64th of the life that was left when it was made, so a dead entry is found at most that much after its death.
An entry that gets an *earlier* death moves and leaves a reference behind, which is skipped when its bucket is due; there are at most
as many of those as slots, and beyond that it stays where it is and is found later.
"""

from __future__ import annotations

import heapq
import math
from typing import Final

__all__ = ["LATEST", "ExpiryWheel"]

_BUCKETS_PER_LIFE_LOG2 = 6
"""64 to 128 buckets a lifetime."""

LATEST: Final = 2.0**-_BUCKETS_PER_LIFE_LOG2
"""A dead entry is found after at most this part of its life; who gives it another death compares with that."""

_NOWHERE = math.inf


class ExpiryWheel:
    """Slots by the time they are due.

    Invariant: a slot whose `dues` is finite is in the bucket of that time; every other reference to it is counted in `_num_left`.
    """

    __slots__ = ("_buckets", "_heap", "_num_left", "dues", "next_due")

    def __init__(self) -> None:
        self.dues: list[float] = []
        """When the bucket of each slot is due; infinite for a slot in none. For `Lru` to read."""
        self._buckets: dict[float, list[int]] = {}
        self._heap: list[float] = []
        self._num_left = 0
        self.next_due = math.inf
        """Nothing is due before; compared on every operation of the cache."""

    def grow(self, num_slots: int) -> None:
        """Make room for so many slots more."""
        self.dues += [_NOWHERE] * num_slots

    def link(self, slot: int, dead_at: float, now: float) -> None:
        """Have a slot found soon after `dead_at`, which is finite and not before `now`."""
        width_s = math.ldexp(1.0, math.frexp(dead_at - now)[1] - 1 - _BUCKETS_PER_LIFE_LOG2)
        due = (dead_at // width_s + 1.0) * width_s
        if self.dues[slot] != _NOWHERE:
            if self._num_left >= len(self.dues):
                return
            self._num_left += 1
        bucket = self._buckets.get(due)
        if bucket is None:
            bucket = self._buckets[due] = []
            heapq.heappush(self._heap, due)
            self.next_due = self._heap[0]
        bucket.append(slot)
        self.dues[slot] = due

    def take_due(self, now: float, max_steps: int) -> list[int]:
        """Take out slots whose bucket is due, whatever became of them since; look at no more than so many references."""
        taken: list[int] = []
        while self.next_due <= now and max_steps > 0:
            due = self.next_due
            bucket = self._buckets[due]
            while bucket and max_steps > 0:
                max_steps -= 1
                slot = bucket.pop()
                if self.dues[slot] == due:
                    self.dues[slot] = _NOWHERE
                    taken.append(slot)
                else:
                    self._num_left -= 1
            if not bucket:
                del self._buckets[due]
                heapq.heappop(self._heap)
                self.next_due = self._heap[0] if self._heap else math.inf
        return taken
