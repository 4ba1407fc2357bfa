"""What an operator asks of a running node besides the log: whether it is well and can commit, and a copy of its store.

Owned by `server.Node`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import trio

from syncd.actors.kit import ActorHealth, Health, Reply
from syncd.actors.store import StoreActor
from syncd.codes import ErrorCode
from syncd.errors import ConfigError, RequestRejected, StoreUnavailable, SyncdError
from syncd.store.base import Store
from syncd.store.memory import MemoryStore
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_backup import Copying, CopyReport

__all__ = ["Upkeep"]

T = TypeVar("T")

CHECK_S = 0.8
"""Readiness is told within a second of asking."""
LAG_LIMIT_MS = 1000.0
"""A loop that wakes sleepers later than this is not ready for traffic."""
TRUST_S = 0.5
"""A check is good for this long, so that nobody makes the node write by asking whether it is well."""
IN_MEMORY = "A store in memory cannot be copied."
IN_REDIS = "The data are in Redis: copy its files (docs/redis.md#backup)."
"""A node has no hand on the files of Redis, which may lie on another machine."""


class Upkeep:
    """Asks the store actor; every statement runs where its own do, between transactions."""

    def __init__(self, actor: StoreActor, store: Store) -> None:
        self._actor = actor
        self._store = store
        self._checked_at = -TRUST_S
        self._is_checking = False
        self._is_copying = False
        self.refusal: str | None = None
        """Why the store could not commit when it was last checked."""

    async def check(self) -> None:
        """See whether something tiny can be committed; no longer than `CHECK_S`."""
        now = trio.current_time()
        if self._is_checking or now - self._checked_at < TRUST_S:
            return
        self._is_checking = True
        try:
            with trio.fail_after(CHECK_S):
                await self._perform(self._store.probe)
            self.refusal = None
        except trio.TooSlowError:
            self.refusal = "The store does not answer."
        except SyncdError:
            self.refusal = "The store cannot commit."
        finally:
            self._is_checking = False
            self._checked_at = trio.current_time()

    def reasons_not_ready(
        self, health: Sequence[ActorHealth], lag_ms: float, *, is_stopping: bool
    ) -> Sequence[str]:
        """Return why the node should get no traffic, one sentence each, with the store as last checked."""
        reasons = [
            f"The actor {each.name} is {each.state.value}."
            for each in health
            if each.state is not Health.OK
        ]
        if not self._actor.statistics().is_writable:
            reasons.append("The store cannot commit.")
        elif self.refusal is not None:
            reasons.append(self.refusal)
        if lag_ms > LAG_LIMIT_MS:
            reasons.append("The event loop lags.")
        if is_stopping:
            reasons.append("The node is stopping.")
        return reasons

    async def copy(self, path: Path) -> CopyReport:
        """Copy the store to a new file while it is written, in slices.

        Raises:
            RequestRejected: the file exists or cannot be made, the store is in memory or in Redis, or another copy is being made.
            StoreUnavailable: there is no room, or the disk fails.

        Cancellation: the copy is given up and removed.
        """
        store = self._store
        if not isinstance(store, SqliteStore):
            is_in_memory = isinstance(store, MemoryStore)
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, IN_MEMORY if is_in_memory else IN_REDIS)
        if self._is_copying:
            raise RequestRejected(ErrorCode.LIMIT_EXCEEDED, "Another backup is being made.")
        self._is_copying = True
        try:
            copying = store.open_copy(path)
        except ConfigError as error:
            self._is_copying = False
            raise RequestRejected(ErrorCode.BAD_REQUEST, str(error)) from None
        is_finished = False
        try:
            while not await self._perform(lambda: _step(copying)):
                pass
            report = await trio.to_thread.run_sync(copying.finish)
            is_finished = True
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"The backup failed: {error}") from None
        finally:
            self._is_copying = False
            if not is_finished:
                copying.abandon()
        return report

    async def _perform(self, work: Callable[[], T]) -> T:
        reply: Reply[T] = Reply()

        def ask(_reader: Any) -> T:
            return work()

        self._actor.read_state(ask, reply.settle)
        return await reply.wait()


def _step(copying: Copying) -> bool:
    try:
        return copying.step()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"The backup failed: {error}") from error
