"""Known bugs, planted from outside: who finds none of them proves nothing by finding no others.

The product knows nothing of this: each bug replaces a method of it for the length of a `with` block. Their names are what
`--bug` takes; `python -m syncd.testing.simulation --hunt` looks for the first seed that catches each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.rooms import Room
from syncd.actors.store import StoreActor
from syncd.actors.store_writes import begin, next_group
from syncd.ids import Position
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_batch import Batch

__all__ = ["BUGS", "planted"]


@contextlib.contextmanager
def _replaced(owner: type, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Put `make(original)` in a method's place."""
    original = vars(owner)[name]
    setattr(owner, name, make(original))
    try:
        yield
    finally:
        setattr(owner, name, original)


def _ack_before_commit() -> contextlib.AbstractContextManager[None]:
    """The store answers when the statements have run, and commits afterwards."""

    def make(_original: Any) -> Any:
        async def write(self: Any) -> None:
            asks = next_group(self._writes, self._settings)
            answers = begin(self._store, asks)
            for ask, answer in zip(asks, answers, strict=True):
                self._settle(ask, answer)
            await self._perform(self._store.commit)

        return write

    return _replaced(StoreActor, "_write", make)


def _commit_without_sync() -> contextlib.AbstractContextManager[None]:
    """A commit does not wait for the disk: after a power cut events are gone and their offsets are given again."""

    def make(original: Any) -> Any:
        def open_(self: Any) -> None:
            original(self)
            self._connection.execute("PRAGMA synchronous = NORMAL")

        return open_

    return _replaced(SqliteStore, "open", make)


def _idempotency_not_stored() -> contextlib.AbstractContextManager[None]:
    """A publication's key is known within its transaction and forgotten after it."""

    def make(original: Any) -> Any:
        def remember(self: Any, *args: Any) -> None:
            original(self, *args)
            self._new_known.pop()

        return remember

    return _replaced(Batch, "_remember", make)


def _recovery_off_by(step: int) -> contextlib.AbstractContextManager[None]:
    def make(original: Any) -> Any:
        def decide(self: Any, channel: Any, since: Position) -> Any:
            offset = min(max(since.offset + step, 0), channel.top)
            return original(self, channel, Position(since.epoch, offset))

        return decide

    return _replaced(Joining, "_decide", make)


def _recovery_skips_one() -> contextlib.AbstractContextManager[None]:
    """Recovery begins one event too late."""
    return _recovery_off_by(1)


def _recovery_repeats_one() -> contextlib.AbstractContextManager[None]:
    """Recovery begins one event too early: a duplicate after each reconnection."""
    return _recovery_off_by(-1)


def _lost_before_live() -> contextlib.AbstractContextManager[None]:
    """What comes in the tick in which a subscription goes live is taken for part of its snapshot."""

    def make(original: Any) -> Any:
        def go_live(self: Any, subscription: Any) -> None:
            original(self, subscription)
            if subscription in self.late:
                self.late[subscription] += 1

        return go_live

    return _replaced(Room, "go_live", make)


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "ack_before_commit": _ack_before_commit,
    "commit_without_sync": _commit_without_sync,
    "idempotency_not_stored": _idempotency_not_stored,
    "recovery_skips_one": _recovery_skips_one,
    "recovery_repeats_one": _recovery_repeats_one,
    "lost_before_live": _lost_before_live,
}
"""Name to what plants it; each one's docstring says what is wrong."""


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Have a bug while the block runs; None for none."""
    with BUGS[name]() if name is not None else contextlib.nullcontext():
        yield
