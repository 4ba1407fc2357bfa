"""Runs the mutations of one commit, in the order they arrived, each over what those before it did.

Used by the cache-owner, from one group to the next: make a `MutationGroup`, `run` each mutation, hand `commits` to the store,
and look at its answers with `rerun_after`. Nothing here is remembered beyond the group; nothing is committed here.

What advances a client's `mid`: whatever the mutator or its call decides for good (an unknown name, bad arguments, a rejection,
an exception, the time limit), because a mutation that can never pass must not block the client's queue. What is temporary (an
entry to load, a source that does not answer) does not, and holds back the same client's later mutations.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from syncd.errors import SyncdError
from syncd.model.arguments import BadArguments
from syncd.model.mutators import Mutator, Mutators
from syncd.model.recording import (
    Ground,
    Halted,
    Invalidation,
    MutatorTimedOut,
    Overlay,
    Place,
    Publication,
    Recording,
    Rejected,
)
from syncd.model.transaction import Tx, encode_value
from syncd.ports import Identity
from syncd.ports_state import Conflict, MutationCommit, MutationResult, OutOfOrder
from syncd.wire.encode_outcomes import outcome_ok, outcome_rejected

__all__ = [
    "Decided",
    "Decision",
    "Mutation",
    "MutationGroup",
    "NeedsKeys",
    "rerun_after",
]

MAX_RESULT_BYTES = 65_536
"""Of what a mutator returns: it is stored with the outcome, a thousand of them a client."""


@attrs.define(eq=False)
class Mutation:
    """One mutation as it was asked for. Authorised already."""

    client: str
    mid: int
    name: str
    args: object
    """Decoded: a map by name, a list by position, or None."""
    identity: Identity


@attrs.define(eq=False)
class Decided:
    """A mutation whose mutator has run, or can never run. Its effect is what the store makes of `commit`."""

    mutation: Mutation
    commit: MutationCommit
    invalidations: list[Invalidation] = attrs.field(factory=list)
    """To be told and acted on after the commit; the caller may add their events to `commit.events` before."""
    publications: list[Publication] = attrs.field(factory=list)
    """For channels without a log: to be published after the commit."""
    failure: BaseException | None = None
    """What the mutator raised by mistake, for the log. The client is told only `mutator_failed` or `mutator_timeout`."""


@attrs.define
class NeedsKeys:
    """The mutation has to run again when these entries are in memory.

    Empty: an earlier mutation of the same client has to.
    """

    places: list[Place]


Decision = Decided | NeedsKeys | SyncdError
"""What became of one mutation. A `SyncdError` is for its asker alone; nothing advanced."""


class MutationGroup:
    """The mutations of one commit. `commits[i]` belongs to `decided[i]`."""

    def __init__(self, mutators: Mutators, ground: Ground) -> None:
        self.commits: list[MutationCommit] = []
        self.decided: list[Decided] = []
        self._mutators = mutators
        self._ground = ground
        self._overlay: Overlay = {}
        self._held: dict[str, Decision] = {}

    def run(self, mutation: Mutation) -> Decision:
        """Run one more mutation. `Decided` ones have joined `commits`; others leave no trace but hold back their client."""
        held = self._held.get(mutation.client)
        if held is not None:
            return held
        author = None if mutation.identity.service is not None else mutation.client
        recording = Recording(self._ground, self._overlay, author)
        mutator = self._mutators.find(mutation.name)
        if mutator is None:
            return self._reject(
                mutation, recording, "unknown_mutator", "There is no mutator of this name."
            )
        try:
            return self._run(mutator, mutation, recording)
        except BadArguments as failure:
            return self._reject(mutation, recording, "bad_arguments", str(failure))
        except Halted:
            return self._hold(mutation, recording)
        except Rejected as refusal:
            return self._reject(mutation, recording, refusal.code, refusal.message)
        except MutatorTimedOut as failure:
            return self._reject(
                mutation, recording, "mutator_timeout", "It took too long.", failure
            )
        except SyncdError as failure:
            recording.failure = recording.failure or failure
            return self._hold(mutation, recording)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # noqa: BLE001 - one mutator's bug, whatever it raises, is its mutation's alone
            return self._reject(
                mutation, recording, "mutator_failed", "The server failed to do this.", failure
            )

    def _run(self, mutator: Mutator, mutation: Mutation, recording: Recording) -> Decision:
        rules = None
        if mutator.collection is not None:
            rules = self._ground.collections[mutator.collection]
        tx = Tx(recording, rules, mutation.identity)
        result = self._ground.keeper.call(mutator.run, tx, **mutator.bind(mutation.args))
        if recording.missing or recording.failure is not None:
            return self._hold(mutation, recording)
        value = None if result is None else encode_value(result)
        if value is not None and len(value) > MAX_RESULT_BYTES:
            raise ValueError(f"a mutator may return {MAX_RESULT_BYTES} bytes at most")
        return self._accept(mutation, recording, value)

    # -------------------------------------------------------------------------------------------- what became of it

    def _accept(self, mutation: Mutation, recording: Recording, value: bytes | None) -> Decided:
        client, mid = mutation.client, mutation.mid
        writes = recording.entry_writes(mid)
        commit = MutationCommit(
            client,
            mid,
            [*recording.reads.values()],
            writes,
            outcome_ok(client, mid, value),
            self._ground.now_ms,
            recording.events,
        )
        index = len(self.commits)
        for place, change in recording.writes.items():
            self._overlay[place] = (index, change)
        return self._decide(
            Decided(mutation, commit, recording.invalidations, recording.publications)
        )

    def _reject(
        self,
        mutation: Mutation,
        recording: Recording,
        code: str,
        message: str,
        failure: BaseException | None = None,
    ) -> Decision:
        """Refuse for good. What it read still counts: the refusal stands only as long as that is true."""
        if recording.missing or recording.failure is not None:
            return self._hold(mutation, recording)
        client, mid = mutation.client, mutation.mid
        outcome = outcome_rejected(client, mid, code, message)
        reads = [*recording.reads.values()]
        commit = MutationCommit(client, mid, reads, [], outcome, self._ground.now_ms)
        return self._decide(Decided(mutation, commit, failure=failure))

    def _hold(self, mutation: Mutation, recording: Recording) -> Decision:
        """Leave it and its client's later ones for another time, unless what went wrong cannot pass."""
        failure = recording.failure
        if failure is None:
            self._held[mutation.client] = NeedsKeys([])
            return NeedsKeys([*dict.fromkeys(recording.missing)])
        if failure.retryable:
            self._held[mutation.client] = failure
            return failure
        recording.failure = None
        recording.missing.clear()
        return self._reject(mutation, recording, failure.code.value, failure.message)

    def _decide(self, decided: Decided) -> Decided:
        self.decided.append(decided)
        self.commits.append(decided.commit)
        return decided


def rerun_after(decided: Sequence[Decided], results: Sequence[MutationResult]) -> list[Mutation]:
    """Return the mutations that have to run again, in order, before any newer one of their clients.

    These are the ones in conflict (what they read has changed, or was written by one that did not take effect) and their
    clients' later ones, which the store found out of order only for that reason. Everything else is answered with its result.

    Args:
        decided: Of the group.
        results: The store's, one for each.
    """
    again: list[Mutation] = []
    clients = set()
    for each, result in zip(decided, results, strict=True):
        mutation = each.mutation
        if isinstance(result, Conflict):
            clients.add(mutation.client)
            again.append(mutation)
        elif isinstance(result, OutOfOrder) and mutation.client in clients:
            again.append(mutation)
    return again
