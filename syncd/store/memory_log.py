"""One channel's log in memory. Owned by `MemoryStore`."""

from __future__ import annotations

import bisect
from collections.abc import Callable

import attrs

from syncd.ids import Epoch
from syncd.ports_log import ChannelHead, StoredEvent
from syncd.store.base import Retention, cutoff_ms, effective_floor

__all__ = ["Log", "Undo"]

Undo = Callable[[], None]

_SLACK = 64
"""Events a stream may have over its size (and a quarter of it), so that deleting from the front is rare."""


@attrs.define(eq=False)
class Log:
    """One channel: events ascending, and for latest channels where each key's event is."""

    epoch: Epoch
    retention: Retention
    top: int = 0
    floor: int = 0
    events: list[StoredEvent] = attrs.field(factory=list)
    by_key: dict[str | None, int] = attrs.field(factory=dict)

    def head(self) -> ChannelHead:
        """Return what others may know."""
        return ChannelHead(
            self.epoch, self.top, effective_floor(self.floor, self.top, self.retention)
        )

    def index_after(self, offset: int) -> int:
        """Return the index of the first event after an offset."""
        return bisect.bisect_right(self.events, offset, key=_offset_of)

    def append(self, at_ms: int, key: str | None, record: bytes) -> int:
        """Add an event and return its offset."""
        self.top += 1
        if self.retention.is_latest:
            self._supersede(key)
        self.events.append(StoredEvent(self.top, at_ms, key, record))
        slack = 0 if self.retention.is_latest else _SLACK + self.retention.size // 4
        if len(self.events) > self.retention.size + slack:
            self.drop_oldest(len(self.events) - self.retention.size)
        return self.top

    def _supersede(self, key: str | None) -> None:
        old = self.by_key.get(key)
        if old is not None:
            del self.events[self.index_after(old) - 1]
        self.by_key[key] = self.top

    def drop_oldest(self, count: int) -> int:
        """Delete the oldest events and move the floor to the newest of them."""
        if count <= 0:
            return 0
        dropped = self.events[:count]
        del self.events[:count]
        self.floor = dropped[-1].offset
        for event in dropped:
            self.by_key.pop(event.key, None)
        return count

    def num_expired(self, now_ms: int) -> int:
        """Return how many of the oldest events retention no longer covers."""
        keep = max(0, len(self.events) - self.retention.size)
        cutoff = cutoff_ms(now_ms, self.retention.age_s)
        while keep < len(self.events) and self.events[keep].at_ms < cutoff:
            keep += 1
        return keep

    def undo(self) -> Undo:
        """Return what brings back the state of this moment."""
        top, floor, events, by_key = self.top, self.floor, self.events[:], self.by_key.copy()

        def restore() -> None:
            self.top, self.floor, self.events, self.by_key = top, floor, events, by_key

        return restore


def _offset_of(event: StoredEvent) -> int:
    return event.offset
