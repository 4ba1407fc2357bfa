"""What the broadcaster asks of the log that the store keeps: appends, heads, slices. Protocols and plain messages; nothing here does anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position

__all__ = [
    "AppendRequest",
    "AppendResult",
    "Appended",
    "ChannelHead",
    "IdempotencyKey",
    "LoadedChannel",
    "LogPage",
    "LogQuery",
    "StoreHandle",
    "StoredEvent",
]


@attrs.frozen
class IdempotencyKey:
    """(identity, operation, key) and what was asked under it (DESIGN 5.4)."""

    identity: str
    """`user:<sub>`, `client:<id>` or `service:<name>`."""
    operation: str
    key: str
    request_hash: bytes


@attrs.define(eq=False)
class AppendRequest:
    """One durable event to be written."""

    channel: ChannelName
    record: bytes
    """As made by `wire.encode.event_record`: everything of the body but channel and position."""
    at_ms: int
    key: str | None = None
    idempotency: IdempotencyKey | None = None
    invalidated: Sequence[str] = ()
    """Of a mutation's event without a key: it concerns the loads of these keys alone, not of all of its channel (`store.loads`)."""


@attrs.define
class Appended:
    """Where a request's event stands in the log, committed."""

    epoch: Epoch
    offset: int
    is_duplicate: bool = False
    """The idempotency key was known: this is the position of the first time, and no event was written."""


AppendResult = Appended | SyncdError
"""One per request; an error (idempotency_mismatch) concerns that request alone."""


@attrs.frozen
class ChannelHead:
    """Where a channel's log begins and ends."""

    epoch: Epoch
    top: int
    """Offset of the newest event ever; 0 for none."""
    floor: int
    """Positions with offset >= floor can be recovered: nothing after them was trimmed or superseded away."""

    def lacks(self, told: Position) -> bool:
        """Whether the log has lost what a node was told of it."""
        return self.epoch == told.epoch and self.top < told.offset


@attrs.define
class StoredEvent:
    """One event as it lies in the log."""

    offset: int
    at_ms: int
    key: str | None
    record: bytes


@attrs.define
class LoadedChannel:
    """A channel's head and its newest events, ascending."""

    head: ChannelHead
    tail: list[StoredEvent]


@attrs.frozen
class LogQuery:
    """A slice of one channel's log: `after < offset <= upto`, ascending; or `offset < before` descending."""

    channel: ChannelName
    after: int = 0
    upto: int | None = None
    before: int | None = None
    reverse: bool = False
    limit: int = 1000
    max_bytes: int = 1_048_576


@attrs.define
class LogPage:
    """Answer to a `LogQuery`; shorter than asked when a limit was met (`is_complete` False)."""

    head: ChannelHead
    events: list[StoredEvent]
    is_complete: bool


class StoreHandle(Protocol):
    """The store actor, as others see it. Every call returns at once; `done` is called once, later, on the Trio thread.

    `done` gets a `SyncdError` when the store is unavailable, crashed in the middle, or full. It must not block.
    """

    def append(
        self,
        batch: list[AppendRequest],
        done: Callable[[list[AppendResult] | SyncdError], None],
    ) -> None:
        """Write all in one transaction; results in the order of the batch, after the commit."""

    def load(
        self,
        channel: ChannelName,
        tail_events: int,
        tail_bytes: int,
        done: Callable[[LoadedChannel | SyncdError], None],
    ) -> None:
        """Read a channel's head (created if new) and newest events."""

    def read(self, query: LogQuery, done: Callable[[LogPage | SyncdError], None]) -> None:
        """Read a slice of the log."""
