"""Pages of entries: reading them in the store's thread, and what of a page a client is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_collections import EntryState, WatchEntries
from syncd.ports_state import Entry, KeyName, StateReader
from syncd.wire import encode_state

__all__ = [
    "KEYS_PER_JOB",
    "PAGE_BYTES",
    "PAGE_ENTRIES",
    "Paged",
    "num_fitting",
    "read_entries",
    "sort_out",
    "top_of",
]

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


def sort_out(
    entries: Sequence[EntryState], position: Position, command: WatchEntries
) -> tuple[list[bytes], list[KeyName]]:
    """Return entries to be told, encoded, and the keys of those that the client has just so."""
    have: Mapping[str, int] = command.have
    if command.have_epoch is not None and command.have_epoch != position.epoch:
        have = {}
    told, unchanged = [], []
    for entry in entries:
        if entry.value is not None and have.get(entry.key) == entry.version:
            unchanged.append(entry.key)
        else:
            told.append(encode_state.entry(entry.key, entry.version, entry.value))
    return told, unchanged


def num_fitting(entries: Sequence[EntryState]) -> int:
    """How many entries fit into a page; one at least."""
    size = 0
    for index, entry in enumerate(entries):
        size += len(entry.key) + len(entry.value or b"")
        if size > PAGE_BYTES and index:
            return index
    return len(entries)
