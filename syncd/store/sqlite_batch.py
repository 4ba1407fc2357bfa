"""The write statements of appends in one transaction. Made by the first `SqliteStore.begin`, gone when the transaction ends.

Mutations add their events here too (`sqlite_state`), so that each channel has one writer. Streams gather their rows and insert them in one go; latest channels, where a row may replace one of the same batch, write at
once. Invariant: rows in `touched` differ from the disk until the commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports_log import Appended, AppendRequest, AppendResult, IdempotencyKey
from syncd.store.base import mismatch
from syncd.store.sqlite_rows import ChannelRow, ChannelRows

__all__ = ["Batch", "convert", "drop_oldest"]

_INSERT_EVENT = "INSERT INTO event (channel_id, offset, at_ms, key, record) VALUES (?, ?, ?, ?, ?)"
_INSERT_KNOWN = """INSERT INTO idempotency (identity, operation, key, hash, channel_id, offset, at_ms)
    VALUES (?, ?, ?, ?, ?, ?, ?)"""
_SELECT_KNOWN = """SELECT i.hash, c.epoch, i.offset FROM idempotency i JOIN channel c ON c.id = i.channel_id
    WHERE i.identity = ? AND i.operation = ? AND i.key = ?"""
_SELECT_LATEST = "SELECT offset FROM latest WHERE channel_id = ? AND key = ?"
_REPLACE_LATEST = "INSERT OR REPLACE INTO latest (channel_id, key, offset) VALUES (?, ?, ?)"
_DELETE_LATEST = "DELETE FROM latest WHERE channel_id = ? AND key = ?"
_DELETE_EVENT = "DELETE FROM event WHERE channel_id = ? AND offset = ?"
_DELETE_UPTO = "DELETE FROM event WHERE channel_id = ? AND offset <= ?"
_SELECT_OLDEST = "SELECT offset, key FROM event WHERE channel_id = ? ORDER BY offset LIMIT ?"

_Event = tuple[int, int, int, str | None, bytes]
_Known = tuple[str, str, str, bytes, int, int, int]
_KnownKey = tuple[str, str, str]


class Batch:
    """What one transaction changes in the logs."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        rows: ChannelRows,
        epoch_of: Callable[[ChannelName], Epoch],
    ) -> None:
        self.touched: set[ChannelRow] = set()
        self.num_written = self.num_duplicates = self.num_mismatches = 0
        self._connection = connection
        self.rows = rows
        self._epoch_of = epoch_of
        self._events: list[_Event] = []
        self._new_known: list[_Known] = []
        self._unsaved: set[ChannelRow] = set()
        self._known_here: dict[_KnownKey, tuple[bytes, Epoch, int]] = {}

    def write(self, requests: Sequence[AppendRequest]) -> list[AppendResult]:
        """Run all statements but BEGIN and COMMIT."""
        results = [self._append(request) for request in requests]
        self.flush()
        return results

    def append_event(
        self, channel: ChannelName, at_ms: int, key: str | None, record: bytes
    ) -> tuple[ChannelRow, int]:
        """Give an event its offset; it lies in the log after `flush`."""
        row = self._row_of(channel)
        offset = row.top = row.top + 1
        event = (row.id, offset, at_ms, key, record)
        if row.retention.is_latest:
            self._write_latest(row, event)
        else:
            self._events.append(event)
        row.num_events += 1
        self.num_written += 1
        return row, offset

    def flush(self) -> None:
        """Run the statements that were put off."""
        execute_many = self._connection.executemany
        if self._events:
            execute_many(_INSERT_EVENT, self._events)
            self._events = []
        if self._new_known:
            execute_many(_INSERT_KNOWN, self._new_known)
            self._new_known = []
        for row in self._unsaved:
            if row.retention.is_latest and row.num_events > row.retention.size:
                drop_oldest(self._connection, row, row.num_events - row.retention.size)
        self.rows.save(self._unsaved)
        self._unsaved.clear()

    def _append(self, request: AppendRequest) -> AppendResult:
        idempotency = request.idempotency
        if idempotency is not None:
            known = self._find_known(idempotency)
            if known is not None:
                return known
        row, offset = self.append_event(request.channel, request.at_ms, request.key, request.record)
        if idempotency is not None:
            self._remember(idempotency, row, offset, request.at_ms)
        return Appended(row.epoch, offset)

    def _row_of(self, channel: ChannelName) -> ChannelRow:
        row = self.rows.find(channel)
        if row is None:
            row = self.rows.create(channel, self._epoch_of(channel))
        if row not in self._unsaved:
            self._unsaved.add(row)
            self.touched.add(row)
            if not row.is_converted:
                convert(self._connection, row)
        return row

    def _write_latest(self, row: ChannelRow, event: _Event) -> None:
        execute = self._connection.execute
        place = (row.id, _key_column(event[3]))
        old = execute(_SELECT_LATEST, place).fetchone()
        if old is not None:
            execute(_DELETE_EVENT, (row.id, old[0]))
            row.num_events -= 1
        execute(_REPLACE_LATEST, (*place, event[1]))
        execute(_INSERT_EVENT, event)

    def _find_known(self, idempotency: IdempotencyKey) -> Appended | SyncdError | None:
        name = (idempotency.identity, idempotency.operation, idempotency.key)
        known = self._known_here.get(name)
        if known is None:
            known = self._connection.execute(_SELECT_KNOWN, name).fetchone()
            if known is None:
                return None
        request_hash, epoch, offset = known
        if request_hash != idempotency.request_hash:
            self.num_mismatches += 1
            return mismatch()
        self.num_duplicates += 1
        return Appended(Epoch(epoch), offset, is_duplicate=True)

    def _remember(
        self, idempotency: IdempotencyKey, row: ChannelRow, offset: int, at_ms: int
    ) -> None:
        name = (idempotency.identity, idempotency.operation, idempotency.key)
        self._known_here[name] = (idempotency.request_hash, row.epoch, offset)
        self._new_known.append((*name, idempotency.request_hash, row.id, offset, at_ms))


