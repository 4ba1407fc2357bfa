"""Pages of entries: reading them in the store's thread, and what of a page a client is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_collections import EntryState, WatchEntries
from syncd.ports_state import Entry, EntryPage, KeyName, StateReader
from syncd.wire import encode_state

__all__ = [
    "KEYS_PER_JOB",
    "PAGE_BYTES",
    "PAGE_ENTRIES",
    "Paged",
    "ScannedPage",
    "Snapshot",
    "num_fitting",
    "read_entries",
    "scan_entries",
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


@attrs.define(eq=False)
class Snapshot:
    """What one watch request is still to be told."""

    command: WatchEntries
    keys_left: list[KeyName] | None
    """None: all of the channel after `after_key`, from the store."""
    after_key: KeyName | None = None
    is_joined: bool = False
    """The broadcaster has it: `watched` is told, further pages are `snapshot`."""
    num_lost: int = 0
    """How often what was handed to the broadcaster before this was lost."""
    on_lost: Callable[[], None] | None = None
    """Of what the broadcaster was handed."""


@attrs.define
class ScannedPage:
    """A page of a channel, as of one moment."""

    page: EntryPage
    decided: dict[str, int]
    """By client, the last mutation decided."""


def read_entries(reader: StateReader, channel: ChannelName, keys: Sequence[KeyName]) -> Paged:
    """Read entries and the position they are as of."""
    return Paged(top_of(reader, channel), reader.entries(channel, keys))


def top_of(reader: StateReader, channel: ChannelName) -> Position:
    """Return a channel's top."""
    head = reader.load(channel, 0, 0).head
    return Position(head.epoch, head.top)


def scan_entries(
    reader: StateReader, channel: ChannelName, after: KeyName | None, clients: Sequence[str]
) -> ScannedPage:
    """Read a page of a channel, and up to which mutation of each client it holds what became of them."""
    page, mids = reader.scan_for(clients, channel, after, PAGE_ENTRIES, PAGE_BYTES)
    return ScannedPage(page, dict(zip(clients, mids, strict=True)))


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
