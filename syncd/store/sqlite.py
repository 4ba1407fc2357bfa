"""The durable log in one SQLite file: write-ahead log, `synchronous=FULL`, one exclusive connection.

Owned by the store actor, which may call from its own thread and from the loop, never from both at once. What an answered
`commit` wrote survives `kill -9` and power loss. Layout in `sqlite_file`, statements of appends in `sqlite_batch`, trimming
in `sqlite_trim`; mutations in `sqlite_state`, reads of entries in `sqlite_entries`. Where statements run: `docs/adr/0002-where-sqlite-statements-run.md`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import (
    AppendRequest,
    AppendResult,
    ChannelHead,
    LoadedChannel,
    LogPage,
    LogQuery,
    StoredEvent,
)
from syncd.ports_state import (
    DirtyKey,
    Entry,
    EntryPage,
    KeyName,
    MutationCommit,
    MutationResult,
    TaggedKey,
)
from syncd.store.alone import AloneReads
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
from syncd.store.sqlite_acks import Acknowledged
from syncd.store.sqlite_backup import Copying
from syncd.store.sqlite_batch import Batch
from syncd.store.sqlite_entries import (
    read_channels,
    read_dirty,
    read_entries,
    read_keys_by_tag,
    read_last_mids,
    scan_entries,
)
from syncd.store.sqlite_file import BACKUP_MARK, open_file, size_bytes, translated
from syncd.store.sqlite_known import KnownRows
from syncd.store.sqlite_rebuild import SqliteRebuilds
from syncd.store.sqlite_rows import ChannelRow, ChannelRows
from syncd.store.sqlite_state import Mutations
from syncd.store.sqlite_trim import Trimmer

__all__ = ["SqliteStore"]

_READ = "SELECT offset, at_ms, key, record FROM event WHERE channel_id = ? AND offset > ? AND offset <= ?"
_READ_UP = _READ + " ORDER BY offset LIMIT ?"
_READ_DOWN = _READ + " ORDER BY offset DESC LIMIT ?"
_DIRTY_A_TRANSACTION = 500
"""Acknowledged keys dropped on the way, on the loop: 1-2 ms, and as many as a transaction makes dirty."""
_DIRTY_A_SLICE = 1000
_SET_META = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)"


class SqliteStore(AloneReads):
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
        self._mutations: Mutations | None = None
        self._acknowledged = Acknowledged()
        self._counts: Counter[str] = Counter()

    def open(self) -> None:
        """See `Store.open`. A file up to 64 MiB is checked for damage; a marked copy gets new epochs."""
        connection = self._connection = open_file(self._path, lock_wait_s=self._lock_wait_s)
        options = self._options
        try:
            self._prepare_meta()
        except BaseException:
            connection.close()
            raise
        rows = self._rows = ChannelRows(connection, options.retention_of, options.cached_channels)
        self._known = KnownRows(connection, options.cached_clients, options.cached_entries)
        self._trimmer = Trimmer(connection, rows, options)
        self.rebuilds = SqliteRebuilds(self, connection, rows, self._transaction, self._timer)

    def _prepare_meta(self) -> None:
        with self._transaction():
            if self.meta_get(BACKUP_MARK) is not None:
                self._begin_new_epochs()
            for key in (NODE_SECRET, EPOCH_SEED):
                if self.meta_get(key) is None:
                    self._connection.execute(_SET_META, (key, self._options.entropy(SECRET_BYTES)))
        self._epoch_seed = self.meta_get(EPOCH_SEED) or b""

    def _begin_new_epochs(self) -> None:
        """Make every position of the original unknown here, so that the two logs are never taken for one."""
        seed = self._options.entropy(SECRET_BYTES)
        self._connection.create_function(
            "new_epoch", 1, lambda name: derived_epoch(seed, name), deterministic=True
        )
        self._connection.execute("UPDATE channel SET epoch = new_epoch(name)")
        self._connection.execute(_SET_META, (EPOCH_SEED, seed))
        self._connection.execute("DELETE FROM meta WHERE key = ?", (BACKUP_MARK,))

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        with self._writing() as pending:
            return pending.write(batch)

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        with self._writing() as pending:
            if self._mutations is None:
                self._acknowledged.drop(self._connection, _DIRTY_A_TRANSACTION)
                max_outcomes = self._options.outcomes_per_client
                told = (max_outcomes, self._acknowledged.forwarded)
                self._mutations = Mutations(self._connection, pending, self._known, *told)
            results = self._mutations.write(group)
            self.rebuilds.note(group, results)
            return results

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """See `Store.acknowledge`."""
        self._acknowledged.note_outcomes(client, upto)

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """See `Store.acknowledge_forwarded`."""
        self._acknowledged.forwarded.add((channel, key, version))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Batch]:
        """Open a transaction, or go on with the open one; undo it if anything fails."""
        try:
            if self._batch is None:
                self._batch = Batch(self._connection, self._rows, self._epoch_of)
                self._connection.execute("BEGIN IMMEDIATE")
            yield self._batch
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
            written, known, others = batch.num_written, batch.num_duplicates, batch.num_mismatches
            self._counts.update(written=written, duplicates=known, mismatches=others)
            self._trimmer.note(batch.touched)
            self._rows.shrink()
        mutations, self._mutations = self._mutations, None
        if mutations is not None:
            self._counts.update(
                mutations=mutations.num_decided,
                resent=mutations.num_resent,
                conflicts=mutations.num_conflicts,
                mismatches=mutations.num_mismatches,
            )
            self._acknowledged.settle()
            self._known.shrink()

    def rollback(self) -> None:
        """See `Store.rollback`."""
        batch, self._batch = self._batch, None
        if self._mutations is not None:
            self._mutations = None
            self._known.clear()
        if batch is not None:
            self._rows.forget(batch.touched)
            self.rebuilds.forget()
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

    def last_mids(self, clients: Sequence[str]) -> list[int]:
        """See `StateReader.last_mids`."""
        with self._reading():
            return read_last_mids(self._connection, clients)

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]:
        """See `StateReader.entries`."""
        with self._reading():
            row = self._rows.find(channel)
            return [] if row is None else read_entries(self._connection, row, keys)

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> EntryPage:
        """See `StateReader.scan`."""
        with self._reading():
            row = self._rows.find(channel)
            if row is None:
                return EntryPage(Position(self._epoch_of(channel), 0), [], is_complete=True)
            return scan_entries(self._connection, row, after_key, limit=limit, max_bytes=max_bytes)

    def keys_by_tag(
        self, collection: str, tag: str, after: TaggedKey | None, limit: int
    ) -> list[TaggedKey]:
        """See `StateReader.keys_by_tag`."""
        with self._reading():
            return read_keys_by_tag(self._connection, collection, tag, after, limit)

    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """See `StateReader.dirty`."""
        with self._reading():
            forwarded = self._acknowledged.forwarded
            return read_dirty(self._connection, collection, after, limit, forwarded)

    def count(self, channel: ChannelName) -> int:
        """See `StateReader.count`."""
        with self._reading():
            row = self._rows.find(channel)
            return 0 if row is None else row.num_entries

    def channels(self, collection: str, limit: int) -> list[ChannelName]:
        """See `StateReader.channels`."""
        with self._reading():
            return read_channels(self._connection, collection, limit)

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

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`."""
        touched: set[ChannelRow] = set()
        try:
            with self._transaction():
                self._acknowledged.drop(self._connection, _DIRTY_A_SLICE)
                report = self._trimmer.run(now_ms, Slice(self._timer, budget_s), touched)
        except BaseException:
            self._rows.forget(touched)
            raise
        has_more = self._acknowledged.settle() or report.has_more
        self._rows.shrink()
        if report.num_clients:
            self._known.clear()
        self._counts.update(
            trimmed=report.num_events,
            forgotten=report.num_idempotency,
            outcomes=report.num_outcomes,
            clients=report.num_clients,
        )
        return attrs.evolve(report, has_more=has_more)

    def meta_get(self, key: str) -> bytes | None:
        """See `Store.meta_get`."""
        found = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if found is None else bytes(found[0])

    def meta_set(self, key: str, value: bytes) -> None:
        """See `Store.meta_set`."""
        with self._transaction():
            self._connection.execute(_SET_META, (key, value))

    def open_copy(self, path: Path) -> Copying:
        """Begin a copy, to be stepped where statements run. Raises `ConfigError`: the file exists or cannot be made."""
        return Copying(self._connection, path)

    def close(self) -> None:
        """See `Store.close`. The last connection to leave writes the log back and removes it."""
        self.rollback()
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def statistics(self) -> StoreStatistics:
        """See `Store.statistics`."""
        counts = self._counts
        return StoreStatistics(
            counts["written"],
            counts["duplicates"],
            counts["mismatches"],
            counts["trimmed"],
            counts["forgotten"],
            len(self._rows),
            size_bytes(self._path),
            num_mutations=counts["mutations"],
            num_resent=counts["resent"],
            num_conflicts=counts["conflicts"],
            num_outcomes_trimmed=counts["outcomes"],
            num_clients_trimmed=counts["clients"],
        )
