"""Reading entries, tags and clients from the SQLite file, between transactions. Called by `SqliteStore` alone."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence

from syncd.ids import Position
from syncd.ports_state import Entry, EntryPage, KeyName, TaggedKey
from syncd.store.sqlite_rows import ChannelRow
from syncd.store.sqlite_state import tags_from_text

__all__ = ["read_entries", "read_keys_by_tag", "read_last_mids", "scan_entries"]

_COLUMNS = "SELECT key, version, value, tags FROM entry WHERE channel_id = ? AND "
_SELECT = _COLUMNS + "key = ?"
_SCAN_FIRST = _COLUMNS + "key >= ? ORDER BY key LIMIT ?"
_SCAN_AFTER = _COLUMNS + "key > ? ORDER BY key LIMIT ?"
_LAST = "SELECT last FROM client WHERE name = ?"

_TAGGED = """SELECT channel, key FROM tag WHERE tag = ? AND (channel, key) {} (?, ?) AND channel <= ?
    ORDER BY channel, key LIMIT ?"""
_TAGGED_FROM = _TAGGED.format(">=")
_TAGGED_AFTER = _TAGGED.format(">")

_Raw = tuple[KeyName, int, bytes, str | None]


def read_last_mids(connection: sqlite3.Connection, clients: Sequence[str]) -> list[int]:
    """See `StateReader.last_mids`."""
    found = (connection.execute(_LAST, (client,)).fetchone() for client in clients)
    return [0 if row is None else row[0] for row in found]


def read_entries(
    connection: sqlite3.Connection, row: ChannelRow, keys: Sequence[KeyName]
) -> list[Entry]:
    """See `StateReader.entries`."""
    found = (connection.execute(_SELECT, (row.id, key)).fetchone() for key in keys)
    return [_entry(raw) for raw in found if raw is not None]


def scan_entries(
    connection: sqlite3.Connection,
    row: ChannelRow,
    after_key: KeyName | None,
    *,
    limit: int,
    max_bytes: int,
) -> EntryPage:
    """See `StateReader.scan`."""
    sql = _SCAN_FIRST if after_key is None else _SCAN_AFTER
    entries: list[Entry] = []
    is_complete = True
    with contextlib.closing(
        connection.execute(sql, (row.id, after_key or "", limit + 1))
    ) as cursor:
        for raw in cursor:
            max_bytes -= len(raw[2])
            if len(entries) == limit or (max_bytes < 0 and entries):
                is_complete = False
                break
            entries.append(_entry(raw))
    return EntryPage(Position(row.epoch, row.top), entries, is_complete)


def _entry(raw: _Raw) -> Entry:
    key, version, value, tags = raw
    return Entry(key, version, value, tags_from_text(tags))


def read_keys_by_tag(
    connection: sqlite3.Connection,
    collection: str,
    tag: str,
    after: TaggedKey | None,
    limit: int,
) -> list[TaggedKey]:
    """See `StateReader.keys_by_tag`."""
    found: list[TaggedKey] = []
    # Other names may lie between a collection and its partitions (`orders-old` before `orders/eu`), so these are two spans.
    for first, last in ((collection, collection), (f"{collection}/", f"{collection}/\U0010ffff")):
        start = (first, "")
        is_later = after is not None and after >= start
        sql = _TAGGED_AFTER if is_later else _TAGGED_FROM
        span = (tag, *((is_later and after) or start), last, limit - len(found))
        found += connection.execute(sql, span).fetchall()
    return found
