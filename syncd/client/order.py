"""Which mutations rest on which entries, oldest first, and which of them are to be looked at again. Pure.

Owned by `Predictions`. The ids of mutations ascend in the order in which they were made.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence

from syncd.client.local_tx import Place

__all__ = ["Agenda", "Order"]


class Order:
    """Ids of mutations by entry, ascending."""

    def __init__(self) -> None:
        self._ids: dict[Place, list[int]] = {}

    def of(self, place: Place) -> Sequence[int]:
        """Return all of an entry, to look at."""
        return self._ids.get(place, ())

    def add(self, place: Place, mutation_id: int) -> None:
        """Put one in that is not there."""
        bisect.insort(self._ids.setdefault(place, []), mutation_id)

    def remove(self, place: Place, mutation_id: int) -> None:
        """Take one out that is there."""
        ids = self._ids[place]
        del ids[bisect.bisect_left(ids, mutation_id)]
        if not ids:
            del self._ids[place]

    def before(self, place: Place, mutation_id: int) -> int | None:
        """Return the next older one."""
        ids = self.of(place)
        index = bisect.bisect_left(ids, mutation_id)
        return ids[index - 1] if index else None

    def after(self, place: Place, mutation_id: int) -> int | None:
        """Return the next younger one."""
        ids = self.of(place)
        index = bisect.bisect_right(ids, mutation_id)
        return ids[index] if index < len(ids) else None


class Agenda:
    """Mutations to be looked at again, each once, in the order they were made."""

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._places: dict[int, set[Place]] = {}

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, mutation_id: int | None, *places: Place) -> None:
        """Have one looked at, if there is one, because what it finds at these places is another."""
        if mutation_id is None:
            return
        if mutation_id not in self._places:
            self._places[mutation_id] = set()
            heapq.heappush(self._heap, mutation_id)
        self._places[mutation_id].update(places)

    def take(self) -> tuple[int, set[Place]]:
        """Take out the oldest; only younger ones may be put in after that."""
        mutation_id = heapq.heappop(self._heap)
        return mutation_id, self._places.pop(mutation_id)
