"""Copying a database that is being written, a slice at a time; and bringing a copy back.

Invariant: SQLite copies only while `Copying.step` runs. Its backup loop lives in a thread of its own, since Python does not hand out
single steps; it waits between two of them until `step` lets it go on. What the same connection commits between steps SQLite writes into
the copy too, so the copy is the database as of the last step.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import attrs

from syncd.errors import ConfigError
from syncd.ids import ChannelName, Epoch, Position
from syncd.store.sqlite_file import check_file, create_private, mark_copy, open_to_read

__all__ = ["MAX_POSITIONS", "CopyReport", "Copying", "restore_file"]

PAGES_A_STEP = 512
"""2 MiB: some 3 ms, within the store's slices of 5."""
MAX_POSITIONS = 1000


@attrs.frozen
class CopyReport:
    """What a copy holds."""

    size_bytes: int
    positions: dict[ChannelName, Position]
    """By channel, the first 1,000 of them by name: everything up to there is in the copy, nothing beyond."""
    num_channels: int


class _Abandoned(Exception):
    """Ends the backup loop when the copy is given up."""


class Copying:
    """One copy being made. `step` until it returns True, then `finish`; or `abandon`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        """Create the file, for its owner only.

        Raises:
            ConfigError: it exists or cannot be created.
        """
        self._path, self._draft = path, path.with_name(path.name + ".draft")
        if path.exists() or self._draft.exists():
            raise ConfigError(f"There is a file {path} (or its .draft) already; name another one.")
        create_private(self._draft)
        self._connection = connection
        self._may_go, self._is_between = threading.Semaphore(0), threading.Semaphore(0)
        self._is_done = self._is_abandoned = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._copy, name="syncd-backup", daemon=True)
        self._thread.start()

    def step(self) -> bool:
        """Copy some pages; True when there are no more. Called where statements run, between transactions.

        Raises:
            sqlite3.Error: it failed; `abandon` follows.
        """
        self._may_go.release()
        self._is_between.acquire()
        if self._error is not None:
            raise self._error
        return self._is_done

    def finish(self) -> CopyReport:
        """Mark the copy, make it durable under its name, and tell what it holds. Blocks; called by whoever may."""
        self._thread.join()
        mark_copy(self._draft)
        with contextlib.closing(sqlite3.connect(self._draft)) as copy:
            rows = copy.execute(
                "SELECT name, epoch, top FROM channel ORDER BY name LIMIT ?", (MAX_POSITIONS,)
            )
            positions = {
                ChannelName(name): Position(Epoch(epoch), top) for name, epoch, top in rows
            }
            num_channels = copy.execute("SELECT count(*) FROM channel").fetchone()[0]
        _make_durable(self._draft, self._path)
        return CopyReport(self._path.stat().st_size, positions, num_channels)

    def abandon(self) -> None:
        """Give the copy up and remove what is there of it. Called where statements run."""
        self._is_abandoned = True
        self._may_go.release()
        self._thread.join()
        self._draft.unlink(missing_ok=True)

    # ---------------------------------------------------------------- in the thread

    def _copy(self) -> None:
        self._may_go.acquire()
        try:
            if not self._is_abandoned:
                with contextlib.closing(sqlite3.connect(self._draft)) as copy:
                    self._connection.backup(copy, pages=PAGES_A_STEP, progress=self._pause, sleep=0)
            self._is_done = True
        except _Abandoned:
            pass
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised again by `step`, in the thread that waits for it
            self._error = error
        finally:
            self._is_between.release()

    def _pause(self, _status: int, remaining: int, _total: int) -> None:
        if self._is_abandoned:
            raise _Abandoned
        if remaining:
            self._is_between.release()
            self._may_go.acquire()
            if self._is_abandoned:
                raise _Abandoned


def restore_file(backup: Path, to: Path) -> CopyReport:
    """Put a copy in place as a database; the node that opens it begins new epochs.

    Raises:
        ConfigError: `backup` is not a sound database of ours, or `to` exists.
    """
    if to.exists() or to.with_name(to.name + "-wal").exists():
        raise ConfigError(f"There is a database {to} already. Move it away, with {to}-wal.")
    check_file(backup)
    with contextlib.closing(open_to_read(backup)) as source:
        copying = Copying(source, to)
        try:
            while not copying.step():
                pass
        except BaseException:
            copying.abandon()
            raise
        return copying.finish()


def _make_durable(draft: Path, path: Path) -> None:
    for place in (draft, draft.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if place == draft:
                draft.replace(path)
        finally:
            os.close(descriptor)
