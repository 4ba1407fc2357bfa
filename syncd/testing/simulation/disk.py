"""The disk: what of the database survives the death of the process, and the worker whose jobs take time.

A crash leaves the file and its write-ahead log as long as it was when last synced; the next process opens a copy of just that. A commit with
`synchronous=FULL` has synced the log; nothing else writes to it.
"""

from __future__ import annotations

import collections
import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import trio

from syncd.actors.store_worker import Job
from syncd.errors import StoreUnavailable
from syncd.ports_log import AppendRequest, AppendResult
from syncd.ports_state import MutationCommit, MutationResult
from syncd.store.base import StoreOptions, TrimReport
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_file import mark_copy

__all__ = ["Disk", "DiskStore", "DiskWorker"]

T = TypeVar("T")

SYNCHRONOUS_FULL = 2
_FORGET_LOGS = """
    DELETE FROM event;
    DELETE FROM latest;
    UPDATE channel SET floor = top, num_events = 0;
"""


class Disk:
    """One database over the lives of several processes."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._life = 0
        self._num_copies = 0
        self.path = folder / "life-0.db"
        self.synced_bytes = 0
        """Length of the write-ahead log that is safe."""
        self.store: DiskStore | None = None
        """Of the process that lives."""
        self.armed: str | None = None
        """Where the process dies next: `statements`, `before commit`, `during commit` or `after commit`."""
        self.on_crash: Callable[[str], None] = lambda _where: None
        self.on_commit: Callable[[sqlite3.Connection], None] = lambda _connection: None

    def open_store(self, options: StoreOptions, timer: Callable[[], float]) -> DiskStore:
        """Open the database for a new process."""
        self.store = DiskStore(self, options, timer)
        self.store.open()
        self.note_sync(self.store)
        return self.store

    def note_sync(self, store: DiskStore) -> None:
        """Everything written so far is safe, if the store asked for it."""
        if self.store is store and store.is_careful():
            self.synced_bytes = self.wal_bytes()

    def wal_bytes(self) -> int:
        """Length of the write-ahead log as the process sees it."""
        wal = _wal(self.path)
        return wal.stat().st_size if wal.exists() else 0

    def crash(self, *, torn_from: int | None = None) -> None:
        """The process is gone. With `torn_from`, so is some of the log behind that length."""
        assert self.store is not None
        kept = self.synced_bytes
        if torn_from is not None:
            kept = self._rng.randint(torn_from, max(self.wal_bytes(), torn_from))
        store, self.store = self.store, None
        store.is_dead = True
        old, self._life = self.path, self._life + 1
        self.path = self._folder / f"life-{self._life}.db"
        shutil.copyfile(old, self.path)
        if _wal(old).exists():
            _wal(self.path).write_bytes(_wal(old).read_bytes()[:kept])
        self.synced_bytes = kept
        store.bury()
        for path in (old, _wal(old)):
            path.unlink(missing_ok=True)

    def copy(self) -> Path:
        """Copy what is committed, as a replica has it that is fed behind the commits."""
        assert self.store is not None
        self._num_copies += 1
        path = self._folder / f"copy-{self._num_copies}.db"
        with contextlib.closing(sqlite3.connect(path)) as copy:
            self.store.look().backup(copy)
        return path

    def take_over(self, copy: Path, options: StoreOptions, timer: Callable[[], float]) -> DiskStore:
        """Go on from a copy: entries, clients and numbers are as they were then, all logs are empty, and all epochs new (DESIGN 5.14)."""
        assert self.store is not None
        store, self.store, old = self.store, None, self.path
        store.is_dead = True
        store.bury()
        self._life += 1
        self.path = self._folder / f"life-{self._life}.db"
        shutil.copyfile(copy, self.path)
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(_FORGET_LOGS)
        mark_copy(self.path)
        for path in (old, _wal(old)):
            path.unlink(missing_ok=True)
        return self.open_store(options, timer)

    def closed(self) -> None:
        """The process closed the database in good order."""
        self.store = None

    def dies_here(self, where: str) -> bool:
        """Whether the process is to die at this place, now."""
        if self.armed != where or self.store is None:
            return False
        self.armed = None
        return True


class DiskStore(SqliteStore):
    """The real store, with places to die at and a disk that notes what was synced."""

    def __init__(self, disk: Disk, options: StoreOptions, timer: Callable[[], float]) -> None:
        super().__init__(disk.path, options, timer=timer)
        self._disk = disk
        self.is_dead = False
        """Nothing that this process still does reaches the disk."""

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        self._statements()
        return super().begin(batch)

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        self._statements()
        return super().begin_commit(group)

    def _statements(self) -> None:
        self._check_alive()
        if self._disk.dies_here("statements"):
            self._disk.on_crash("before the statements")
            self._check_alive()

    def commit(self) -> None:
        """See `Store.commit`."""
        self._check_alive()
        disk = self._disk
        if disk.dies_here("before commit"):
            disk.on_crash("before COMMIT")
            self._check_alive()
        synced = disk.synced_bytes
        super().commit()
        if disk.dies_here("during commit"):
            disk.crash(torn_from=synced)
            disk.on_crash("during COMMIT")
            self._check_alive()
        disk.note_sync(self)
        disk.on_commit(self._connection)
        if disk.dies_here("after commit"):
            disk.on_crash("after COMMIT")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        self._check_alive()
        with super()._reading():
            yield

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`."""
        self._check_alive()
        report = super().trim(now_ms, budget_s)
        self._disk.note_sync(self)
        return report

    def meta_set(self, key: str, value: bytes) -> None:
        """See `Store.meta_set`."""
        self._check_alive()
        super().meta_set(key, value)
        self._disk.note_sync(self)

    def close(self) -> None:
        """See `Store.close`; the dead close nothing."""
        if not self.is_dead:
            super().close()
            self._disk.closed()

    def rollback(self) -> None:
        """See `Store.rollback`; the dead undo nothing."""
        if not self.is_dead:
            super().rollback()

    def is_careful(self) -> bool:
        """Whether a commit waits for the disk."""
        (mode,) = self._connection.execute("PRAGMA synchronous").fetchone()
        return bool(mode == SYNCHRONOUS_FULL)

    def look(self) -> sqlite3.Connection:
        """Return the one connection, for the oracle to read with between two transactions."""
        return self._connection

    def bury(self) -> None:
        """Give the memory back."""
        super().rollback()
        super().close()

    def _check_alive(self) -> None:
        if self.is_dead:
            raise StoreUnavailable("The process is dead.")


