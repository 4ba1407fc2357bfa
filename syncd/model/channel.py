"""One channel's state in memory: its position, its tail of events, and the decisions of recovery.

Owner: the broadcaster. Pure: time and epochs are given. The invariant everything rests on: the tail is dense (stream, collection) or holds
the newest event per key (latest), ascending, and complete above `floor`. So a position at or above the floor, of this epoch and
not above the top, can be recovered from the tail alone; below it only from the store, if there is one.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Iterable, Sequence

import attrs

from syncd.config import HistoryKind, Mode, Namespace
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import ChannelHead, StoredEvent
from syncd.wire.encode import EventPrefix, event_body, event_message
from syncd.wire.encode_state import invalidate

__all__ = ["Channel", "Recovery", "Verdict"]

TAIL_BYTES = 1_048_576
"""Of a durable channel's events kept in memory beside the log; more is read from the store."""

TAIL_EVENTS = 1024

MEMORY_BYTES = 16_777_216
"""Of a memory channel, whatever its namespace allows in events: one channel cannot fill a node."""


class Verdict(enum.Enum):
    """What a position is worth."""

    RECOVERED = "recovered"
    """The tail has everything after it."""
    IN_STORE = "in_store"
    """The log may have everything after it."""
    LOST = "lost"
    """Other epoch, ahead of the top, or older than what is kept."""


@attrs.define
class Recovery:
    """Answer to one position."""

    verdict: Verdict
    events: Sequence[StoredEvent] = ()


class Channel:
    """State of one channel with positions. Ephemeral channels have none of this."""

    __slots__ = (
        "_by_key",
        "_max_bytes",
        "_max_events",
        "_tail",
        "epoch",
        "floor",
        "is_latest",
        "name",
        "namespace",
        "prefix",
        "size_bytes",
        "top",
    )

    def __init__(self, name: ChannelName, namespace: Namespace, epoch: Epoch) -> None:
        self.name = name
        self.namespace = namespace
        self.epoch = epoch
        self.prefix = EventPrefix(name, epoch, has_prev=namespace.mode is Mode.STREAM)
        self.top = 0
        self.floor = 0
        """Positions at or above it (up to the top) are recoverable from the tail."""
        self._tail: collections.deque[StoredEvent] = collections.deque()
        self._by_key: dict[str | None, StoredEvent] = {}
        self.size_bytes = 0
        """Bytes of the events kept in memory."""
        is_durable = namespace.history is HistoryKind.DURABLE
        self.is_latest = is_latest = namespace.mode is Mode.LATEST
        """Whether only the newest event per key counts."""
        if namespace.history is HistoryKind.NONE:
            self._max_events = 0
        elif is_durable and not is_latest:
            self._max_events = min(namespace.history_size, TAIL_EVENTS)
        else:
            self._max_events = namespace.history_size
        self._max_bytes = TAIL_BYTES if is_durable and not is_latest else MEMORY_BYTES

    @property
    def is_collection(self) -> bool:
        """Whether its events are changes of entries, and invalidations."""
        return self.namespace.mode is Mode.COLLECTION

    @property
    def is_durable(self) -> bool:
        """Whether the store has the log."""
        return self.namespace.history is HistoryKind.DURABLE

    def load(self, head: ChannelHead, tail: Iterable[StoredEvent]) -> None:
        """Take over what the store knows; only on a fresh channel."""
        self.epoch = head.epoch
        has_prev = self.namespace.mode is Mode.STREAM
        self.prefix = EventPrefix(self.name, head.epoch, has_prev=has_prev)
        events = list(tail)
        self.top = events[0].offset - 1 if events else head.top
        self.floor = head.floor if self.is_latest else max(head.floor, self.top)
        for event in events:
            self._keep(event)
        self.top = head.top

    def append(self, record: bytes, at_ms: int, key: str | None) -> StoredEvent:
        """Give the next offset to an event (memory channels) and keep it."""
        self.top += 1
        event = StoredEvent(self.top, at_ms, key, record)
        self._keep(event)
        return event

    def adopt(self, event: StoredEvent) -> None:
        """Keep an event whose offset was given: exactly the next one."""
        assert event.offset == self.top + 1, "offsets are dense"
        self.top = event.offset
        self._keep(event)

    def skip_superseded(self, upto: int) -> None:
        """Whatever the log of a latest channel does not have below an offset was superseded."""
        self.top = max(self.top, upto - 1)

    def _keep(self, event: StoredEvent) -> None:
        if self._max_events == 0:
            self.floor = event.offset
            return
        if self.is_latest:
            self._keep_latest(event)
            return
        self._tail.append(event)
        self.size_bytes += len(event.record)
        while len(self._tail) > self._max_events or self.size_bytes > self._max_bytes:
            self._evict_oldest()

    def _keep_latest(self, event: StoredEvent) -> None:
        """Replace the key's event; a dict in order of change is the tail."""
        older = self._by_key.pop(event.key, None)
        if older is not None:
            self.size_bytes -= len(older.record)
        self._by_key[event.key] = event
        self.size_bytes += len(event.record)
        while len(self._by_key) > self._max_events or self.size_bytes > self._max_bytes:
            key = next(iter(self._by_key))
            evicted = self._by_key.pop(key)
            self.size_bytes -= len(evicted.record)
            self.floor = evicted.offset

    def _evict_oldest(self) -> None:
        evicted = self._tail.popleft()
        self.size_bytes -= len(evicted.record)
        self.floor = evicted.offset

    def expire(self, before_ms: int) -> None:
        """Forget events older than the retention allows."""
        while self._tail and self._tail[0].at_ms < before_ms:
            self._evict_oldest()
        while self._by_key:
            key, event = next(iter(self._by_key.items()))
            if event.at_ms >= before_ms:
                break
            del self._by_key[key]
            self.size_bytes -= len(event.record)
            self.floor = event.offset

    def forget_events(self) -> None:
        """Keep nothing: positions below the top are lost."""
        self._tail.clear()
        self._by_key.clear()
        self.size_bytes = 0
        self.floor = self.top

    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._tail and not self._by_key

    def recover(self, position: Position) -> Recovery:
        """Decide what a subscriber at `position` has missed. All or nothing."""
        if position.epoch != self.epoch or position.offset > self.top:
            return Recovery(Verdict.LOST)
        if position.offset >= self.floor:
            return Recovery(Verdict.RECOVERED, self.after(position.offset))
        if self.is_durable and not self.is_latest:
            return Recovery(Verdict.IN_STORE)
        return Recovery(Verdict.LOST)

    def after(self, offset: int) -> list[StoredEvent]:
        """Return kept events above `offset`, ascending."""
        events = self._by_key.values() if self.is_latest else self._tail
        if not events or self.top <= offset:
            return []
        found: list[StoredEvent] = []
        for event in reversed(events):
            if event.offset <= offset:
                break
            found.append(event)
        found.reverse()
        return found

    def state(self) -> list[StoredEvent]:
        """Return the newest event per key of a latest channel, ascending; nothing for streams."""
        return list(self._by_key.values())

    def message(self, event: StoredEvent) -> bytes:
        """Encode the message that tells an event: `event`, or `invalidate` for what has no key in a collection."""
        if event.key is None and self.is_collection:
            return invalidate(self.name, self.epoch, event.offset, event.record)
        return event_message(self.prefix, event.offset, event.record)

    def bodies(self, events: Iterable[StoredEvent]) -> list[bytes]:
        """Encode event bodies."""
        prefix = self.prefix
        return [event_body(prefix, event.offset, event.record) for event in events]
