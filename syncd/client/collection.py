"""Collections and mutations as applications use them, over a `ClientCore`.

Owns who waits for what: mutations by id, views by watch. The client puts facts in and never waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from collections.abc import Collection as AnyCollection
from typing import Any, Self

import attrs
import trio

from syncd.client.core import ClientCore
from syncd.client.errors import (
    MutationRejected,
    MutationUnknown,
    MutationUnsent,
    SubscriptionClosed,
)
from syncd.client.facts_state import (
    Invalidated,
    MutationOutcome,
    OutcomeStatus,
    StateFact,
    ViewChanged,
    WatchEnded,
)
from syncd.client.values import NOTHING
from syncd.client.watch import Selection

__all__ = ["Changes", "Collection", "CollectionView", "Entries", "Mutation", "ViewChange"]

MAX_INVALIDATIONS = 100
"""Invalidations kept for a slow reader of changes. Policy COALESCE: past it, one that names everything takes their place."""


@attrs.frozen
class ViewChange:
    """What is different in a view since the last change that was handed out."""

    keys: frozenset[str]
    """Entries whose value, presence or pending flag changed."""
    is_current: bool
    """The view is complete and live now."""
    invalidations: tuple[Invalidated, ...] = ()
    """Entries that may have changed at their source; the server tells by itself if they did."""


class CollectionView:
    """Entries of a collection with this client's pending mutations in them. Made by `Collection.watch`.

    Reading never waits. Values are shared: do not change them; an entry that did not change is the same object again.
    """

    def __init__(self, core: ClientCore, watch_id: int) -> None:
        self._core = core
        self._watch_id = watch_id
        self.is_current = False
        """It is complete and live; else it is as it was when it last was, with the predictions of now."""
        self._keys: set[str] = set()
        self._invalidations: list[Invalidated] = []
        self._num_changes = 0
        self._changed = trio.Event()
        self._error: Exception | None = None
        self._is_over = False

    def get(self, key: str, default: Any = None) -> Any:
        """Return an entry's value, or `default` where there is none."""
        value = self._core.entries.get(self._watch_id, key)
        return default if value is NOTHING else value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._core.entries.get(self._watch_id, key) is not NOTHING

    def items(self) -> AnyCollection[tuple[str, Any]]:
        """Return all entries there are, sorted by key."""
        return self._core.entries.items(self._watch_id).items()

    def is_pending(self, key: str) -> bool:
        """Return whether what is shown of an entry is a prediction."""
        return bool(self.pending(key))

    def pending(self, key: str) -> tuple[int, ...]:
        """Return the ids of the pending mutations that change an entry, oldest first."""
        return self._core.entries.pending_of(self._watch_id, key)

    def changes(self) -> Changes:
        """Return an iterator over changes from now on."""
        return Changes(self)

    # -------------------------------------------------------------------------------- for the client

    def put(self, fact: ViewChanged | Invalidated | WatchEnded) -> None:
        """Take a fact. Never waits."""
        match fact:
            case ViewChanged(keys=keys, is_current=is_current):
                self._keys |= keys
                self.is_current = is_current
            case Invalidated():
                self._invalidations.append(fact)
                if len(self._invalidations) > MAX_INVALIDATIONS:
                    self._invalidations = [Invalidated(fact.channel, fact.position, is_all=True)]
            case WatchEnded(code=code, message=message):
                self.end(SubscriptionClosed(code, message))
                return
        self._num_changes += 1
        self._touch()

    def end(self, error: Exception | None) -> None:
        """Nothing changes any more. Never waits."""
        if not self._is_over:
            self._is_over, self._error = True, error
            self._touch()

    def _touch(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_complete(self) -> None:
        """Wait until there is something to show, or raise what the server said instead."""
        while self._num_changes == 0:
            await self._wait()
        self._take()
        await trio.lowlevel.checkpoint()

    async def wait_change(self) -> ViewChange:
        """Wait for something that was not handed out yet.

        Raises:
            SubscriptionClosed: the server ended the watch.
            StopAsyncIteration: the watch or the client was closed.
        """
        while not self._num_changes:
            await self._wait()
        return self._take()

    async def _wait(self) -> None:
        if self._is_over:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        await self._changed.wait()

    def _take(self) -> ViewChange:
        change = ViewChange(frozenset(self._keys), self.is_current, tuple(self._invalidations))
        self._keys, self._invalidations, self._num_changes = set(), [], 0
        return change


class Changes:
    """Changes of a view. Policy COALESCE: a slow reader gets several as one. One reader a view."""

    def __init__(self, view: CollectionView) -> None:
        self._view = view

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ViewChange:
        """Wait for the next change. Cancelled: nothing was taken."""
        await trio.lowlevel.checkpoint()
        return await self._view.wait_change()


class Mutation:
    """A mutation that was made.

    Attributes:
        id: Its number in this client, as `CollectionView.pending` names it.
        local: What the local mutator returned, if there is one.
        outcome: How it ended, None while it is pending.
    """

    def __init__(self, mutation_id: int, local: object) -> None:
        self.id = mutation_id
        self.local = local
        self.outcome: MutationOutcome | None = None
        self._done = trio.Event()

    def put(self, outcome: MutationOutcome) -> None:
        """Take the outcome. Never waits."""
        self.outcome = outcome
        self._done.set()

    async def server(self) -> Any:
        """Wait until it is decided and shown, however long that takes, and return what the server's mutator returned.

        Raises:
            MutationRejected: it was refused, and nothing changed.
            MutationUnknown: it was sent, and nobody can say what became of it.
            MutationUnsent: the client ended before it was sent.

        Cancellation: the mutation goes on; call again to wait again.
        """
        await self._done.wait()
        outcome = self.outcome
        assert outcome is not None
        match outcome.status:
            case OutcomeStatus.OK:
                return outcome.value
            case OutcomeStatus.REJECTED:
                raise MutationRejected(outcome.code or "", outcome.message)
            case OutcomeStatus.UNKNOWN:
                raise MutationUnknown("Nobody can say what became of the mutation.")
            case OutcomeStatus.UNSENT:
                raise MutationUnsent("The client ended before the mutation was sent.")


class Entries:
    """The state side of a `Client`: its views and mutations.

    Args:
        core: Does everything.
        perform: Do and tell what the core has; never waits.
    """

    def __init__(self, core: ClientCore, perform: Callable[[], None]) -> None:
        self.core = core
        self.perform = perform
        self._views: dict[int, CollectionView] = {}
        self._mutations: dict[int, Mutation] = {}
        self._is_idle = trio.Event()
        """Set while nothing is pending."""
        self._is_idle.set()

    def mutate(self, name: str, args: Any) -> Mutation:
        """Make a mutation; see `Client.mutate`."""
        made = self.core.mutate(trio.current_time(), name, args)
        mutation = self._mutations[made[0]] = Mutation(*made)
        if self._is_idle.is_set():
            self._is_idle = trio.Event()
        self.perform()
        return mutation

    async def settled(self) -> None:
        """Wait until no mutation is pending."""
        await trio.lowlevel.checkpoint()
        while self._mutations:
            await self._is_idle.wait()

    @contextlib.asynccontextmanager
    async def watch(self, selection: Selection) -> AsyncGenerator[CollectionView]:
        """Watch while the block runs; see `Collection.watch`."""
        watch_id = self.core.watch(selection)
        view = self._views[watch_id] = CollectionView(self.core, watch_id)
        try:
            self.perform()
            await view.wait_complete()
            yield view
        finally:
            del self._views[watch_id]
            view.end(None)
            self.core.unwatch(watch_id)
            self.perform()

    def tell(self, fact: StateFact) -> None:
        """Take a fact of the core. Never waits."""
        match fact:
            case ViewChanged(watch=watch) | WatchEnded(watch=watch):
                if watch in self._views:
                    self._views[watch].put(fact)
            case Invalidated(channel=channel):
                for shown in self.core.entries.watches:
                    if shown.channel == channel and shown.id in self._views:
                        self._views[shown.id].put(fact)
            case MutationOutcome(id=mutation_id):
                self._settle(mutation_id, fact)

    def _settle(self, mutation_id: int, outcome: MutationOutcome) -> None:
        mutation = self._mutations.pop(mutation_id, None)
        if mutation is not None:
            mutation.put(outcome)
        if not self._mutations:
            self._is_idle.set()

    def end(self, error: Exception) -> None:
        """The client is over. Never waits."""
        for view in self._views.values():
            view.end(error)


class Collection:
    """One collection of the server, by name. Made by `Client.collection`; costs nothing."""

    def __init__(self, name: str, entries: Entries) -> None:
        self.name = name
        self._entries = entries

    def watch(
        self,
        *,
        keys: AnyCollection[str] | None = None,
        all: bool = False,  # noqa: A002 - the protocol's word
        partition: str | None = None,
    ) -> contextlib.AbstractAsyncContextManager[CollectionView]:
        """Watch entries while the block runs. Entering waits for the first complete view.

        Args:
            keys: These entries, at most 1,000, all of one partition.
            all: Every entry of a collection without partitions.
            partition: Every entry of a partition.

        Raises:
            ValueError: not exactly one of the three is given.
            SubscriptionClosed: the server refuses it.
        """
        if [keys is not None, all, partition is not None].count(True) != 1:
            msg = "Watch by keys, all, or by partition."
            raise ValueError(msg)
        chosen = None if keys is None else frozenset(keys)
        return self._entries.watch(Selection(self.name, chosen, partition))

    def put(self, key: str, value: Any, *, if_version: int | None = None) -> Mutation:
        """Set an entry with the built-in mutator; see `Client.mutate`."""
        return self._mutate("put", key=key, value=value, if_version=if_version)

    def patch(self, key: str, patch: dict[str, Any], *, if_version: int | None = None) -> Mutation:
        """Merge a patch into an entry (RFC 7386) with the built-in mutator."""
        return self._mutate("patch", key=key, patch=patch, if_version=if_version)

    def delete(self, key: str, *, if_version: int | None = None) -> Mutation:
        """Remove an entry with the built-in mutator."""
        return self._mutate("delete", key=key, if_version=if_version)

    def incr(
        self, key: str, by: float = 1, *, field: str | None = None, if_version: int | None = None
    ) -> Mutation:
        """Add to a number with the built-in mutator; `await mutation.server()` returns the sum."""
        return self._mutate("incr", key=key, by=by, field=field, if_version=if_version)

    def _mutate(self, name: str, **args: Any) -> Mutation:
        kept = {word: arg for word, arg in args.items() if arg is not None or word == "value"}
        return self._entries.mutate(f"{self.name}.{name}", kept)
