"""Mutations that are not settled, and what they make of the confirmed state. Pure.

Owned by `StateCore`. Invariant: `overlay` is the fold of the pending mutations, in the order they were made, over what is
confirmed and shown; nothing else writes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from syncd.client.facts_state import MutationOutcome
from syncd.client.local_tx import BUILT_IN, LocalMutator, LocalRejected, LocalTx, Place, Reader
from syncd.client.values import NOTHING, copied, is_same
from syncd.ids import Position

__all__ = ["Confirmed", "Pending", "Predicted", "Predictions"]

_log = logging.getLogger("syncd.client")

Confirmed = Callable[[Place], tuple[Any, int, bool]]
"""Confirmed value as shown (or `NOTHING`), its version, and whether that is known."""


@attrs.define(eq=False)
class Pending:
    """One mutation that is not settled."""

    id: int
    slot: int
    """Which client of the session made it."""
    mid: int
    name: str
    args: Any
    now_ms: int
    is_sent: bool = False
    """It was sent on some connection: it may have been decided."""
    outcome: MutationOutcome | None = None
    """It is decided, and waits for `waits`."""
    waits: dict[int, Position] = attrs.field(factory=dict)
    """By number, watches that are to tell its effect before its prediction goes, and how far they have to come."""
    writes: dict[Place, Any] = attrs.field(factory=dict)
    """What it is predicted to change."""
    touched: set[Place] = attrs.field(factory=set)
    """What the prediction rests on."""
    confirmed: set[Place] = attrs.field(factory=set)
    """Of `touched`: where what is shown holds what became of it. It is not predicted there, and with any such place not made
    anew: its last prediction stands for the others until they are confirmed, too."""


@attrs.define
class Predicted:
    """What pending mutations make of one entry."""

    value: Any
    ids: tuple[int, ...]
    """The mutations that change it, oldest first."""


class Predictions:
    """Pending mutations in the order they were made, and the fold of them.

    Args:
        mutators: By full name; None: no prediction.
        confirmed: Looks up what is confirmed.
        held: Returns what of that holds what became of a mutation, of the entries that it touches.
    """

    def __init__(
        self,
        mutators: Mapping[str, LocalMutator | None],
        confirmed: Confirmed,
        held: Callable[[Pending], set[Place]],
    ) -> None:
        self.pending: dict[int, Pending] = {}
        self.overlay: dict[Place, Predicted] = {}
        self._mutators = mutators
        self._confirmed = confirmed
        self._held = held

    def find_mutator(self, name: str) -> tuple[LocalMutator | None, bool]:
        """Return what predicts a mutation, if anything, and whether it is built in."""
        if name in self._mutators:
            return self._mutators[name], False
        _, dot, last = name.rpartition(".")
        return (BUILT_IN.get(last) if dot else None), True

    def add(self, pending: Pending) -> object:
        """Predict a new mutation over all others; return what its mutator returned.

        Raises:
            LocalRejected: an own mutator refused it by what this client knows.
            Exception: an own mutator raised. In both cases nothing was added.
        """
        run, is_built_in = self.find_mutator(pending.name)
        value: object = None
        if run is not None:
            tx = self._tx(pending, "optimistic")
            try:
                value = _call(run, tx, pending.args)
            except Exception:
                if not is_built_in and not tx.has_guessed:
                    raise
                tx.writes.clear()
            pending.writes, pending.touched = tx.writes, tx.touched
        self.pending[pending.id] = pending
        self._lay(self.overlay, pending)
        return value

    def drop(self, pending: Pending) -> None:
        """Forget a mutation; `fold` takes its prediction away."""
        del self.pending[pending.id]

    def rests_on(self, places: set[Place]) -> bool:
        """Return whether any prediction reads or changes one of these."""
        return any(not places.isdisjoint(p.touched) for p in self.pending.values())

    def fold(self) -> set[Place]:
        """Predict everything anew over what is confirmed now; return the places whose prediction is another one."""
        old, self.overlay = self.overlay, {}
        for pending in self.pending.values():
            pending.confirmed = self._held(pending)
            if not pending.confirmed:
                self._rebase(pending)
                pending.confirmed = self._held(pending)
            self._lay(self.overlay, pending)
        return _differing(old, self.overlay)

    def _rebase(self, pending: Pending) -> None:
        """Run the mutator again; one that fails now predicts nothing, and its mutation goes on."""
        run, _ = self.find_mutator(pending.name)
        if run is None:
            return
        tx = self._tx(pending, "rebase")
        try:
            _call(run, tx, pending.args)
        except LocalRejected:
            tx.writes.clear()
        except Exception:  # noqa: BLE001 - isolation: the application's code; the server decides what becomes of it
            _log.debug("mutator_raised_on_rebase: %s", pending.name, exc_info=True)
            tx.writes.clear()
        pending.writes, pending.touched = tx.writes, tx.touched

    def _tx(self, pending: Pending, reason: str) -> LocalTx:
        collection, dot, _ = pending.name.rpartition(".")
        read = self._reader()
        return LocalTx(collection if dot else None, read, reason=reason, now_ms=pending.now_ms)

    def _reader(self) -> Reader:
        overlay, confirmed = self.overlay, self._confirmed

        def read(place: Place) -> tuple[Any, int | None, bool]:
            predicted = overlay.get(place)
            if predicted is not None:
                return predicted.value, 0 if predicted.value is NOTHING else None, True
            return confirmed(place)

        return read

    @staticmethod
    def _lay(overlay: dict[Place, Predicted], pending: Pending) -> None:
        for place, value in pending.writes.items():
            if place not in pending.confirmed:
                below = overlay.get(place)
                ids = (pending.id,) if below is None else (*below.ids, pending.id)
                overlay[place] = Predicted(value, ids)


def _call(run: LocalMutator, tx: LocalTx, args: Any) -> object:
    args = copied(args)
    if args is None:
        return run(tx)
    if type(args) is list:
        return run(tx, *args)
    return run(tx, **args)


def _differing(old: dict[Place, Predicted], new: dict[Place, Predicted]) -> set[Place]:
    """Return the places that differ, and keep the old values where they are the same, so that they keep their identity."""
    differing = old.keys() ^ new.keys()
    for place in old.keys() & new.keys():
        before, after = old[place], new[place]
        if is_same(before.value, after.value):
            after.value = before.value
            if before.ids == after.ids:
                continue
        differing.add(place)
    return differing
