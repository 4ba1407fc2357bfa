"""The durable log in one SQLite file: write-ahead log, `synchronous=FULL`, one exclusive connection.

Owned by the store actor, which may call from its own thread and from the loop, never from both at once. What an answered
`commit` wrote survives `kill -9` and power loss. Layout in `sqlite_file`, statements of appends in `sqlite_batch`, trimming
in `sqlite_trim`. Where statements run: `docs/adr/0002-where-sqlite-statements-run.md`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from syncd.ids import ChannelName, Epoch
from syncd.ports import (
    AppendRequest,
    AppendResult,
    ChannelHead,
    LoadedChannel,
    LogPage,
    LogQuery,
    StoredEvent,
)
from syncd.store.base import (
    EPOCH_SEED,
    NODE_SECRET,
    SECRET_BYTES,
    Slice,
    StoreOptions,
    StoreStatistics,
    TrimReport,
    derived_epoch,
)
from syncd.store.sqlite_batch import Batch
from syncd.store.sqlite_file import BACKUP_MARK, open_file, size_bytes, translated
from syncd.store.sqlite_rows import ChannelRow, ChannelRows
from syncd.store.sqlite_trim import Trimmer

__all__ = ["SqliteStore"]

_READ = "SELECT offset, at_ms, key, record FROM event WHERE channel_id = ? AND offset > ? AND offset <= ?"
_READ_UP = _READ + " ORDER BY offset LIMIT ?"
_READ_DOWN = _READ + " ORDER BY offset DESC LIMIT ?"
_SET_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"


class SqliteStore:
    """`Store` in a file; see there for what each method promises."""

    def __init__(
        self,
        path: str | Path,
        options: StoreOptions,
        *,
        lock_wait_s: float = 1.0,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Remember settings; nothing is opened.

        Args:
            path: The file; its log lies beside it as `<path>-wal`.
            options: Retention and what else is injected.
            lock_wait_s: How long `open` waits for a node that is just leaving.
            timer: Measures slices of trimming, in seconds.
        """
        self._path = Path(path)
        self._options = options
        self._lock_wait_s = lock_wait_s
        self._timer = timer
        self._batch: Batch | None = None
        self._written = self._duplicates = self._mismatches = 0
        self._trimmed = self._forgotten = 0

    def open(self) -> None:
        """See `Store.open`. A file up to 64 MiB is checked for damage; a marked copy gets new epochs."""
        self._connection = open_file(self._path, lock_wait_s=self._lock_wait_s)
        options = self._options
        try:
            self._prepare_meta()
        except BaseException:
            self._connection.close()
            raise
        self._rows = ChannelRows(self._connection, options.retention_of, options.cached_channels)
        self._trimmer = Trimmer(
            self._connection,
            self._rows,
            idempotency_s=options.idempotency_s,
            sweep_s=options.sweep_s,
        )

    def _prepare_meta(self) -> None:
        with self._transaction():
            if self.meta_get(BACKUP_MARK) is not None:
                self._begin_new_epochs()
            for key in (NODE_SECRET, EPOCH_SEED):
                if self.meta_get(key) is None:
                    self._connection.execute(_SET_META, (key, self._options.entropy(SECRET_BYTES)))
        seed = self.meta_get(EPOCH_SEED)
        assert seed is not None
        self._epoch_seed = seed

    def _begin_new_epochs(self) -> None:
        """Make every position of the original unknown here, so that the two logs are never taken for one."""
        seed = self._options.entropy(SECRET_BYTES)
        self._connection.create_function(
            "new_epoch", 1, lambda name: derived_epoch(seed, name), deterministic=True
        )
        self._connection.execute("UPDATE channel SET epoch = new_epoch(name)")
        self._connection.execute(_SET_META, (EPOCH_SEED, seed))
        self._connection.execute("DELETE FROM meta WHERE key = ?", (BACKUP_MARK,))

    # -------------------------------------------------------------------------------------------- writing

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        self._batch = pending = Batch(self._connection, self._rows, self._epoch_of)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            return pending.write(batch)
        except sqlite3.Error as error:
            self.rollback()
            raise translated(error) from error
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        """See `Store.commit`."""
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self.rollback()
            raise translated(error) from error
        batch, self._batch = self._batch, None
        if batch is not None:
            self._written += batch.num_written
            self._duplicates += batch.num_duplicates
            self._mismatches += batch.num_mismatches
            self._trimmer.note(batch.touched)
            self._rows.shrink()

    def rollback(self) -> None:
        """See `Store.rollback`."""
        batch, self._batch = self._batch, None
        if batch is not None:
            self._rows.forget(batch.touched)
        self._undo()

    def _undo(self) -> None:
        # SQLite may have undone it already, and a connection that cannot roll back will not commit either.
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def probe(self) -> None:
        """See `Store.probe`."""
        self.meta_set("probe", b"")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._undo()
            if isinstance(error, sqlite3.Error):
                raise translated(error) from error  # noqa: ASYNC104 - not async code
            raise

    # -------------------------------------------------------------------------------------------- reading

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel:
        """See `Store.load`."""
        with self._reading():
            row = self._rows.find(channel)
            if row is None:
                return LoadedChannel(self._unwritten(channel), [])
            head = row.head()
            span = (row.id, head.floor, head.top, tail_events)
            tail, _ = self._fetch(_READ_DOWN, span, tail_bytes, has_first=False)
            tail.reverse()
            return LoadedChannel(head, tail)

    def read(self, query: LogQuery) -> LogPage:
        """See `Store.read`."""
        with self._reading():
            row = self._rows.find(query.channel)
            if row is None:
                return LogPage(self._unwritten(query.channel), [], is_complete=True)
            head = row.head()
            upto = head.top if query.upto is None else query.upto
            if query.before is not None:
                upto = min(upto, query.before - 1)
            span = (row.id, max(query.after, head.floor), upto, query.limit + 1)
            sql = _READ_DOWN if query.reverse else _READ_UP
            events, fits = self._fetch(sql, span, query.max_bytes, has_first=True)
            is_complete = fits and len(events) <= query.limit
            return LogPage(head, events[: query.limit], is_complete)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translated(error) from error
        finally:
            self._rows.shrink()

    def _fetch(
        self, sql: str, span: tuple[int, int, int, int], max_bytes: int, *, has_first: bool
    ) -> tuple[list[StoredEvent], bool]:
        """Return events while they fit, and whether all did; `has_first` lets the first be of any size."""
        events: list[StoredEvent] = []
        with contextlib.closing(self._connection.execute(sql, span)) as cursor:
            for offset, at_ms, key, record in cursor:
                max_bytes -= len(record)
                if max_bytes < 0 and (events or not has_first):
                    return events, False
                events.append(StoredEvent(offset, at_ms, key, record))
        return events, True

    def _unwritten(self, channel: ChannelName) -> ChannelHead:
        return ChannelHead(self._epoch_of(channel), 0, 0)

    def _epoch_of(self, channel: ChannelName) -> Epoch:
        return derived_epoch(self._epoch_seed, channel)

    # -------------------------------------------------------------------------------------------- the rest

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`."""
        touched: set[ChannelRow] = set()
        try:
            with self._transaction():
                report = self._trimmer.run(now_ms, Slice(self._timer, budget_s), touched)
        except BaseException:
            self._rows.forget(touched)
            raise
        self._rows.shrink()
        self._trimmed += report.num_events
        self._forgotten += report.num_idempotency
        return report

    def meta_get(self, key: str) -> bytes | None:
        """See `Store.meta_get`."""
        found = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def meta_set(self, key: str, value: bytes) -> None:
        """See `Store.meta_set`."""
        with self._transaction():
            self._connection.execute(_SET_META, (key, value))

    def close(self) -> None:
        """See `Store.close`. The last connection to leave writes the log back and removes it."""
        self.rollback()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def statistics(self) -> StoreStatistics:
        """See `Store.statistics`."""
        return StoreStatistics(
            self._written,
            self._duplicates,
            self._mismatches,
            self._trimmed,
            self._forgotten,
            len(self._rows),
            size_bytes(self._path),
        )
