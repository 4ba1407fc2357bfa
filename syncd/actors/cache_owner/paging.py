"""Pages of entries: reading them in the store's thread, and what of a page a client is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from syncd.actors.cache_owner.holdings import Holdings, value_of
from syncd.ids import ChannelName, Position
from syncd.ports_collections import EntryState, WatchEntries
from syncd.ports_state import EntryPage, KeyName, StateReader
from syncd.wire import encode_state

__all__ = [
    "KEYS_PER_JOB",
    "PAGE_BYTES",
    "PAGE_ENTRIES",
    "PageReader",
    "ScannedPage",
    "Snapshot",
    "keys_to_tell",
    "look_up_entries",
    "num_fitting",
    "scan_entries",
    "sort_out",
    "states_of",
]

KEYS_PER_JOB = 256
"""Entries looked up in one job: about 2 ms of the store's slice of 5."""
PAGE_ENTRIES = 500
PAGE_BYTES = 131_072
"""Of one page of a snapshot: made in one go, which holds the loop for a millisecond or so (`bench`, scenario `watch`)."""


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


def keys_to_tell(holdings: Holdings, command: WatchEntries) -> list[KeyName] | None:
    """Return which entries a watch request is about; None: whatever the store has of the channel."""
    if command.keys is not None:
        return list(command.keys)
    holding = holdings.of_channel(command.channel)
    assert holding is not None, "the gateway checks names"
    if not holding.is_volatile:
        return None
    places = holding.memory.places()
    return sorted(place[1] for place in places if place[0] == command.channel)


class PageReader(Protocol):
    """Reads a page in the store's thread."""

    def __call__(
        self, reader: StateReader, channel: ChannelName, *, clients: Sequence[str]
    ) -> ScannedPage: ...


def scan_entries(
    reader: StateReader, channel: ChannelName, *, after: KeyName | None, clients: Sequence[str]
) -> ScannedPage:
    """Read a page of a channel, and up to which mutation of each client it holds what became of them."""
    page, mids = reader.scan_for(clients, channel, after, PAGE_ENTRIES, PAGE_BYTES)
    return ScannedPage(page, dict(zip(clients, mids, strict=True)))


def look_up_entries(
    reader: StateReader, channel: ChannelName, *, keys: Sequence[KeyName], clients: Sequence[str]
) -> ScannedPage:
    """Read these entries of a channel, and the same of them."""
    found = reader.look_up(channel, keys, clients=clients)
    page = EntryPage(found.position, found.entries, is_complete=True)
    return ScannedPage(page, dict(zip(clients, found.mids, strict=True)))


def states_of(page: EntryPage, keys: Sequence[KeyName] | None = None) -> list[EntryState]:
    """Return what the entries of a page are now, in its order, or in that of the keys that were asked for."""
    found = {entry.key: (entry.version, value_of(entry.value)) for entry in page.entries}
    absent = (page.position.offset, None)
    states = []
    for key in found if keys is None else keys:
        version, value = found.get(key, absent)
        states.append(EntryState(key, version if value is not None else absent[0], value))
    return states


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
