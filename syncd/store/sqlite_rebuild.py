"""Rebuilds in the SQLite file; see `store.rebuilds`. Owned by `SqliteStore`; what it writes outside `note` is a transaction of its own.

Scanned rows are written once, as a generation of their own (`sqlite_generations`); the swap lets it be served. What can be done before that is done in slices
(`sqlite_preparing`), what is left of former generations is deleted in slices (`sqlite_trim`): no transaction here grows with the collection.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended, AppendRequest, AppendResult
from syncd.ports_state import (
    Committed,
    EntryWrite,
    MutationCommit,
    MutationResult,
    TaggedKey,
)
from syncd.store.base import Slice
from syncd.store.loads import AloneLoads
from syncd.store.preparing import MAX_LISTED, ByLease
from syncd.store.rebuilds import (
    RebuildLease,
    RebuildStanding,
    ScannedRow,
    Swapped,
    SwapPlan,
    collection_of,
)
from syncd.store.sqlite_file import BULK_WAL_PAGES, WAL_PAGES
from syncd.store.sqlite_generations import Generations
from syncd.store.sqlite_preparing import Preparing
from syncd.store.sqlite_rows import ChannelRows
from syncd.store.sqlite_state import tags_from_text

__all__ = ["SqliteRebuilds"]

_FILLS, _PARTIAL = 1, 2
"""Bits of `rebuild.fills`: what kind of generation it is."""
_SELECT = "SELECT job, token, expires_ms, is_open, fills, after, done, is_mixed FROM rebuild WHERE collection = ?"
_PUT = """INSERT OR REPLACE INTO rebuild (collection, job, token, expires_ms, is_open, fills, after, done, is_mixed)
    VALUES (?, ?, ?, ?, 1, ?, ?, ?, 0)"""
_CHANGED = """SELECT g.channel, e.key, e.tags, e.value FROM generation g CROSS JOIN changed c ON c.generation = g.id
    JOIN entry e ON e.generation = g.id AND e.key = c.key
    WHERE g.state = 0 AND g.collection = ? AND e.version = 0
        AND NOT EXISTS (SELECT 1 FROM touched t WHERE t.generation = g.id AND t.key = c.key)
    ORDER BY g.channel, e.key"""
_IS_MISSING = """SELECT 1 FROM entry WHERE generation = ?1 AND key = ?3
    AND NOT EXISTS (SELECT 1 FROM touched WHERE generation = ?2 AND key = ?3)"""


class _Store(Protocol):
    """What of its store this uses."""

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]: ...
    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...


@attrs.define(eq=False)
class _Rebuild:
    """A row of `rebuild`."""

    job: str
    token: int
    expires_ms: int
    is_open: bool
    kind: int
    after: str | None
    done: int
    is_mixed: bool
    """Its generations have entries that were not scanned: what is scanned later would not be told from them."""


class SqliteRebuilds:
    """`RebuildStore` in a file."""

    def __init__(
        self,
        store: _Store,
        connection: sqlite3.Connection,
        rows: ChannelRows,
        transaction: Callable[[], contextlib.AbstractContextManager[None]],
        timer: Callable[[], float],
    ) -> None:
        self._store = store
        self.loads = AloneLoads()
        self._connection = connection
        self._rows = rows
        self._transaction = transaction
        self._timer = timer
        self._generations = Generations(connection, rows)
        self._preparing: ByLease[Preparing] = ByLease()
        self._open: frozenset[str] | None = None
        """Collections whose changes are marked; None: to be looked up."""

    def note(self, group: Sequence[MutationCommit], results: Sequence[MutationResult]) -> None:
        """Mark what a group has changed as touched, in its transaction."""
        if self._open is None:
            found = self._connection.execute("SELECT collection FROM rebuild WHERE is_open")
            self._open = frozenset(row[0] for row in found)
        if not self._open:
            return
        touched: dict[str, list[TaggedKey]] = {}
        for mutation, result in zip(group, results, strict=True):
            if isinstance(result, Committed):
                for write in mutation.writes:
                    collection = collection_of(write.channel)
                    if collection in self._open:
                        touched.setdefault(collection, []).append((write.channel, write.key))
        for collection, places in touched.items():
            self._generations.touch(collection, places)
            preparing = self._preparing.under_way(collection)
            if preparing is not None:
                preparing.touch(places)

    def forget(self) -> None:
        """A transaction was undone: what was remembered of it is not so."""
        self._generations.forget()
        self._open = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._transaction():
                yield
        except BaseException:
            self.forget()
            raise

    @contextlib.contextmanager
    def _writing_lazily(self) -> Iterator[None]:
        """Write a transaction that the next durable one makes durable: lost with the power before, its rows are scanned again.

        It writes so much that it checkpoints oftener than others, so that no checkpoint of it is long.
        """
        execute = self._connection.execute
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA wal_autocheckpoint = {BULK_WAL_PAGES}").fetchall()
        try:
            with self._writing():
                yield
        finally:
            execute("PRAGMA synchronous = FULL")
            execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}").fetchall()

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
        kind, found = fills + _PARTIAL * is_partial, self._find(collection)
        token, after, done, is_kept = 1, None, 0, False
        if found is not None:
            if found.expires_ms > now_ms:
                return found.job
            if found.job == job and not found.is_open:
                return None
            token = found.token + 1
            goes_on = resumes or found.job == job
            is_same = found.is_open and kind == found.kind == fills
            is_kept = goes_on and is_same and not found.is_mixed
            if is_kept:
                after, done = found.after, found.done
        with self._writing():
            if not is_kept:
                self._generations.open_new(collection)
            row = (collection, job, token, now_ms + lease_ms, kind, after, done)
            self._connection.execute(_PUT, row)
        self._begin_anew(collection)
        return RebuildLease(collection, job, token, after, done)

    def _find(self, collection: str) -> _Rebuild | None:
        found = self._connection.execute(_SELECT, (collection,)).fetchone()
        return None if found is None else _Rebuild(*found)

    def _held(self, lease: RebuildLease) -> _Rebuild | None:
        """Return the rebuild of a lease; None: the token is stale."""
        found = self._find(lease.collection)
        if found is None or found.token != lease.token or not found.expires_ms:
            return None
        return found if found.is_open else None

    def _begin_anew(self, collection: str) -> None:
        """A rebuild began or ended: what was remembered of the one before it is over."""
        self._preparing.forget(collection)
        self.forget()

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.renew`."""
        with self._writing():
            sql = "UPDATE rebuild SET expires_ms = ? WHERE collection = ? AND token = ? AND expires_ms > 0"
            expires = (now_ms + lease_ms, lease.collection, lease.token)
            return self._connection.execute(sql, expires).rowcount == 1

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """See `RebuildStore.release`."""
        with self._writing():
            if self._held(lease) is None:
                return False
            self._end(lease.collection, is_open=keeps_generation)
        self._begin_anew(lease.collection)
        return True

    def _end(self, collection: str, *, is_open: bool) -> None:
        if not is_open:
            self._generations.end(collection)
        sql = "UPDATE rebuild SET expires_ms = 0, is_open = ? WHERE collection = ?"
        self._connection.execute(sql, (is_open, collection))

    def revoke(self, collection: str, job: str) -> bool:
        """See `RebuildStore.revoke`."""
        found = self._find(collection)
        if found is None or found.job != job or not found.is_open:
            return False
        with self._writing():
            self._end(collection, is_open=False)
        self._begin_anew(collection)
        return True

    def standings(self, collections: Sequence[str], now_ms: int) -> list[RebuildStanding]:
        """See `RebuildStore.standings`: nobody else is there."""
        return []

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.hold`: nobody else is there."""
        return True

    def checkpoint(self, collection: str) -> tuple[str, int] | None:
        """See `RebuildStore.checkpoint`."""
        found = self._find(collection)
        return None if found is None or not found.is_open else (found.job, found.done)

    # -------------------------------------------------------------------------------------------- pages

    def write_page(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, done: int
    ) -> bool:
        """See `RebuildStore.write_page`."""
        with self._writing_lazily():
            found = self._held(lease)
            if found is None:
                return False
            self._generations.write(lease.collection, rows, fills=bool(found.kind & _FILLS))
            sql = "UPDATE rebuild SET after = ?, done = ? WHERE collection = ?"
            self._connection.execute(sql, (after, done, lease.collection))
        return True

    # -------------------------------------------------------------------------------------------- the swap

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """See `RebuildStore.prepare`."""
        time_slice = Slice(self._timer, budget_s)
        try:
            with self._writing_lazily():
                if self._held(lease) is None:
                    return None
                return self._prepared(lease, plan).go_on(time_slice)
        except BaseException:
            self._preparing.forget(lease.collection)
            raise

    def _prepared(self, lease: RebuildLease, plan: SwapPlan) -> Preparing:
        about = (self._connection, self._rows, self._generations, lease.collection, plan)
        return self._preparing.of(lease, lambda: Preparing(*about))

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """See `RebuildStore.swap`."""
        if self._held(lease) is None:
            return None
        try:
            self._store.begin([])
            prepared = self._prepared(lease, plan)
            prepared.finish()
            writes = self._writes(lease.collection, plan, prepared)
            if writes is None:
                swapped = self._swap_whole(lease.collection, plan, prepared)
            else:
                swapped = self._swap_each(writes, plan)
            self._end(lease.collection, is_open=False)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        finally:
            self._begin_anew(lease.collection)
        return swapped

    def _writes(
        self, collection: str, plan: SwapPlan, prepared: Preparing
    ) -> list[EntryWrite] | None:
        """Return what changes one by one; None: it is more than is told so."""
        most, record = plan.max_events, plan.entry_record
        if self._generations.of(collection).num_listed > MAX_LISTED or not prepared.lists_missing:
            return None
        missing = list(filter(self._is_missing(collection), prepared.missing))
        changed = self._connection.execute(_CHANGED, (collection,)).fetchall()
        if len(changed) + len(missing) > most:
            return None
        writes = [
            EntryWrite(channel, key, value, record(key, value), tags_from_text(tags))
            for channel, key, tags, value in changed
        ]
        return writes + [EntryWrite(*place, None, record(place[1], None)) for place in missing]

    def _is_missing(self, collection: str) -> Callable[[TaggedKey], bool]:
        """Return what tells whether an entry that was missing is there, and was not touched since."""
        opened, execute = self._generations.of(collection).of_channel, self._connection.execute

        def is_missing(place: TaggedKey) -> bool:
            row = self._rows.find(place[0])
            if row is None:
                return False
            about = (row.generation, opened[place[0]].id, place[1])
            return execute(_IS_MISSING, about).fetchone() is not None

        return is_missing

    def _swap_each(self, writes: list[EntryWrite], plan: SwapPlan) -> Swapped:
        commit = MutationCommit(None, 0, [], writes, b"", plan.at_ms)
        result = self._store.begin_commit([commit])[0]
        assert isinstance(result, Committed), "it has no number, no key and has read nothing"
        return Swapped(len(writes), result.positions, writes, result.versions)

    def _swap_whole(self, collection: str, plan: SwapPlan, prepared: Preparing) -> Swapped:
        """Let the new generation of each changed channel be its entries; what its log tells of before is not how this came about, so it ends."""
        changes, positions = prepared.changes(), dict[ChannelName, Position]()
        for channel in changes:
            appended = self._store.begin([AppendRequest(channel, plan.whole_record, plan.at_ms)])[0]
            assert isinstance(appended, Appended), "it has no idempotency key"
            row = self._rows.find(channel)
            assert row is not None, "an event was appended"
            offset = row.floor = appended.offset
            generation = self._generations.of_channel(collection, channel)
            self._generations.serve(generation, row, offset, collection)
            self._rows.save([row])
            positions[channel] = Position(appended.epoch, offset)
        return Swapped(sum(changes.values()), positions)