class DiskWorker:
    """Performs jobs one after the other; each takes a while before it is done and before that is known."""

    def __init__(self, nursery: trio.Nursery, rng: random.Random, mean_s: float) -> None:
        self._nursery = nursery
        self._rng = rng
        self._mean_s = mean_s
        self._jobs: collections.deque[Job[Any]] = collections.deque()
        self._has_jobs = trio.Event()
        self._is_dead = False

    def start(self) -> None:
        """See `Worker.start`."""
        self._nursery.start_soon(self._serve)

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """See `Worker.submit`."""
        job = Job(work)
        self._jobs.append(job)
        if self._is_dead:
            self._finish_all()
        self._has_jobs.set()
        return job

    def stop(self) -> None:
        """See `Worker.stop`."""

    def kill(self) -> None:
        """The process is dead: whoever waits inside of it need not wait for the disk."""
        self._is_dead = True
        self._finish_all()

    async def _serve(self) -> None:
        while True:
            await self._has_jobs.wait()
            self._has_jobs = trio.Event()
            while self._jobs:
                await self._perform(self._jobs[0])

    async def _perform(self, job: Job[Any]) -> None:
        """Take some time, do it, take some more; the process may die at any point, and `kill` has then seen to the job."""
        for step in (None, job.perform, None):
            if step is None:
                await self._pass_time()
            else:
                step()
            if job.is_done:
                return
        self._jobs.popleft()
        job.finish()

    async def _pass_time(self) -> None:
        await trio.sleep(self._rng.expovariate(1 / self._mean_s))

    def _finish_all(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            job.perform()
            job.finish()


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
