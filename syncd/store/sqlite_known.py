"""Clients and versions of entries in memory, in front of their tables. Owned by `SqliteStore`; valid only because nobody else writes the file.

A mutation looks up its client and what it read: with both here, a transaction of mutations reads nothing from the disk. Invariant:
outside a transaction what is here equals the disk, rows that are not there included. A transaction that is undone, or that
deletes clients, leaves nothing here.
"""

from __future__ import annotations

import itertools
import sqlite3
from typing import Any

import attrs

from syncd.ids import ChannelName
from syncd.ports_state import KeyName
from syncd.store.sqlite_rows import ChannelRow

__all__ = ["NEW_CLIENT", "KnownClient", "KnownEntry", "KnownRows"]

_SELECT_ENTRY = "SELECT version, tags FROM entry WHERE generation = ? AND key = ?"
_SELECT_CLIENT = "SELECT id, last, at_ms FROM client WHERE name = ?"

NEW_CLIENT = 0
"""Id of a client without a row; SQLite begins with 1."""


@attrs.define(eq=False)
class KnownEntry:
    """One entry, but for its value."""

    generation: int
    channel: ChannelName
    key: KeyName
    version: int
    """0: there is none."""
    tags: str | None
    tags_on_disk: str | None
    writer: int = -1
    """Number of the mutation that wrote it last; see `KnownRows.number`."""


@attrs.define(eq=False)
class KnownClient:
    """One client."""

    id: int
    last: int
    at_ms: int


class KnownRows:
    """What was looked up lately; what was looked up first goes first, since looking up again costs little."""

    def __init__(self, connection: sqlite3.Connection, max_clients: int, max_entries: int) -> None:
        self.clients: dict[str, KnownClient] = {}
        """For `client`, which looks here only after its caller has."""
        self.entries: dict[tuple[int, KeyName], KnownEntry] = {}
        """For `entry`, likewise."""
        self.number = 0
        """Of the next mutation; never given twice, so that a `writer` of an earlier transaction is taken for none of this one."""
        self._connection = connection
        self._max_clients = max_clients
        self._max_entries = max_entries

    def client(self, name: str) -> KnownClient:
        """Read a client that is not here."""
        found = self._connection.execute(_SELECT_CLIENT, (name,)).fetchone()
        row = (NEW_CLIENT, 0, 0) if found is None else found
        client = self.clients[name] = KnownClient(*row)
        return client

    def entry(self, row: ChannelRow, key: KeyName) -> KnownEntry:
        """Read an entry that is not here."""
        place = (row.generation, key)
        found = self._connection.execute(_SELECT_ENTRY, place).fetchone()
        version, tags = (0, None) if found is None else (found[0] or row.generation_at, found[1])
        entry = self.entries[place] = KnownEntry(row.generation, row.name, key, version, tags, tags)
        return entry

    def shrink(self) -> None:
        """Drop what is over capacity; between transactions, so that nothing with changes is lost."""
        _drop_first(self.clients, len(self.clients) - self._max_clients)
        _drop_first(self.entries, len(self.entries) - self._max_entries)

    def clear(self) -> None:
        """Drop everything."""
        self.clients.clear()
        self.entries.clear()


def _drop_first(rows: dict[Any, Any], count: int) -> None:
    if count > 0:
        for name in list(itertools.islice(rows, count)):
            del rows[name]
