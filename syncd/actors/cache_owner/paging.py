"""Reading entries from the store: what runs in the store's thread, and what it brings."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_state import Entry, KeyName, StateReader

__all__ = ["KEYS_PER_JOB", "PAGE_BYTES", "PAGE_ENTRIES", "Paged", "read_entries", "top_of"]

KEYS_PER_JOB = 256
"""Entries looked up in one job: about 2 ms of the store's slice of 5."""
PAGE_ENTRIES = 1000
PAGE_BYTES = 262_144
"""Of one page of a snapshot, as of a page of recovered events: `limits.recovery_bytes` by default."""


@attrs.define
class Paged:
    """Entries of a channel as of one position."""

    position: Position
    entries: list[Entry]


def read_entries(reader: StateReader, channel: ChannelName, keys: Sequence[KeyName]) -> Paged:
    """Read entries and the position they are as of."""
    return Paged(top_of(reader, channel), reader.entries(channel, keys))


def top_of(reader: StateReader, channel: ChannelName) -> Position:
    """Return a channel's top."""
    head = reader.load(channel, 0, 0).head
    return Position(head.epoch, head.top)
