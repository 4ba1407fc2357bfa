"""Channel rows in memory, in front of their table. Owned by `SqliteStore`; valid only because nobody else writes the file.

Invariant: outside a transaction a cached row equals the row on disk. Whoever changes one inside a transaction names it in
`touched`, and `forget` drops it when the transaction does not commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import attrs

from syncd.ids import ChannelName, Epoch
from syncd.ports_log import ChannelHead
from syncd.store.base import Retention, RetentionOf, effective_floor

__all__ = ["ChannelRow", "ChannelRows"]

_COLUMNS = (
    "id, name, epoch, top, floor, num_events, is_latest, num_entries, generation, generation_at"
)
_SELECT = f"SELECT {_COLUMNS} FROM channel WHERE name = ?"  # noqa: S608 - a constant
_SELECT_IDS = f"SELECT {_COLUMNS} FROM channel WHERE id BETWEEN ? AND ?"  # noqa: S608 - a constant
_INSERT = """INSERT INTO channel (id, name, epoch, top, floor, num_events, is_latest, generation)
    SELECT id, ?, ?, 0, 0, 0, ?, id FROM (SELECT coalesce(max(id), 0) + 1 AS id FROM channel)"""
_UPDATE = "UPDATE channel SET top = ?, floor = ?, num_events = ?, is_latest = ?, num_entries = ? WHERE id = ?"

_SWAP = "UPDATE channel SET generation = ?, generation_at = ? WHERE id = ?"

_Raw = tuple[int, str, str, int, int, int, int, int, int, int]


@attrs.define(eq=False)
class ChannelRow:
    """One channel: where its log begins and ends, and how much of it lies on disk."""

    id: int
    name: ChannelName
    epoch: Epoch
    top: int
    floor: int
    num_events: int
    """Events on disk, trimmed ones gone."""
    retention: Retention
    is_converted: bool
    """False: the events lie there as the namespace's former mode left them."""
    num_entries: int = 0
    """Of a collection; those that `scan` goes through."""
    generation: int = 0
    """Which entries are the channel's."""
    generation_at: int = 0
    """Version of those entries that have none of their own: the offset at which their generation was swapped in."""

    def head(self) -> ChannelHead:
        """Return what others may know."""
        return ChannelHead(
            self.epoch, self.top, effective_floor(self.floor, self.top, self.retention)
        )


class ChannelRows:
    """The rows of channels that were used lately, least recently used ones dropped."""

    def __init__(
        self, connection: sqlite3.Connection, retention_of: RetentionOf, capacity: int
    ) -> None:
        self._connection = connection
        self._retention_of = retention_of
        self._capacity = capacity
        self._rows: dict[ChannelName, ChannelRow] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: ChannelName) -> ChannelRow | None:
        """Return a channel's row, or None if nothing was ever written to it."""
        row = self._rows.pop(name, None)
        if row is None:
            raw = self._connection.execute(_SELECT, (name,)).fetchone()
            if raw is None:
                return None
            row = self._row_from_raw(raw)
        self._rows[name] = row
        return row

    def create(self, name: ChannelName, epoch: Epoch) -> ChannelRow:
        """Insert a channel, in the open transaction."""
        retention = self._retention_of(name)
        cursor = self._connection.execute(_INSERT, (name, epoch, retention.is_latest))
        assert cursor.lastrowid is not None
        row_id = cursor.lastrowid
        row = ChannelRow(row_id, name, epoch, 0, 0, 0, retention, is_converted=True)
        row.generation = row_id
        self._rows[name] = row
        return row

    def between(self, first: int, last: int) -> list[ChannelRow]:
        """Return the rows of a range of ids, without making them recently used."""
        raws = self._connection.execute(_SELECT_IDS, (first, last)).fetchall()
        return [self._rows.get(raw[1]) or self._row_from_raw(raw) for raw in raws]

    def save(self, touched: Iterable[ChannelRow]) -> None:
        """Write rows back, in the open transaction."""
        self._connection.executemany(
            _UPDATE,
            [
                (r.top, r.floor, r.num_events, r.retention.is_latest, r.num_entries, r.id)
                for r in touched
            ],
        )

    def swap(self, row: ChannelRow, generation: int, offset: int) -> None:
        """Let a channel have other entries, in the open transaction; the row is saved with the rest of it."""
        row.generation, row.generation_at = generation, offset
        self._connection.execute(_SWAP, (generation, offset, row.id))

    def forget(self, touched: Iterable[ChannelRow]) -> None:
        """Drop rows whose transaction was undone."""
        for row in touched:
            self._rows.pop(row.name, None)

    def shrink(self) -> None:
        """Drop the least recently used rows over capacity; between transactions, so that none with changes is lost."""
        while len(self._rows) > self._capacity:
            del self._rows[next(iter(self._rows))]

    def _row_from_raw(self, raw: _Raw) -> ChannelRow:
        row_id, name, epoch, top, floor, num_events, was_latest, num_entries, *entries = raw
        channel = ChannelName(name)
        retention = self._retention_of(channel)
        is_converted = bool(was_latest) == retention.is_latest
        if was_latest and not retention.is_latest:
            # Superseded events left holes, which a stream may not have: nothing before now can be recovered.
            floor = top
        return ChannelRow(
            row_id,
            channel,
            Epoch(epoch),
            top,
            floor,
            num_events,
            retention,
            is_converted,
            num_entries,
            *entries,
        )
