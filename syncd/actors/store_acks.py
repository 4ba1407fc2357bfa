"""Acknowledgements on their way to the store: noted at any time, handed over between its transactions. Owned by `StoreActor`.

Policy: COALESCE, per client and per key, the highest counts; past the capacity dropped. Then outcomes go when they are old, and a
key stays dirty, so that it is forwarded once more after the next start.
"""

from __future__ import annotations

import itertools

from syncd.ids import Position
from syncd.ports_state import TaggedKey
from syncd.store.base import Store

__all__ = ["Acknowledgements"]


class Acknowledgements:
    """What the store is to hear at the next occasion."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._outcomes: dict[str, tuple[int, str]] = {}
        """By client: up to which mutation, and the life of the store that its numbers are of."""
        self._forwarded: dict[TaggedKey, Position] = {}

    def note_outcomes(self, client: str, upto: int, era: str) -> None:
        """Note that a client has the outcomes up to this one; of two lives of the store the one that is told last is the newer."""
        known = self._outcomes.get(client)
        if known is not None and known[1] == era:
            upto = max(upto, known[0])
        if known is not None or len(self._outcomes) < self._capacity:
            self._outcomes[client] = upto, era

    def note_forwarded(self, place: TaggedKey, change: Position) -> None:
        """Note that the application has a change."""
        known = self._forwarded.get(place)
        if known is None and len(self._forwarded) >= self._capacity:
            return
        if known is None or known.epoch != change.epoch or known.offset < change.offset:
            self._forwarded[place] = change

    def hand_over(self, store: Store, max_clients: int) -> bool:
        """Tell the store, which drops outcomes with its next statements, so not of too many clients at once.

        Returns:
            Whether any are left.
        """
        self.hand_over_forwarded(store)
        for client in list(itertools.islice(self._outcomes, max_clients)):
            store.acknowledge(client, *self._outcomes.pop(client))
        return bool(self._outcomes)

    def hand_over_forwarded(self, store: Store) -> None:
        """Tell the store what is not dirty any more; it writes nothing yet."""
        for place, change in self._forwarded.items():
            store.acknowledge_forwarded(*place, change.offset, change.epoch)
        self._forwarded.clear()
