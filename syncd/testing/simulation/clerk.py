"""A user's half that is about collections: watches, mutations and reads, and what is shown while they are under way.

SETTLE is judged here: from the moment a mutation is made until it is rejected, its tag is shown, and shown once, in every watch that covers it,
whatever connections and watches come and go.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import attrs
import trio

from syncd.client.errors import MutationRejected
from syncd.client.facts_state import (
    MutationOutcome,
    OutcomeStatus,
    ReadResult,
    StateFact,
    ViewChanged,
    WatchEnded,
)
from syncd.client.watch import Selection
from syncd.testing.simulation.shop import COLLECTIONS, KEYS

if TYPE_CHECKING:
    from syncd.testing.simulation.shell import Shell
    from syncd.testing.simulation.world import World

__all__ = ["Clerk"]

MAX_PENDING = 40
MAX_WATCHES = 4
NUM_REMEMBERED = 30
"""Own mutations whose tags are looked for at every change."""


@attrs.define(eq=False)
class _Made:
    """A mutation of ours."""

    tag: str
    collection: str
    keys: tuple[str, ...]
    is_sure: bool
    """It is predicted whatever comes before it."""
    is_ok: bool = False


class Clerk:
    """Watches, mutates, reads."""

    def __init__(self, world: World, shell: Shell, rng: random.Random) -> None:
        self._world = world
        self._shell = shell
        self._rng = rng
        self._num_made = 0
        self.watches: dict[int, Selection] = {}
        self._shown: set[int] = set()
        """Watches that have been current once."""
        self.pending: dict[int, _Made] = {}
        self._settled: list[_Made] = []
        self._has_changed = False
        self.reading: dict[int, tuple[str, tuple[str, ...], list[_Made]]] = {}

    # -------------------------------------------------------------------------------- acts

    def watch(self) -> None:
        """Watch a collection, or some keys of it."""
        if len(self.watches) < MAX_WATCHES:
            keys = None if self._rng.random() < 0.7 else frozenset(self._rng.sample(KEYS, 2))
            self.watch_one(Selection(self._rng.choice(COLLECTIONS), keys))

    def watch_one(self, selection: Selection) -> None:
        """Watch just this."""
        self.watches[self._shell.core.watch(selection)] = selection

    def unwatch(self) -> None:
        """Lose interest in something."""
        if self.watches:
            watch = self._rng.choice(sorted(self.watches))
            del self.watches[watch]
            self._shown.discard(watch)
            self._shell.core.unwatch(watch)

    def mutate(self) -> None:
        """Change something, or some things at once."""
        for _ in range(self._rng.choice((1, 1, 1, 4))):
            if len(self.pending) < MAX_PENDING:
                collection = self._rng.choice(COLLECTIONS[:2])
                self.mutate_one(collection, self._rng.choice(("add", "add", "claim", "pair")))

    def mutate_one(self, collection: str, mutator: str, key: str | None = None) -> None:
        """Make one mutation."""
        self._num_made += 1
        tag = f"{self._shell.name}.{self._num_made}"
        keys = KEYS[:2] if mutator == "pair" else (key or self._rng.choice(KEYS),)
        args = {"tag": tag} if mutator == "pair" else {"key": keys[0], "tag": tag}
        try:
            number, _ = self._shell.core.mutate(
                trio.current_time(), f"{collection}.{mutator}", args
            )
        except MutationRejected:
            self._world.counts["predicted rejects"] += 1
            return
        self.pending[number] = _Made(tag, collection, keys, mutator != "claim")

    def read(self) -> None:
        """Read entries once."""
        if len(self.reading) < MAX_PENDING:
            collection = self._rng.choice(COLLECTIONS)
            self._read(collection, tuple(self._rng.sample(KEYS, 2)))

    def _read(self, collection: str, keys: tuple[str, ...]) -> None:
        number = self._shell.core.read(collection, keys)
        self.reading[number] = (collection, keys, list(self._settled))

    def _read_back(self, made: _Made) -> None:
        plan = self._world.plan
        if plan.num_nodes == 1 or len(self.reading) >= MAX_PENDING:
            return
        if plan.read_back and self._rng.random() < plan.read_back:
            self._world.counts["read back"] += 1
            self._read(made.collection, made.keys)

    # -------------------------------------------------------------------------------- facts

    def take(self, fact: StateFact) -> None:
        """Take what the core tells."""
        match fact:
            case ViewChanged(watch=watch, is_current=is_current):
                if is_current and watch in self.watches:
                    self._shown.add(watch)
                self._has_changed = True
            case MutationOutcome():
                self._ended(fact)
                self._has_changed = True
            case WatchEnded():
                self._breach("RECOVER", f"{fact}")
            case _:
                self._world.counts["invalidations heard"] += 1

    def _ended(self, fact: MutationOutcome) -> None:
        made = self.pending.pop(fact.id)
        world = self._world
        world.counts[f"outcomes {fact.status.value}"] += 1
        if fact.status is OutcomeStatus.OK:
            made.is_ok = True
            self._settled = [*self._settled[1 - NUM_REMEMBERED :], made]
            self._read_back(made)
            for key in made.keys:
                if made.tag in world.ledger.lost:
                    world.counts["acknowledged and lost"] += 1
                elif not world.ledger.has_tag(made.collection, key, made.tag):
                    self._breach(
                        "DURABLE", f"{made.tag} is ok, and not committed to {made.collection} {key}"
                    )
        elif world.ledger.life and fact.status is OutcomeStatus.UNKNOWN:
            world.counts["outcomes lost"] += 1
        elif fact.status is OutcomeStatus.REJECTED:
            world.ledger.refused(made.tag)
            if made.is_sure:
                self._breach("ONCE", f"{made.tag} was rejected: {fact.code} {fact.message}")
        else:
            self._breach("ONCE", f"{made.tag} ended {fact.status}")

    def answered(self, request_id: int, result: object, error: object) -> bool:
        """Take the answer to a read; returns whether it was one of ours."""
        asked = self.reading.pop(request_id, None)
        if asked is None:
            return False
        collection, keys, known = asked
        if not isinstance(result, ReadResult):
            self._world.counts["reads failed"] += 1
            if collection == "journal":
                self._breach("READ-YOUR-WRITES", f"reading {collection} failed: {error}")
            return True
        values = {entry.key: entry.value for entry in result.entries}
        told = {entry.key: (entry.version, entry.value) for entry in result.entries}
        assert result.position is not None
        self._world.check_told(self._shell.name, collection, result.position, told)
        lost = self._world.ledger.lost
        for made in known:
            if made.tag in lost:
                continue
            for key in made.keys if made.collection == collection else ():
                if key in keys and made.tag not in _tags(values.get(key)):
                    self._breach(
                        "READ-YOUR-WRITES", f"{made.tag} is missing from {collection} {key}"
                    )
        return True

    # -------------------------------------------------------------------------------- what is shown

    def check_shown(self) -> None:
        """Look at every watch, once a step of the client's is over."""
        if not self._has_changed:
            return
        self._has_changed = False
        for watch in self._shown:
            self._check_shown(watch, self.watches[watch])

    def _check_shown(self, watch: int, selection: Selection) -> None:
        if not self._is_of_this_life(selection.collection):
            return
        items = self._shell.core.entries.items(watch)
        shown = {key: _tags(value) for key, value in items.items()}
        lost = self._world.ledger.lost
        for made in (*self._settled, *self.pending.values()):
            if made.collection != selection.collection or not (made.is_ok or made.is_sure):
                continue
            if made.tag in lost:
                continue
            state = "settled" if made.is_ok else "pending"
            for key in made.keys:
                count = shown.get(key, []).count(made.tag)
                if selection.covers(key) and count != 1:
                    place = f"{selection.collection} {key}"
                    text = f"{made.tag}, {state}, is shown {count} times in {place}"
                    self._breach("SETTLE", text)

    def _is_of_this_life(self, collection: str) -> bool:
        """Whether what is shown cannot be of a life of the store that is over, as it is until all of the new one has come."""
        if not self._world.ledger.life:
            return True
        log = self._world.truth.logs.get(collection)
        return log is not None and all(
            watch.is_settled and watch.position is not None and watch.position.epoch == log.epoch
            for watch in self._shell.core.entries.watches
            if watch.selection.collection == collection
        )

    def check_converged(self) -> None:
        """All is quiet: every watch shows what the log says."""
        for watch, selection in self.watches.items():
            items = self._shell.core.entries.items(watch)
            entries = self._world.ledger.entries.get(selection.collection, {})
            for key in KEYS:
                if not selection.covers(key):
                    continue
                value = entries[key].value if key in entries else None
                if items.get(key) != value:
                    self._breach(
                        "CONVERGED",
                        f"{selection.collection} {key} shows {items.get(key)}, is {value}",
                    )

    def is_content(self) -> bool:
        """Whether nothing is pending and every watch is live."""
        return (
            not self.pending
            and not self.reading
            and all(watch.is_settled for watch in self._shell.core.entries.watches)
        )

    def what_waits(self) -> str:
        """Say what keeps it from being content."""
        watches = [
            f"{w.selection} {w.state}" for w in self._shell.core.entries.watches if not w.is_settled
        ]
        return f"pending {[made.tag for made in self.pending.values()]}, reads {list(self.reading.values())}, {watches}"

    def _breach(self, promise: str, text: str) -> None:
        self._world.breaches.add(promise, f"{self._shell.name}: {text}")


def _tags(value: Any) -> list[str]:
    return list(value.get("tags", ())) if isinstance(value, dict) else []
