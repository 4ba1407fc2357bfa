"""Acknowledgements on their way to the store: noted at any time, handed over between its transactions. Owned by `StoreActor`.

Policy: COALESCE, per client and per key, the highest counts; past the capacity dropped. Then outcomes go when they are old, and a
key stays dirty, so that it is forwarded once more after the next start.
"""

from __future__ import annotations

from syncd.ids import ChannelName
from syncd.ports_state import KeyName, TaggedKey
from syncd.store.base import Store

__all__ = ["Acknowledgements"]


class Acknowledgements:
    """What the store is to hear at the next occasion."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._outcomes: dict[str, int] = {}
        self._forwarded: dict[TaggedKey, int] = {}

    def note_outcomes(self, client: str, upto: int) -> None:
        """Note that a client has the outcomes up to this one."""
        known = self._outcomes.get(client)
        if known is not None or len(self._outcomes) < self._capacity:
            self._outcomes[client] = max(upto, known or 0)

    def note_forwarded(self, channel: ChannelName, key: KeyName, version: int) -> None:
        """Note that the application has a change."""
        place = (channel, key)
        known = self._forwarded.get(place)
        if known is not None or len(self._forwarded) < self._capacity:
            self._forwarded[place] = max(version, known or 0)

    def hand_over(self, store: Store) -> None:
        """Tell the store everything; it writes nothing yet."""
        for client, upto in self._outcomes.items():
            store.acknowledge(client, upto)
        for (channel, key), version in self._forwarded.items():
            store.acknowledge_forwarded(channel, key, version)
        self._outcomes.clear()
        self._forwarded.clear()
