"""Rebuilds in the SQLite file; see `store.rebuilds`. Owned by `SqliteStore`; what it writes outside `note` is a transaction of its own.

`generation` holds a row for each scanned key: with its value if the swap is to write it, without if the entry stays as it is, because
it is the same, or was touched. A key without a row was not scanned.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from syncd.ids import ChannelName, Position
from syncd.ports import Appended, AppendRequest, AppendResult
from syncd.ports_state import Committed, EntryWrite, KeyName, MutationCommit, MutationResult
from syncd.store.loads import AloneLoads
from syncd.store.rebuilds import (
    RebuildLease,
    RebuildStanding,
    ScannedRow,
    Swapped,
    SwapPlan,
    collection_of,
)
from syncd.store.sqlite_known import KnownRows
from syncd.store.sqlite_rows import ChannelRow, ChannelRows
from syncd.store.sqlite_state import tags_from_text

__all__ = ["SqliteRebuilds"]

_FILLS, _PARTIAL = 1, 2
"""Bits of `rebuild.fills`: what kind of generation it is."""
_SPAN = "(channel = ?1 OR channel BETWEEN ?1 || '/' AND ?1 || '/' || char(1114111))"
_SELECT = (
    "SELECT job, token, expires_ms, is_open, fills, after, done FROM rebuild WHERE collection = ?"
)
_PUT = """INSERT OR REPLACE INTO rebuild (collection, job, token, expires_ms, is_open, fills, after, done)
    VALUES (?, ?, ?, ?, 1, ?, ?, ?)"""
_TOUCH = "INSERT OR REPLACE INTO generation (channel, key, is_touched, tags, value) VALUES (?, ?, 1, NULL, NULL)"
_TOUCH_DIRTY = f"""INSERT OR REPLACE INTO generation (channel, key, is_touched, tags, value)
    SELECT channel, key, 1, NULL, NULL FROM dirty WHERE {_SPAN}"""  # noqa: S608 - a constant
_CLEAR = f"DELETE FROM generation WHERE {_SPAN}"  # noqa: S608 - a constant
_ADD = """INSERT INTO generation (channel, key, is_touched, tags, value) VALUES (?, ?, 0, ?, ?)
    ON CONFLICT (channel, key) DO UPDATE SET tags = excluded.tags, value = excluded.value WHERE is_touched = 0"""
_Scanned = tuple[ChannelName, KeyName, str | None, bytes | None]

STRETCH = 4
"""Entries read for each row of a page at most, before they are read one by one: a page with gaps must not read all that lies in them."""
_SELECT_STRETCH = (
    """SELECT key, value, tags FROM entry WHERE channel_id = ? AND key BETWEEN ? AND ? LIMIT ?"""
)
_SELECT_ENTRY = "SELECT value, tags FROM entry WHERE channel_id = ? AND key = ?"
_CHANNELS = f"SELECT name FROM channel WHERE {_SPAN.replace('channel', 'name')}"  # noqa: S608 - a constant
_HAS_ROWS = "SELECT 1 FROM generation WHERE channel = ? LIMIT 1"
_NEXT_CHANNEL = (
    """SELECT channel FROM generation WHERE channel > ? AND channel < ? ORDER BY channel LIMIT 1"""
)
_FIRST_CHANNEL = "SELECT channel FROM generation ORDER BY channel LIMIT 1"
_LAST_CHANNEL = "SELECT channel FROM generation ORDER BY channel DESC LIMIT 1"
LAST = chr(1_114_111)
"""Behind every character there is."""
_CHANGED = """SELECT key, tags, value FROM generation WHERE channel = ? AND value IS NOT NULL"""
_MISSING = """FROM entry WHERE channel_id = ?1
    AND NOT EXISTS (SELECT 1 FROM generation g WHERE g.channel = ?2 AND g.key = entry.key)
    AND NOT EXISTS (SELECT 1 FROM dirty d WHERE d.channel = ?2 AND d.key = entry.key)"""
_FILL = """INSERT OR REPLACE INTO entry (channel_id, key, version, tags, value)
    SELECT ?, key, ?, tags, value FROM generation WHERE channel = ? AND value IS NOT NULL"""
_RETAG = """INSERT INTO tag (tag, channel, key) SELECT DISTINCT each.value, ?, entry.key
    FROM entry, json_each(entry.tags) AS each WHERE entry.channel_id = ? AND entry.tags IS NOT NULL"""


class _Transactions(Protocol):
    """What of its store this uses."""

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]: ...
    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...


class SqliteRebuilds:
    """`RebuildStore` in a file."""

    def __init__(
        self,
        store: _Transactions,
        connection: sqlite3.Connection,
        rows: ChannelRows,
        known: KnownRows,
        transaction: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self._store = store
        self.loads = AloneLoads()
        self._connection = connection
        self._rows = rows
        self._known = known
        self._transaction = transaction
        found = connection.execute("SELECT collection FROM rebuild WHERE is_open")
        self._open: set[str] = {row[0] for row in found}
        """Collections whose changes are marked."""

    def note(self, group: Sequence[MutationCommit], results: Sequence[MutationResult]) -> None:
        """Mark what a group has changed as touched, in its transaction."""
        if not self._open:
            return
        places = [
            (write.channel, write.key)
            for mutation, result in zip(group, results, strict=True)
            if isinstance(result, Committed)
            for write in mutation.writes
            if collection_of(write.channel) in self._open
        ]
        if places:
            self._connection.executemany(_TOUCH, places)

    # -------------------------------------------------------------------------------------------- leases

    def acquire(
        self,
        collection: str,
        job: str,
        now_ms: int,
        *,
        lease_ms: int,
        resumes: bool,
        fills: bool,
        is_partial: bool = False,
        note: bytes = b"",
        takes_over: int | None = None,
    ) -> RebuildLease | str | None:
        """See `RebuildStore.acquire`."""
        if takes_over is not None:
            return None  # nobody else has this file open
        execute, kind = self._connection.execute, fills + _PARTIAL * is_partial
        found = execute(_SELECT, (collection,)).fetchone()
        token, after, done = 1, None, 0
        is_kept = False
        if found is not None:
            if found[2] > now_ms:
                return str(found[0])
            if found[0] == job and not found[3]:
                return None
            token = found[1] + 1
            is_kept = bool((resumes or found[0] == job) and found[3] and kind == found[4] == fills)
            if is_kept:
                after, done = found[5], found[6]
        with self._transaction():
            if not is_kept:
                self._clear(collection)
                execute(_TOUCH_DIRTY, (collection,))
            execute(_PUT, (collection, job, token, now_ms + lease_ms, kind, after, done))
        self._open.add(collection)
        return RebuildLease(collection, job, token, after, done)

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.renew`."""
        with self._transaction():
            sql = "UPDATE rebuild SET expires_ms = ? WHERE collection = ? AND token = ? AND expires_ms > 0"
            expires = (now_ms + lease_ms, lease.collection, lease.token)
            return self._connection.execute(sql, expires).rowcount == 1

    def _state(self, lease: RebuildLease) -> tuple[int, int] | None:
        """Return whether the generation is open and only fills; None: the token is stale."""
        found = self._connection.execute(_SELECT, (lease.collection,)).fetchone()
        if found is None or found[1] != lease.token or not found[2] or not found[3]:
            return None
        return found[3], found[4]

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """See `RebuildStore.release`."""
        with self._transaction():
            if self._state(lease) is None:
                return False
            self._end(lease.collection, is_open=keeps_generation)
        if not keeps_generation:
            self._open.discard(lease.collection)
        return True

    def _end(self, collection: str, *, is_open: bool) -> None:
        if not is_open:
            self._clear(collection)
        sql = "UPDATE rebuild SET expires_ms = 0, is_open = ? WHERE collection = ?"
        self._connection.execute(sql, (is_open, collection))

    def revoke(self, collection: str, job: str) -> bool:
        """See `RebuildStore.revoke`."""
        found = self._connection.execute(_SELECT, (collection,)).fetchone()
        if found is None or found[0] != job or not found[3]:
            return False
        with self._transaction():
            self._end(collection, is_open=False)
        self._open.discard(collection)
        return True

    def standings(self, collections: Sequence[str], now_ms: int) -> list[RebuildStanding]:
        """See `RebuildStore.standings`: nobody else is there."""
        return []

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.hold`: nobody else is there."""
        return True

    def checkpoint(self, collection: str) -> tuple[str, int] | None:
        """See `RebuildStore.checkpoint`."""
        found = self._connection.execute(_SELECT, (collection,)).fetchone()
        return None if found is None or not found[3] else (found[0], found[6])

    # -------------------------------------------------------------------------------------------- pages

    def write_page(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, done: int
    ) -> bool:
        """See `RebuildStore.write_page`."""
        with self._transaction():
            state = self._state(lease)
            if state is None:
                return False
            fills = bool(state[1] & _FILLS)
            self._connection.executemany(_ADD, list(self._scanned(rows, fills=fills)))
            sql = "UPDATE rebuild SET after = ?, done = ? WHERE collection = ?"
            self._connection.execute(sql, (after, done, lease.collection))
        return True

    def _scanned(self, rows: Sequence[ScannedRow], *, fills: bool) -> Iterable[_Scanned]:
        """Return scanned rows, without their value if the entry is to stay as it is."""
        channels = list({row.channel for row in rows})
        known = {channel: self._entries(channel, rows) for channel in channels}
        for row in rows:
            key, channel = row.key, row.channel
            tags = json.dumps(row.tags) if row.tags else None
            found = known[channel].get(key)
            if found is not None and (fills or found == (row.value, tags)):
                yield channel, key, None, None
            else:
                yield channel, key, tags, row.value

    def _entries(
        self, name: ChannelName, rows: Sequence[ScannedRow]
    ) -> dict[KeyName, tuple[bytes, str | None]]:
        """Return the entries that a page's rows of one channel might be: a page is a stretch of keys, mostly read with one statement."""
        channel = self._rows.find(name)
        if channel is None:
            return {}
        execute = self._connection.execute
        keys = [row.key for row in rows if row.channel == name]
        most = len(keys) * STRETCH
        span = (channel.id, min(keys), max(keys), most + 1)
        found = execute(_SELECT_STRETCH, span).fetchall()
        if len(found) <= most:
            return {key: (value, tags) for key, value, tags in found}
        each = {key: execute(_SELECT_ENTRY, (channel.id, key)).fetchone() for key in keys}
        return {key: entry for key, entry in each.items() if entry is not None}

    # -------------------------------------------------------------------------------------------- the swap

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """See `RebuildStore.prepare`: so far the swap does everything."""
        return None if self._state(lease) is None else False

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """See `RebuildStore.swap`."""
        if self._state(lease) is None:
            return None
        channels = self._channels(lease.collection)
        # A swap may be larger than memory should be: what the cache cannot hold goes to the file before the commit.
        self._connection.execute("PRAGMA cache_spill = ON")
        try:
            writes = list(itertools.islice(self._writes(channels, plan), plan.max_events + 1))
            if len(writes) > plan.max_events:
                swapped = self._swap_whole(channels, plan)
            else:
                swapped = self._swap_each(writes, plan)
            self._end(lease.collection, is_open=False)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        finally:
            self._connection.execute("PRAGMA cache_spill = OFF")
        self._open.discard(lease.collection)
        self._known.clear()
        return swapped

    def _channels(self, collection: str) -> list[ChannelName]:
        """Return the channels that have rows scanned or entries."""
        execute = self._connection.execute
        found = {row[0] for row in execute(_CHANNELS, (collection,))}
        if execute(_HAS_ROWS, (collection,)).fetchone() is not None:
            found.add(collection)
        at, end = f"{collection}/", f"{collection}/{LAST}"
        while (row := execute(_NEXT_CHANNEL, (at, end)).fetchone()) is not None:
            at = row[0]
            found.add(at)
        return [ChannelName(name) for name in sorted(found)]

    def _clear(self, collection: str) -> None:
        """Delete the rows of a generation: all pages at once where there are no others, which is nearly always."""
        execute = self._connection.execute
        first, last = (execute(sql).fetchone() for sql in (_FIRST_CHANNEL, _LAST_CHANNEL))
        if first is None:
            return
        # Between `orders` and `orders/eu` lies `orders-old`, so a span of several has to be of partitions alone.
        is_one = first == last or first[0].startswith(f"{collection}/")
        if is_one and collection_of(first[0]) == collection_of(last[0]) == collection:
            execute("DELETE FROM generation")
        else:
            execute(_CLEAR, (collection,))

    def _writes(self, channels: Iterable[ChannelName], plan: SwapPlan) -> Iterable[EntryWrite]:
        execute, record = self._connection.execute, plan.entry_record
        for channel in channels:
            for key, tags, value in execute(_CHANGED, (channel,)):
                yield EntryWrite(channel, key, value, record(key, value), tags_from_text(tags))
            row = self._rows.find(channel)
            for key in self._missing(row, channel, plan):
                yield EntryWrite(channel, key, None, record(key, None))

    def _missing(
        self, row: ChannelRow | None, channel: ChannelName, plan: SwapPlan
    ) -> Iterable[KeyName]:
        """Return the entries of a channel that are to be deleted because they were not scanned."""
        if row is None or not plan.deletes_missing:
            return
        execute = self._connection.execute
        if plan.among is None:
            for (key,) in execute(f"SELECT key {_MISSING}", (row.id, channel)):
                yield key
            return
        for of_channel, key in plan.among:
            if of_channel == channel:
                found = f"SELECT 1 {_MISSING} AND entry.key = ?3"
                if execute(found, (row.id, channel, key)).fetchone() is not None:
                    yield key

    def _swap_each(self, writes: list[EntryWrite], plan: SwapPlan) -> Swapped:
        commit = MutationCommit(None, 0, [], writes, b"", plan.at_ms)
        result = self._store.begin_commit([commit])[0]
        assert isinstance(result, Committed), "it has no number, no key and has read nothing"
        return Swapped(len(writes), result.positions, writes, result.versions)

    def _swap_whole(self, channels: Sequence[ChannelName], plan: SwapPlan) -> Swapped:
        num_changed, positions = 0, {}
        self._store.begin([])
        for channel in channels:
            row = self._rows.find(channel)
            missing = list(self._missing(row, channel, plan))
            filled = "SELECT count(*) FROM generation WHERE channel = ? AND value IS NOT NULL"
            count = len(missing) + self._count(filled, (channel,))
            if count:
                request = AppendRequest(channel, plan.whole_record, plan.at_ms)
                appended = self._store.begin([request])[0]
                assert isinstance(appended, Appended), "it has no idempotency key"
                positions[channel] = Position(appended.epoch, appended.offset)
                self._swap_channel(channel, appended.offset, missing)
                num_changed += count
        return Swapped(num_changed, positions)

    def _count(self, sql: str, values: tuple[object, ...]) -> int:
        return int(self._connection.execute(sql, values).fetchone()[0])

    def _swap_channel(self, channel: ChannelName, offset: int, missing: Sequence[KeyName]) -> None:
        """Write a channel's rows, all at one version; what its log tells of before is not how this came about, so it ends."""
        execute, row = self._connection.execute, self._rows.find(channel)
        assert row is not None, "an event was appended"
        execute(_FILL, (row.id, offset, channel))
        delete = "DELETE FROM entry WHERE channel_id = ? AND key = ?"
        self._connection.executemany(delete, [(row.id, key) for key in missing])
        execute("DELETE FROM tag WHERE channel = ?", (channel,))
        execute(_RETAG, (channel, row.id))
        self._cut_log(row, offset)

    def _cut_log(self, row: ChannelRow, offset: int) -> None:
        self._connection.execute("DELETE FROM event WHERE channel_id = ?", (row.id,))
        row.floor, row.num_events = offset, 0
        count = "SELECT count(*) FROM entry WHERE channel_id = ?"
        row.num_entries = self._count(count, (row.id,))
        self._rows.save([row])
