"""What the state side (collections and mutations) asks of a store: plain messages, nothing here does anything.

A mutation is `(client, mid, name, args)`. Whoever runs its mutator decides reads, writes and outcome; the store only decides whether that
decision still stands, and makes it durable in one transaction with its events (DESIGN 5.3, promises ONCE and DURABLE).
"""

from __future__ import annotations

from typing import NewType

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position

__all__ = [
    "Committed",
    "Conflict",
    "Entry",
    "EntryPage",
    "EntryRead",
    "EntryWrite",
    "KeyName",
    "KnownOutcome",
    "MutationCommit",
    "MutationResult",
    "OutOfOrder",
]

KeyName = NewType("KeyName", str)
"""Key of an entry, unique in its channel; with partitions `<partition>/<id>`."""


@attrs.define
class Entry:
    """One entry as the store has it."""

    key: KeyName
    version: int
    """Offset of its last change in the collection's channel; monotonic over deletions, scoped by epoch."""
    value: bytes
    """Encoded msgpack, kept as it was written."""
    tags: tuple[str, ...] = ()


@attrs.define
class EntryRead:
    """What a mutator saw: the commit stands only if this is still so."""

    channel: ChannelName
    key: KeyName
    version: int
    """0: there was no entry."""


@attrs.define(eq=False)
class EntryWrite:
    """One change of one entry, and the event that tells it."""

    channel: ChannelName
    """Collection, or `<collection>/<partition>`: where the entry lives and its event goes."""
    key: KeyName
    value: bytes | None
    """Encoded msgpack; None deletes."""
    record: bytes
    """Of the event, as `wire.encode.event_record` makes it; its offset becomes the entry's version."""
    tags: tuple[str, ...] = ()


@attrs.define(eq=False)
class MutationCommit:
    """One mutation, decided. A rejection has no writes and advances `last_mid` all the same."""

    client: str
    mid: int
    reads: list[EntryRead]
    writes: list[EntryWrite]
    outcome: bytes
    """Encoded outcome without positions; answered again whenever the mutation is resent."""
    at_ms: int


@attrs.define
class Committed:
    """The mutation took effect (or was rejected, with its outcome stored): once and for all."""

    versions: list[int]
    """One per write, in order."""
    positions: dict[ChannelName, Position]
    """Where its effect is visible, per channel written."""


@attrs.define
class KnownOutcome:
    """`mid <= last`: it was decided before and is not decided again."""

    outcome: bytes | None
    """None: past retention, or acknowledged by the client."""
    positions: dict[ChannelName, Position]


@attrs.define
class OutOfOrder:
    """`mid > last + 1`: the client has to send `expect` first. Nothing was written."""

    expect: int


@attrs.define
class Conflict:
    """A read is not true any more: run the mutator again. Nothing was written, `last` did not advance."""

    read: EntryRead


MutationResult = Committed | KnownOutcome | OutOfOrder | Conflict | SyncdError
"""One per mutation of a group, in order; each sees the effects of those before it."""


@attrs.define
class EntryPage:
    """A slice of a channel's entries in key order, as of one position."""

    position: Position
    entries: list[Entry]
    is_complete: bool
