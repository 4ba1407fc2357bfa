"""Mutations that have to wait: for entries that are not in memory, or for the end of a group; and behind them their clients' later ones.

Owner of: who waits, and which entries are kept for them (`Holdings.borrowers`).

Invariant (ONCE): a client's mutations leave in the order of their numbers. Nothing here runs them: they go back to the front of the queue.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence

from syncd.actors.cache_owner.holdings import Holdings
from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.model.recording import Place
from syncd.ports_collections import MutateState

__all__ = ["Held"]

MAX_HELD = 1_000
"""Mutations of one client that wait here: not all of `MAX_WAITING`. Policy when full: refuse, `overloaded` (retryable)."""
RETRY_MS = 250


class Held:
    """The waiting room of mutations."""

    def __init__(
        self,
        holdings: Holdings,
        *,
        fetch: Callable[[Sequence[Place], Callable[[SyncdError | None], None]], None],
        refuse: Callable[[MutateState, SyncdError], None],
        go_on: Callable[[Iterable[MutateState]], None],
    ) -> None:
        """Begin with nobody.

        Args:
            fetch: Brings entries into memory (`Holdings.borrowed`), then calls back.
            refuse: Tells an asker.
            go_on: Puts mutations before all that are queued; the last one given is the first.
        """
        self._holdings = holdings
        self._fetch = fetch
        self._refuse = refuse
        self._go_on = go_on
        self._held: dict[object, collections.deque[MutateState]] = {}
        """By client; services' mutations each by itself."""
        self._with_group: list[object] = []
        """Keys of `_held` that wait for nothing but the end of the group."""
        self._borrows: dict[MutateState, set[Place]] = {}

    def takes(self, command: MutateState) -> bool:
        """Let a mutation wait, or refuse it, if an earlier one of its client waits."""
        if not self._held:
            return False
        held = self._held.get(command.client)
        if held is None or command.mid < held[0].mid:
            return False  # one that met a conflict runs again before those that wait
        if len(held) < MAX_HELD:
            held.append(command)
        else:
            self._refuse(command, SyncdError(ErrorCode.OVERLOADED, after_ms=RETRY_MS))
        return True

    def hold(self, command: MutateState, places: Sequence[Place]) -> None:
        """Let a mutation wait until these entries are there; without any, until the group is decided."""
        key: object = command if command.client is None else command.client
        self._held.setdefault(key, collections.deque()).appendleft(command)
        if not places:
            self._with_group.append(key)
            return
        self._borrow(command, places)

        def fetched(error: SyncdError | None) -> None:
            self._fetched(key, command, error)

        self._fetch(places, fetched)

    def _fetched(self, key: object, command: MutateState, error: SyncdError | None) -> None:
        held = self._held.get(key)
        if held is None or command not in held:
            return
        if error is None or not error.retryable:
            if error is not None:
                command.refusal = error.code.value
            self._release(key)
            return
        last = None
        while last is not command:
            last = held.pop()
            self.give_back(last)
            self._refuse(last, error)
        if not held:
            del self._held[key]

    def _release(self, key: object) -> None:
        self._go_on(reversed(self._held.pop(key, ())))

    def release_those_of_group(self) -> None:
        """The group is decided, or there was none."""
        release, self._with_group = self._with_group, []
        for key in release:
            self._release(key)

    # ---------------------------------------------------------------- entries kept for them

    def _borrow(self, command: MutateState, places: Sequence[Place]) -> None:
        borrows = self._borrows.setdefault(command, set())
        borrowers = self._holdings.borrowers
        for place in places:
            if place not in borrows:
                borrows.add(place)
                borrowers[place] = borrowers.get(place, 0) + 1

    def give_back(self, command: MutateState) -> None:
        """A mutation has run, or was refused: what was kept for it need not be any more."""
        if not self._borrows:
            return
        holdings = self._holdings
        for place in self._borrows.pop(command, ()):
            left = holdings.borrowers.pop(place) - 1
            if left:
                holdings.borrowers[place] = left
            else:
                holdings.borrowed.pop(place, None)

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits."""
        held, self._held = self._held, {}
        for command in (each for several in held.values() for each in several):
            self._refuse(command, error)
