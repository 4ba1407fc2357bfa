"""Known bugs, planted from outside: who finds none of them proves nothing by finding no others.

The product knows nothing of this: each bug replaces a method of it for the length of a `with` block. Their names are what
`--bug` takes; `python -m syncd.testing.simulation --hunt` looks for the first seed that catches each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import trio

from syncd.actors.broadcaster.committing import Committing
from syncd.actors.broadcaster.joining import Joining
from syncd.actors.broadcaster.rooms import Room
from syncd.actors.broadcaster.watching import Watching
from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.forwarding import Forwarding
from syncd.actors.cache_owner.holdings import Holding
from syncd.actors.cache_owner.mutating import Mutating
from syncd.actors.cache_owner.reloading import Reloading
from syncd.actors.store import StoreActor
from syncd.actors.store_writes import begin, next_group
from syncd.client.state import StateCore
from syncd.client.watch import WatchState
from syncd.client.watching import WatchTable
from syncd.gateway.connection import Connection
from syncd.ids import Position
from syncd.model.outbox import Outbox
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_batch import Batch
from syncd.store.sqlite_state import Mutations

__all__ = ["BUGS"]


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
            answers = begin(self._store, asks)()
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

    return _replaced(Joining, "decide", make)


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


def _mid_not_deduplicated() -> contextlib.AbstractContextManager[None]:
    """A mutation that is sent again is run again."""

    def make(original: Any) -> Any:
        def decide(self: Any, mutation: Any) -> Any:
            if mutation.client is not None:
                client = self._clients.get(mutation.client) or self._find_client(mutation.client)
                self._clients[mutation.client] = client
                client.last = min(client.last, mutation.mid - 1)
            return original(self, mutation)

        return decide

    return _replaced(Mutations, "_decide", make)


def _last_forgotten() -> contextlib.AbstractContextManager[None]:
    """The number of a client's last mutation is known within its transaction and not written."""

    def make(original: Any) -> Any:
        def advance(self: Any, mutation: Any, client: Any, positions: str) -> None:
            original(self, mutation, client, positions)
            self._advanced.discard(client)

        return advance

    return _replaced(Mutations, "_advance", make)


def _reads_not_checked() -> contextlib.AbstractContextManager[None]:
    """What a mutator read is not compared with what is there at the commit: lost updates."""
    return _replaced(Mutations, "_is_so", lambda _original: lambda _self, _read: True)


def _outcome_before_events() -> contextlib.AbstractContextManager[None]:
    """Outcomes are told when the commit comes in, before its events are queued."""

    def make(original: Any) -> Any:
        def deliver(self: Any, message: Any) -> None:
            for outcome in message.outcomes:
                outcome.asker.send_outcome(outcome.outcome, outcome.positions)
            message.outcomes.clear()
            original(self, message)

        return deliver

    return _replaced(Committing, "deliver", make)


@contextlib.contextmanager
def _stale_load_wins() -> Iterator[None]:
    """What a load brings is taken for the newest, whatever was changed since it began or is not known to its source yet."""

    def forget(_original: Any) -> Any:
        return lambda _self, _place: None

    def clean(_original: Any) -> Any:
        return lambda _self, _place: False

    def blind(original: Any) -> Any:
        def commit(self: Any, change: Any, settle: Any) -> None:
            original(self, attrs.evolve(change, reads=[]), settle)

        return commit

    with (
        _replaced(Fetching, "outdate", forget),
        _replaced(Holding, "is_dirty", clean),
        _replaced(Mutating, "commit", blind),
    ):
        yield


def _snapshot_without_events() -> contextlib.AbstractContextManager[None]:
    """Changes between reading a snapshot and going live are not told."""

    def make(original: Any) -> Any:
        def widen(self: Any, room: Any, channel: Any, command: Any, watch: Any) -> None:
            if command.since.epoch == channel.epoch:
                command.since = Position(channel.epoch, channel.top)
            original(self, room, channel, command, watch)

        return widen

    return _replaced(Watching, "_widen", make)


