"""Mutations that are not settled, and what they make of the confirmed state. Pure.

Owned by `StateCore`. Invariant: after `fold`, what is predicted is what running all pending mutations anew, in the order they
were made, over what is confirmed and shown would make of it. Since a mutator decides by nothing but its arguments and what it
reads, only those are run again that find something else than at their last run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from syncd.client.facts_state import MutationOutcome
from syncd.client.local_tx import (
    BUILT_IN,
    LocalMutator,
    LocalRejected,
    LocalTx,
    Place,
    Reader,
    Reading,
)
from syncd.client.order import Agenda, Order
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
    """Of `touched`: where what is shown holds what became of it. It is not predicted there."""
    found: dict[Place, Reading] = attrs.field(factory=dict)
    """What it read where that was not confirmed yet. It reads that for ever: what is there now has its own effect in it."""
    laid: dict[Place, Any] = attrs.field(factory=dict)
    """Of `writes`: those that are not confirmed."""


@attrs.frozen
class Predicted:
    """What pending mutations make of one entry."""

    value: Any
    ids: tuple[int, ...]
    """The mutations that change it, oldest first."""


class Predictions:
    """Pending mutations in the order they were made, and what they make of entries.

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
        self._mutators = mutators
        self._confirmed = confirmed
        self._held = held
        self._touching = Order()
        """What rests on an entry."""
        self._laying = Order()
        """What changes it, as predicted."""
        self._dropped: list[tuple[int, list[Place]]] = []
        """What is gone since the last fold, and where it was laid."""
        self._before: dict[Place, Predicted | None] = {}
        """What was predicted at the last fold, where that may be another now."""
        self._is_unsure = False
        """Sessions, numbers or what was seen are others: anything may be held now, or not be any more."""

    def predicted(self, place: Place) -> Predicted | None:
        """Return what pending mutations make of an entry; None: they leave it alone."""
        ids = self._laying.of(place)
        return Predicted(self.pending[ids[-1]].laid[place], tuple(ids)) if ids else None

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
            self._rests(pending, tx)
        self.pending[pending.id] = pending
        self._lay(pending, dict(pending.writes))
        return value

    def drop(self, pending: Pending) -> None:
        """Forget a mutation and its prediction; `fold` sees to those that were made over it."""
        self._dropped.append((pending.id, list(pending.laid)))
        self._lay(pending, {})
        self._rests(pending, None)
        del self.pending[pending.id]

    def doubt(self) -> None:
        """Have the next fold ask of every mutation whether what is shown holds what became of it."""
        self._is_unsure = True

    # -------------------------------------------------------------------------------- the fold

    def fold(self, changed: set[Place], seen: set[Place], *, is_all: bool) -> set[Place]:
        """Predict anew what rests on anything that is another one now.

        Args:
            changed: Whose confirmed value or version is another one since the last fold.
            seen: Of which it is known now that they hold what became of further mutations.
            is_all: That may be so of any entry.

        Returns:
            The places whose prediction is another one.
        """
        agenda = Agenda()
        for place in changed:
            agenda.put(next(iter(self._touching.of(place)), None), place)
        if not (agenda or self._dropped or seen or is_all):
            return self._differing()
        for mutation_id, places in self._dropped:
            for place in places:
                agenda.put(self._touching.after(place, mutation_id), place)
        self._dropped.clear()
        self._note_held(agenda, None if is_all or self._is_unsure else seen)
        self._is_unsure = False
        while agenda:
            mutation_id, found = agenda.take()
            for place in self._again(self.pending[mutation_id], found):
                agenda.put(self._touching.after(place, mutation_id), place)
        return self._differing()

    def _note_held(self, agenda: Agenda, seen: set[Place] | None) -> None:
        """Have those looked at of which something else is held than before; of some places only what is held besides."""
        if seen is None:
            for pending in self.pending.values():
                if self._held(pending) != pending.confirmed:
                    agenda.put(pending.id)
            return
        for place in seen:
            done = set[int]()
            """Slots: what an entry holds of a client it holds up to one of its mutations, and none after that."""
            for mutation_id in self._touching.of(place):
                pending = self.pending[mutation_id]
                if pending.slot in done or place in pending.confirmed:
                    continue
                if place in self._held(pending):
                    agenda.put(mutation_id)
                else:
                    done.add(pending.slot)

    def _again(self, pending: Pending, places: set[Place]) -> set[Place]:
        """Predict one mutation anew, which finds something else at these places; return where those over it do."""
        pending.confirmed, touched = self._held(pending), pending.touched
        if not pending.confirmed or pending.confirmed != touched:
            self._rebase(pending)
            if pending.touched != touched:
                pending.confirmed = self._held(pending)
        old, confirmed = pending.laid, pending.confirmed
        new = {place: value for place, value in pending.writes.items() if place not in confirmed}
        for place, value in new.items():
            if place in old and is_same(old[place], value):
                new[place] = old[place]
                places.discard(place)
            else:
                places.add(place)
        places.update(place for place in old if place not in new)
        self._lay(pending, new)
        return places

    def _differing(self) -> set[Place]:
        before, self._before = self._before, {}
        return {place for place, old in before.items() if not _is_same(old, self.predicted(place))}

    def _rebase(self, pending: Pending) -> None:
        """Run the mutator again; one that fails now predicts nothing, and its mutation goes on.

        Unless what is shown holds some of its effect: then it cannot have failed, and its last prediction stands.
        """
        run, _ = self.find_mutator(pending.name)
        if run is None:
            return
        tx = self._tx(pending, "rebase")
        try:
            _call(run, tx, pending.args)
        except Exception as error:  # noqa: BLE001 - isolation: the application's code; the server decides what becomes of it
            if not isinstance(error, LocalRejected):
                _log.debug("mutator_raised_on_rebase: %s", pending.name, exc_info=True)
            if pending.confirmed:
                return
            tx.writes.clear()
        self._rests(pending, tx)

    def _tx(self, pending: Pending, reason: str) -> LocalTx:
        collection, dot, _ = pending.name.rpartition(".")
        read = self._reader(pending)
        return LocalTx(collection if dot else None, read, reason=reason, now_ms=pending.now_ms)

    def _reader(self, pending: Pending) -> Reader:
        """Return how a mutation sees what those before it made."""

        def read(place: Place) -> Reading:
            if place in pending.confirmed and place in pending.found:
                return pending.found[place]
            found = pending.found[place] = self._below(place, pending.id)
            return found

        return read

    def _below(self, place: Place, mutation_id: int) -> Reading:
        below = self._laying.before(place, mutation_id)
        if below is None:
            return self._confirmed(place)
        value = self.pending[below].laid[place]
        return value, 0 if value is NOTHING else None, True

    def _rests(self, pending: Pending, tx: LocalTx | None) -> None:
        """Note what a run wrote and what it rests on; None: it is over."""
        old, new = pending.touched, tx.touched if tx is not None else set[Place]()
        for place in old - new:
            self._touching.remove(place, pending.id)
        for place in new - old:
            self._touching.add(place, pending.id)
        pending.touched, pending.writes = new, tx.writes if tx is not None else {}

    def _lay(self, pending: Pending, new: dict[Place, Any]) -> None:
        """Lay a mutation's prediction over the entries, in place of its last one."""
        old = pending.laid
        for place in old:
            self._note(place)
            if place not in new:
                self._laying.remove(place, pending.id)
        for place in new:
            if place not in old:
                self._note(place)
                self._laying.add(place, pending.id)
        pending.laid = new

    def _note(self, place: Place) -> None:
        if place not in self._before:
            self._before[place] = self.predicted(place)


def _call(run: LocalMutator, tx: LocalTx, args: Any) -> object:
    args = copied(args)
    if args is None:
        return run(tx)
    if type(args) is list:
        return run(tx, *args)
    return run(tx, **args)


def _is_same(one: Predicted | None, other: Predicted | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.ids == other.ids and is_same(one.value, other.value)
