"""Runs the mutations of one commit, in the order they arrived, each over what those before it did.

Used by the cache-owner, from one group to the next: make a `MutationGroup`, `run` each mutation, hand `commits` to the store,
and look at its answers with `rerun_after`. Nothing here is remembered beyond the group; nothing is committed here.

What advances a client's `mid`: whatever the mutator or its call decides for good (an unknown name, bad arguments, a rejection,
an exception, the time limit), because a mutation that can never pass must not block the client's queue. What is temporary (an
entry to load, a source that does not answer) does not, and holds back the same client's later mutations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.model.arguments import BadArguments
from syncd.model.mutators import Mutator, Mutators
from syncd.model.recording import (
    Change,
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
from syncd.ports_log import IdempotencyKey
from syncd.ports_state import Conflict, MutationCommit, MutationResult, OutOfOrder
from syncd.wire.encode_outcomes import outcome_ok, outcome_rejected

__all__ = [
    "Decided",
    "Decision",
    "Mutation",
    "MutationAsked",
    "MutationGroup",
    "NeedsKeys",
    "rerun_after",
]

MAX_RESULT_BYTES = 65_536
"""Of what a mutator returns: it is stored with the outcome, a thousand of them a client."""


class MutationAsked(Protocol):
    """One mutation as it was asked for, authorised already: what the group needs of it. `Mutation` is the plainest one."""

    client: str | None
    mid: int
    name: str
    args: object
    identity: Identity
    refusal: str | None
    idempotency: IdempotencyKey | None


@attrs.define(eq=False)
class Mutation:
    """One mutation as it was asked for. Authorised already."""

    client: str | None
    """None: a service, whose mutations nobody numbers."""
    mid: int
    name: str
    args: object
    """Decoded: a map by name, a list by position, or None."""
    identity: Identity
    refusal: str | None = None
    """Code of a rejection decided before: the mutator is not run."""
    idempotency: IdempotencyKey | None = None


@attrs.define(eq=False)
class Decided:
    """A mutation whose mutator has run, or can never run. Its effect is what the store makes of `commit`."""

    mutation: MutationAsked
    commit: MutationCommit
    invalidations: list[Invalidation] = attrs.field(factory=list)
    """To be told and acted on after the commit; the caller may add their events to `commit.events` before."""
    publications: list[Publication] = attrs.field(factory=list)
    """For channels without a log: to be published after the commit."""
    failure: BaseException | None = None
    """What the mutator raised by mistake, for the log. The client is told only `mutator_failed` or `mutator_timeout`."""
    is_rejected: bool = False


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
        self._held: dict[str | None, Decision] = {}
        self._before: dict[Place, tuple[int, Change] | None] = {}
        """What the overlay had where the last mutation wrote."""

    def run(self, mutation: MutationAsked) -> Decision:  # noqa: C901 - the hot path, a call less
        """Run one more mutation. `Decided` ones have joined `commits`; others leave no trace but hold back their client."""
        if self._held and mutation.client in self._held:
            return self._held[mutation.client]
        author = None if mutation.identity.service is not None else mutation.client
        recording = Recording(self._ground, self._overlay, author)
        mutator = self._mutators.find(mutation.name)
        if mutation.refusal is not None:
            return self._reject(mutation, recording, mutation.refusal, _text(mutation.refusal))
        if mutator is None:
            return self._reject(
                mutation, recording, "unknown_mutator", "There is no mutator of this name."
            )
        try:  # whatever it does is a decision
            return self._run(mutator, mutation, recording)
        except BadArguments as failure:
            return self._reject(mutation, recording, "bad_arguments", str(failure))
        except Halted:
            return self._hold(mutation, recording)
        except Rejected as refusal:
            return self._reject(mutation, recording, refusal.code, refusal.message)
        except SyncdError as failure:
            recording.failure = recording.failure or failure
            return self._hold(mutation, recording)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:  # noqa: ASYNC103, BLE001 - no task runs here: one mutator's bug, whatever it raises, is its own
            code, text = "mutator_failed", "The server failed to do this."
            if isinstance(failure, MutatorTimedOut):
                code, text = "mutator_timeout", "It took too long."
            return self._reject(mutation, recording, code, text, failure)  # noqa: ASYNC104 - as above

    def _run(self, mutator: Mutator, mutation: MutationAsked, recording: Recording) -> Decision:
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

    def _accept(
        self, mutation: MutationAsked, recording: Recording, value: bytes | None
    ) -> Decided:
        client, mid = mutation.client, mutation.mid
        writes = recording.entry_writes(mid)
        commit = MutationCommit(
            client,
            mid,
            [*recording.reads.values()],
            writes,
            outcome_ok(client or "", mid, value),
            self._ground.now_ms,
            recording.events,
            mutation.idempotency,
        )
        index, overlay = len(self.commits), self._overlay
        self._before = before = {}
        for place, change in recording.writes.items():
            before[place] = overlay.get(place)
            overlay[place] = (index, change)
        return self._decide(
            Decided(mutation, commit, recording.invalidations, recording.publications)
        )

    def _reject(
        self,
        mutation: MutationAsked,
        recording: Recording,
        code: str,
        message: str,
        failure: BaseException | None = None,
    ) -> Decision:
        """Refuse for good. What it read still counts: the refusal stands only as long as that is true."""
        if recording.missing or recording.failure is not None:
            return self._hold(mutation, recording)
        client, mid = mutation.client, mutation.mid
        outcome = outcome_rejected(client or "", mid, code, message)
        reads = [*recording.reads.values()]
        commit = MutationCommit(
            client, mid, reads, [], outcome, self._ground.now_ms, idempotency=mutation.idempotency
        )
        self._before = {}
        return self._decide(Decided(mutation, commit, failure=failure, is_rejected=True))

    def _hold(self, mutation: MutationAsked, recording: Recording) -> Decision:
        """Leave it and its client's later ones for another time, unless what went wrong cannot pass."""
        failure = recording.failure
        if failure is None:
            self._hold_back(mutation, NeedsKeys([]))
            return NeedsKeys([*dict.fromkeys(recording.missing)])
        if failure.retryable:
            self._hold_back(mutation, failure)
            return failure
        recording.failure = None
        recording.missing.clear()
        return self._reject(mutation, recording, failure.code.value, failure.message)

    def _hold_back(self, mutation: MutationAsked, decision: Decision) -> None:
        """Let the later mutations of the same client wait too."""
        if mutation.client is not None:
            self._held[mutation.client] = decision

    def take_back(self) -> None:
        """Undo the mutation that was decided last, and hold back its client: it has to run in another group."""
        decided = self.decided.pop()
        self.commits.pop()
        for place, before in self._before.items():
            if before is None:
                del self._overlay[place]
            else:
                self._overlay[place] = before
        self._before = {}
        self._hold_back(decided.mutation, NeedsKeys([]))

    def _decide(self, decided: Decided) -> Decided:
        self.decided.append(decided)
        self.commits.append(decided.commit)
        return decided


def _text(refusal: str) -> str:
    """What people are told of a rejection that was decided before; `codes.toml` has the same under `rejections`."""
    if refusal == ErrorCode.PERMISSION_DENIED.value:
        return "The mutator does not exist or this identity may not call it."
    return ErrorCode(refusal).text


def rerun_after(
    decided: Sequence[Decided], results: Sequence[MutationResult]
) -> list[MutationAsked]:
    """Return the mutations that have to run again, in order, before any newer one of their clients.

    These are the ones in conflict (what they read has changed, or was written by one that did not take effect) and their
    clients' later ones, which the store found out of order only for that reason. Everything else is answered with its result.

    Args:
        decided: Of the group.
        results: The store's, one for each.
    """
    again: list[MutationAsked] = []
    clients = set()
    for each, result in zip(decided, results, strict=True):
        mutation = each.mutation
        if isinstance(result, Conflict):
            clients.add(mutation.client)
            again.append(mutation)
        elif isinstance(result, OutOfOrder) and mutation.client in clients:
            again.append(mutation)
    return again