def _key_column(key: str | None) -> str | int:
    """Return a key as it stands in `latest`: none at all is a key like others, and 0 is no text."""
    return 0 if key is None else key


def drop_oldest(connection: sqlite3.Connection, row: ChannelRow, count: int) -> None:
    """Delete a channel's oldest events and move its floor to the newest of them, in the open transaction."""
    oldest = connection.execute(_SELECT_OLDEST, (row.id, count)).fetchall()
    if not oldest:
        return
    if row.retention.is_latest:
        keys = [(row.id, _key_column(key)) for _, key in oldest]
        connection.executemany(_DELETE_LATEST, keys)
    newest = oldest[-1][0]
    row.floor = max(row.floor, newest)
    row.num_events -= connection.execute(_DELETE_UPTO, (row.id, newest)).rowcount


def convert(connection: sqlite3.Connection, row: ChannelRow) -> None:
    """Bring a channel's events into the shape of its namespace's present mode, in the open transaction."""
    here = (row.id,)
    if row.retention.is_latest:
        connection.execute(
            """INSERT INTO latest SELECT channel_id, coalesce(key, 0), max(offset) FROM event
            WHERE channel_id = ? GROUP BY key""",
            here,
        )
        connection.execute(
            """DELETE FROM event WHERE channel_id = ?
            AND offset NOT IN (SELECT offset FROM latest WHERE channel_id = ?)""",
            (row.id, row.id),
        )
    else:
        connection.execute("DELETE FROM event WHERE channel_id = ?", here)
        connection.execute("DELETE FROM latest WHERE channel_id = ?", here)
    count = "SELECT count(*) FROM event WHERE channel_id = ?"
    row.num_events = connection.execute(count, here).fetchone()[0]
    row.is_converted = True
