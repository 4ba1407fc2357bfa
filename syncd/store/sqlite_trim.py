"""Deleting from the SQLite log what retention no longer covers, in slices. Owned by `SqliteStore`.

Two ways lead here: channels that grew past their size are noted by appends and trimmed soon; a walk over all channels, once
a minute or so, finds those whose events grew too old, or lie below the floor since a rebuild was swapped in, and with them what else has an age (`sqlite_forget`). What is left of former
generations of entries goes last (`sqlite_generations`). Each slice is one transaction; nothing but the position of the walk is
kept between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from syncd.ids import ChannelName
from syncd.store.base import Slice, StoreOptions, TrimReport, cutoff_ms
from syncd.store.sqlite_batch import convert, drop_oldest
from syncd.store.sqlite_forget import Forgetter, Forgotten
from syncd.store.sqlite_generations import DeadGenerations
from syncd.store.sqlite_rows import ChannelRow, ChannelRows

__all__ = ["Trimmer"]

_EVENTS_A_STEP = 256
"""Deleted at once; some 0.3 ms, so that a slice keeps to its time."""

_CHANNELS_A_STEP = 64
_SLACK = 64

_COUNT_BELOW = (
    "SELECT count(*) FROM (SELECT 1 FROM event WHERE channel_id = ? AND offset <= ? LIMIT ?)"
)
_OLDEST_AT = "SELECT at_ms FROM event WHERE channel_id = ? ORDER BY offset LIMIT ?"


class Trimmer:
    """Where trimming stands."""

    def __init__(
        self, connection: sqlite3.Connection, rows: ChannelRows, options: StoreOptions
    ) -> None:
        self._connection = connection
        self._rows = rows
        self._forgetter = Forgetter(connection, options)
        self._dead = DeadGenerations(connection)
        self._sweep_ms = int(options.sweep_s * 1000)
        self._too_large: dict[ChannelName, None] = {}
        self._sweep_at: int | None = None
        """The next channel id to look at; None between two walks."""
        self._next_sweep_ms: int | None = None

    def note(self, touched: Iterable[ChannelRow]) -> None:
        """Remember streams that grew well past their size: by a quarter, so that the work is worth a transaction."""
        for row in touched:
            size = row.retention.size
            if row.num_events > size + size // 4 + _SLACK:
                self._too_large[row.name] = None

    def run(self, now_ms: int, time_slice: Slice, touched: set[ChannelRow]) -> TrimReport:
        """Do one slice of work inside the open transaction; changed rows are added to `touched`."""
        events = self._trim_large(now_ms, time_slice, touched)
        forgotten = Forgotten()
        if not self._too_large and self._is_sweeping(now_ms):
            forgotten = self._forgetter.run(now_ms, time_slice)
            if self._forgetter.is_done:
                events += self._sweep(now_ms, time_slice, touched)
        self._rows.save(touched)
        has_dead = self._dead.sweep(time_slice)
        has_more = bool(self._too_large) or self._sweep_at is not None or has_dead
        return TrimReport(
            events,
            forgotten.idempotency,
            has_more,
            num_outcomes=forgotten.outcomes,
            num_clients=forgotten.clients,
        )

    def _trim_large(self, now_ms: int, time_slice: Slice, touched: set[ChannelRow]) -> int:
        deleted = 0
        while self._too_large and not time_slice.is_over():
            row = self._rows.find(next(iter(self._too_large)))
            step = self._trim_step(row, now_ms, touched) if row is not None else 0
            deleted += step
            if step < _EVENTS_A_STEP:
                del self._too_large[next(iter(self._too_large))]
        return deleted

    def _trim_step(self, row: ChannelRow, now_ms: int, touched: set[ChannelRow]) -> int:
        """Delete up to one step's worth of a channel's oldest events."""
        if not row.is_converted:
            touched.add(row)
            convert(self._connection, row)
        count = self._num_expired(row, now_ms)
        if count:
            touched.add(row)
            drop_oldest(self._connection, row, count)
        return count

    def _num_expired(self, row: ChannelRow, now_ms: int) -> int:
        below = (row.id, row.floor, _EVENTS_A_STEP)
        (cut,) = self._connection.execute(_COUNT_BELOW, below).fetchone()
        over = max(int(cut), min(row.num_events - row.retention.size, _EVENTS_A_STEP))
        cutoff = cutoff_ms(now_ms, row.retention.age_s)
        if over <= 0:
            over = 0
            oldest = self._connection.execute(_OLDEST_AT, (row.id, 1)).fetchone()
            if oldest is None or oldest[0] >= cutoff:
                return 0
        at = self._connection.execute(_OLDEST_AT, (row.id, _EVENTS_A_STEP)).fetchall()
        while over < len(at) and at[over][0] < cutoff:
            over += 1
        return over

    def _is_sweeping(self, now_ms: int) -> bool:
        is_due = self._next_sweep_ms is None or now_ms >= self._next_sweep_ms
        if self._sweep_at is None and is_due:
            self._sweep_at = 1
            self._forgetter.restart()
            self._next_sweep_ms = now_ms + self._sweep_ms
        return self._sweep_at is not None

    def _sweep(self, now_ms: int, time_slice: Slice, touched: set[ChannelRow]) -> int:
        last = self._connection.execute("SELECT coalesce(max(id), 0) FROM channel").fetchone()[0]
        deleted = 0
        while self._sweep_at is not None:
            until = self._sweep_at + _CHANNELS_A_STEP - 1
            for row in self._rows.between(self._sweep_at, until):
                if time_slice.is_over():
                    return deleted
                deleted += self._visit(row, now_ms, touched)
                self._sweep_at = row.id + 1
            self._sweep_at = until + 1 if until < last else None
        return deleted

    def _visit(self, row: ChannelRow, now_ms: int, touched: set[ChannelRow]) -> int:
        if row.num_events == 0:
            return 0
        deleted = self._trim_step(row, now_ms, touched)
        if deleted == _EVENTS_A_STEP:
            self._too_large[row.name] = None
        return deleted
