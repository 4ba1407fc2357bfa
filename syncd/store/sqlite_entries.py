"""Reading entries, tags, dirty keys and clients from the SQLite file, between transactions. Called by `SqliteStore` alone."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence

from syncd.ids import ChannelName, Position
from syncd.ports_state import DirtyKey, Entry, EntryPage, KeyName, TaggedKey
from syncd.store.sqlite_rows import ChannelRow
from syncd.store.sqlite_state import tags_from_text

__all__ = ["read_dirty", "read_entries", "read_keys_by_tag", "read_last_mids", "scan_entries"]

_COLUMNS = "SELECT key, version, value, tags FROM entry WHERE generation = ? AND "
_SELECT = _COLUMNS + "key = ?"
_KEYS_AT_ONCE = 64
"""Looked up by one statement, for half of what 64 statements cost; fewer keys are not worth it."""
_SELECT_SOME = _COLUMNS + f"key IN ({', '.join('?' * _KEYS_AT_ONCE)})"
_SCAN_FIRST = _COLUMNS + "key >= ? ORDER BY key LIMIT ?"
_SCAN_AFTER = _COLUMNS + "key > ? ORDER BY key LIMIT ?"
_LAST = "SELECT last FROM client WHERE name = ?"

_TAGGED = """SELECT t.channel, t.key FROM tag t CROSS JOIN channel c ON c.name = t.channel AND c.generation = t.generation
    WHERE t.tag = ? AND (t.channel, t.key) {} (?, ?) AND t.channel <= ? ORDER BY t.channel, t.key LIMIT ?"""
_TAGGED_FROM = _TAGGED.format(">=")
_TAGGED_AFTER = _TAGGED.format(">")

_DIRTY = """SELECT channel, key, version FROM dirty WHERE (channel, key) {} (?, ?) AND channel <= ?
    ORDER BY channel, key"""
_DIRTY_FROM = _DIRTY.format(">=")
_DIRTY_AFTER = _DIRTY.format(">")

_CHANNELS = "SELECT name FROM channel WHERE name = ? OR name BETWEEN ? AND ? ORDER BY name LIMIT ?"

_Raw = tuple[KeyName, int, bytes, str | None]


def read_last_mids(connection: sqlite3.Connection, clients: Sequence[str]) -> list[int]:
    """See `StateReader.last_mids`."""
    found = (connection.execute(_LAST, (client,)).fetchone() for client in clients)
    return [0 if row is None else row[0] for row in found]


def read_channels(connection: sqlite3.Connection, collection: str, limit: int) -> list[ChannelName]:
    """See `StateReader.channels`."""
    span = (collection, f"{collection}/", f"{collection}/\U0010ffff", limit)
    return [row[0] for row in connection.execute(_CHANNELS, span)]


def read_entries(
    connection: sqlite3.Connection, row: ChannelRow, keys: Sequence[KeyName]
) -> list[Entry]:
    """See `StateReader.entries`."""
    found: dict[KeyName, Entry] = {}
    num_in_bulk = len(keys) - len(keys) % _KEYS_AT_ONCE
    for start in range(0, num_in_bulk, _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        raws = connection.execute(_SELECT_SOME, (row.generation, *some))
        found.update((raw[0], _entry(row, raw)) for raw in raws)
    for key in keys[num_in_bulk:]:
        raw = connection.execute(_SELECT, (row.generation, key)).fetchone()
        if raw is not None:
            found[key] = _entry(row, raw)
    return [found[key] for key in keys if key in found]


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
        connection.execute(sql, (row.generation, after_key or "", limit + 1))
    ) as cursor:
        for raw in cursor:
            max_bytes -= len(raw[2])
            if len(entries) == limit or (max_bytes < 0 and entries):
                is_complete = False
                break
            entries.append(_entry(row, raw))
    return EntryPage(Position(row.epoch, row.top), entries, is_complete)


def _entry(row: ChannelRow, raw: _Raw) -> Entry:
    key, version, value, tags = raw
    return Entry(key, version or row.generation_at, value, tags_from_text(tags))


def read_keys_by_tag(
    connection: sqlite3.Connection,
    collection: str,
    tag: str,
    after: TaggedKey | None,
    limit: int,
) -> list[TaggedKey]:
    """See `StateReader.keys_by_tag`."""
    found: list[TaggedKey] = []
    for start, is_after, last in _spans(collection, after):
        sql = _TAGGED_AFTER if is_after else _TAGGED_FROM
        found += connection.execute(sql, (tag, *start, last, limit - len(found))).fetchall()
    return found


def read_dirty(
    connection: sqlite3.Connection,
    collection: str,
    after: TaggedKey | None,
    limit: int,
    forwarded: set[tuple[ChannelName, KeyName, int]],
) -> list[DirtyKey]:
    """See `StateReader.dirty`; what is `forwarded` is on the disk only for want of a transaction."""
    found: list[DirtyKey] = []
    for start, is_after, last in _spans(collection, after):
        sql = _DIRTY_AFTER if is_after else _DIRTY_FROM
        with contextlib.closing(connection.execute(sql, (*start, last))) as cursor:
            left = (raw for raw in cursor if raw not in forwarded)
            found += itertools.starmap(DirtyKey, itertools.islice(left, limit - len(found)))
    return found


def _spans(
    collection: str, after: TaggedKey | None
) -> Iterator[tuple[TaggedKey, bool, ChannelName]]:
    """Yield where to begin, whether after that or at it, and the last channel.

    Other names may lie between a collection and its partitions (`orders-old` before `orders/eu`), so these are two spans.
    """
    for first, last in ((collection, collection), (f"{collection}/", f"{collection}/\U0010ffff")):
        start = (ChannelName(first), KeyName(""))
        if after is not None and after >= start:
            yield after, True, ChannelName(last)
        else:
            yield start, False, ChannelName(last)