def _conflation_drops_newest() -> contextlib.AbstractContextManager[None]:
    """A slow client keeps the older of two values of a key."""

    def make(original: Any) -> Any:
        def push(
            self: Any, channel: str, key: str | None, frame: bytes, *, conflatable: bool
        ) -> bool:
            if conflatable and key is not None and self._older(channel, key) is not None:
                self.conflated.add(channel)
                return True
            taken: bool = original(self, channel, key, frame, conflatable=conflatable)
            return taken

        return push

    return _replaced(Outbox, "push_event", make)


def _on_commit_lost() -> contextlib.AbstractContextManager[None]:
    """What the application was not told before a crash is not told after it."""

    def make(_original: Any) -> Any:
        async def read_dirty(_self: Any) -> None:
            await trio.lowlevel.checkpoint()

        return read_dirty

    return _replaced(Forwarding, "read_dirty", make)


def _reload_not_repeated() -> contextlib.AbstractContextManager[None]:
    """A load of what was invalidated is not tried again when it fails."""

    def make(_original: Any) -> Any:
        return lambda _self, _flight, _error: None

    return _replaced(Reloading, "_failed", make)


def _absence_not_made_good() -> contextlib.AbstractContextManager[None]:
    """What was invalidated while nobody watched, or before a start, is not loaded for who comes back to it."""

    def make(_original: Any) -> Any:
        return lambda _self, _channel, _keys: None

    return _replaced(Reloading, "watched", make)


def _pages_not_dated() -> contextlib.AbstractContextManager[None]:
    """A client takes no notice of which mutations the entries of a snapshot are as of."""

    def make(_original: Any) -> Any:
        return lambda _self, _body: {}

    return _replaced(WatchTable, "_decided", make)


def _own_event_superseded() -> contextlib.AbstractContextManager[None]:
    """To a slow client, others' changes take the place of its own ones, too."""

    def make(_original: Any) -> Any:
        return lambda _self: []

    return _replaced(Connection, "own", make)


def _lag_leaves_unanswered() -> contextlib.AbstractContextManager[None]:
    """A watch that was not answered when its channel lagged is not asked for again."""

    def make(original: Any) -> Any:
        def on_lagged(self: Any, body: Any, now: float) -> None:
            asking = [w for w in self.watches.values() if w.state is WatchState.ASKING]
            for watch in asking:
                watch.state = WatchState.LOADING
                watch.is_leaving = True
            original(self, body, now)
            for watch in asking:
                watch.state = WatchState.ASKING
                watch.is_leaving = False

        return on_lagged

    return _replaced(WatchTable, "on_lagged", make)


def _overlay_dropped_at_send() -> contextlib.AbstractContextManager[None]:
    """A prediction goes when its mutation is sent, not when its outcome comes."""

    def make(original: Any) -> Any:
        def mutate(self: Any, *args: Any, **options: Any) -> Any:
            made = original(self, *args, **options)
            pending = self._predictions.pending[made[0]]
            self._predictions.drop(pending)
            self._predictions.pending[pending.id] = pending  # it settles as ever
            return made

        return mutate

    return _replaced(StateCore, "mutate", make)


BUGS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "ack_before_commit": _ack_before_commit,
    "commit_without_sync": _commit_without_sync,
    "idempotency_not_stored": _idempotency_not_stored,
    "recovery_skips_one": _recovery_skips_one,
    "recovery_repeats_one": _recovery_repeats_one,
    "lost_before_live": _lost_before_live,
    "mid_not_deduplicated": _mid_not_deduplicated,
    "last_forgotten": _last_forgotten,
    "reads_not_checked": _reads_not_checked,
    "outcome_before_events": _outcome_before_events,
    "stale_load_wins": _stale_load_wins,
    "snapshot_without_events": _snapshot_without_events,
    "conflation_drops_newest": _conflation_drops_newest,
    "on_commit_lost": _on_commit_lost,
    "reload_not_repeated": _reload_not_repeated,
    "absence_not_made_good": _absence_not_made_good,
    "pages_not_dated": _pages_not_dated,
    "own_event_superseded": _own_event_superseded,
    "lag_leaves_unanswered": _lag_leaves_unanswered,
    "overlay_dropped_at_send": _overlay_dropped_at_send,
}
"""Name to what plants it; each one's docstring says what is wrong."""
