"""One group of mutations and of the owner's own changes on its way through the store.

A group is made, handed to the store, and told when it is decided: events and outcomes go to the broadcaster in the store's callback,
in the order of the commits, so that no other commit's events overtake them; memory follows when the cache-owner takes `GroupDone`,
before anything that its askers may ask next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from syncd.actors.cache_owner.holdings import TOMBSTONE, Holdings
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.collection_memory import CachedEntry
from syncd.model.mutation_group import Decided
from syncd.model.recording import Place
from syncd.ports import Asker, PublishEvent
from syncd.ports_collections import (
    CommittedEvent,
    DeliverCommitted,
    MutateState,
    OutcomeToTell,
)
from syncd.ports_state import (
    Committed,
    EntryWrite,
    KnownOutcome,
    MutationCommit,
    MutationResult,
)
from syncd.wire.encode_outcomes import outcome_unknown

__all__ = ["Group", "Item", "split", "tell", "write_memory", "write_volatile"]


class _Nobody:
    """Who published from a mutator waits for no answer."""

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Nobody listens."""

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """Nobody listens."""

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Nobody listens."""


_NOBODY: Asker = _Nobody()

Settle = Callable[[MutationResult | SyncdError], None]


@attrs.define(eq=False)
class Item:
    """One commit of a group: a mutation, or a change of the owner's own (`settle`)."""

    commit: MutationCommit
    """As the store gets it: without what is volatile."""
    command: MutateState | None = None
    decided: Decided | None = None
    settle: Settle | None = None
    volatile: list[EntryWrite] = attrs.field(factory=list)
    volatile_positions: list[Position] = attrs.field(factory=list)
    """Of the volatile writes, given when the commit is known to stand."""
    is_told: bool = False
    """Whoever waits for it knows what became of it, or it runs again."""


@attrs.define(eq=False)
class Group:
    """What is in one ask to the store."""

    items: list[Item]
    volatile_places: set[Place] = attrs.field(factory=set)
    """Read or written here: nothing else may change them until it is decided."""
    answer: list[MutationResult] | SyncdError | None = None
    """The store's; events and outcomes are told already."""
    left_with: SyncdError | None = None
    """The cache-owner crashed or stopped meanwhile: told to those whose mutation the store did not decide."""

    def commits(self) -> list[MutationCommit]:
        """Return what the store is to decide."""
        return [item.commit for item in self.items]

    def leave(self, error: SyncdError) -> None:
        """Nobody holds any more what the group's volatile writes would change; changes of the owner's own are told the error."""
        self.left_with = error
        for item in self.items:
            item.volatile, item.volatile_positions = [], []
            if item.settle is not None and not item.is_told:
                item.settle(error)


_NO_WRITES: list[EntryWrite] = []
_NO_PLACES: frozenset[Place] = frozenset()


def split(
    holdings: Holdings, commit: MutationCommit
) -> tuple[MutationCommit, list[EntryWrite], frozenset[Place]]:
    """Part what the store keeps from what only memory does.

    Returns:
        The commit for the store, the volatile writes, and every volatile place that is read or written.
    """
    if not holdings.has_volatile:
        return commit, _NO_WRITES, _NO_PLACES
    is_volatile = holdings.is_volatile
    if not _touches_volatile(holdings, commit):
        return commit, _NO_WRITES, _NO_PLACES
    volatile = [write for write in commit.writes if is_volatile(write.channel)]
    places = {(write.channel, write.key) for write in volatile}
    places |= {(read.channel, read.key) for read in commit.reads if is_volatile(read.channel)}
    kept = attrs.evolve(
        commit,
        reads=[read for read in commit.reads if not is_volatile(read.channel)],
        writes=[write for write in commit.writes if not is_volatile(write.channel)],
    )
    return kept, volatile, frozenset(places)


def refuse_untold(group: Group, error: SyncdError) -> None:
    """Tell the askers of a group that was left whose outcomes `tell` did not tell."""
    answer = group.answer
    for index, item in enumerate(group.items):
        command = item.command
        if command is None or item.is_told:
            continue
        result = answer if isinstance(answer, SyncdError) or answer is None else answer[index]
        if isinstance(result, Committed | KnownOutcome):
            continue
        failure = result if isinstance(result, SyncdError) else error
        command.asker.refuse_mutation(command.client, command.mid, failure)


def _touches_volatile(holdings: Holdings, commit: MutationCommit) -> bool:
    asked = None
    for touched in (commit.reads, commit.writes):
        for each in touched:
            channel = each.channel
            if channel is not asked and holdings.is_volatile(channel):
                return True
            asked = channel  # mostly the one channel of all
    return False


def tell(holdings: Holdings, group: Group, results: list[MutationResult]) -> DeliverCommitted:
    """Return what the broadcaster is to deliver: events by offset, then publications, then outcomes. Gives volatile offsets."""
    message = DeliverCommitted([])
    for item, result in zip(group.items, results, strict=True):
        if isinstance(result, Committed):
            positions = _tell_committed(holdings, item, result, message)
            command, commit = item.command, item.commit
            if command is not None:
                message.outcomes.append(OutcomeToTell(command.asker, commit.outcome, positions))
                if message.since == math.inf:
                    message.since = (
                        command.asked_at
                    )  # they come in the order in which they were asked
        elif isinstance(result, KnownOutcome) and item.command is not None:
            command, outcome = item.command, result.outcome
            if outcome is None:
                outcome = outcome_unknown(command.client or "", command.mid)
            message.outcomes.append(OutcomeToTell(command.asker, outcome, result.positions))
    return message


def _tell_committed(
    holdings: Holdings, item: Item, result: Committed, message: DeliverCommitted
) -> Mapping[ChannelName, Position]:
    commit, positions = item.commit, result.positions
    events = message.events
    at_ms = commit.at_ms
    for write, version in zip(commit.writes, result.versions, strict=True):
        channel = write.channel
        epoch = positions[channel].epoch
        events.append(
            CommittedEvent(channel, epoch, version, at_ms, write.key, write.record, write.full)
        )
    for event, appended in zip(commit.events, result.appended, strict=True):
        channel, epoch, offset = event.channel, appended.epoch, appended.offset
        events.append(CommittedEvent(channel, epoch, offset, event.at_ms, event.key, event.record))
    if item.volatile:
        positions = dict(positions)
        for write in item.volatile:
            position = positions[write.channel] = holdings.next_offset(write.channel)
            item.volatile_positions.append(position)
            events.append(_volatile_event(write, position, at_ms))
    if item.decided is not None and item.decided.publications:
        client = item.decided.mutation.client
        message.publications += [
            PublishEvent(_NOBODY, 0, each.channel, each.data, each.name, each.key, client)
            for each in item.decided.publications
        ]
    return positions


def _volatile_event(write: EntryWrite, position: Position, at_ms: int) -> CommittedEvent:
    # Whole values only: a patch needs every event before it, and volatile channels keep few.
    record = write.record if write.full is None else write.full
    return CommittedEvent(write.channel, position.epoch, position.offset, at_ms, write.key, record)


def write_memory(
    holdings: Holdings, item: Item, result: Committed, *, is_old: bool = False
) -> None:
    """Bring memory to what a commit made so. `is_old`: its source is to be asked again.

    Callers say afterwards, for all at once, up to where memory is (`Holdings.committed_alone`).
    """
    commit, is_shared = item.commit, holdings.is_shared
    if is_shared:
        holdings.committed_among_others(commit, result)
    client = commit.client
    if client is not None:
        holdings.decided.note(client, commit.mid)
    for write, version in zip(commit.writes, result.versions, strict=True):
        _write_entry(holdings, write, version, client)
        if is_shared and holdings.is_overtaken(write.channel, result.positions[write.channel]):
            holdings.forget_entry((write.channel, write.key))
        elif is_old:
            holdings.expire((write.channel, write.key))
    for write, position in zip(item.volatile, item.volatile_positions, strict=True):
        holdings.note(write.channel, position)
        _write_entry(holdings, write, position.offset, client)


def _write_entry(holdings: Holdings, write: EntryWrite, version: int, client: str | None) -> None:
    holding, now, value = holdings.of_channel(write.channel), holdings.now, write.value
    assert holding is not None, "entries are written by collections"
    until = holding.fresh_until(now, is_there=True) if holding.has_source else math.inf
    if value == TOMBSTONE:
        value = None
    entry = CachedEntry(0 if write.value is None else version, value, write.tags, until, client)
    place = (write.channel, write.key)
    holding.memory.keep(place, entry, now)
    if holdings.borrowed and place in holdings.borrowed:
        holdings.borrowed[place] = entry
    holdings.outdate(place)
    if write.is_forwarded:
        holding.dirty[place] = version


def write_volatile(
    holdings: Holdings, write: EntryWrite, fresh_until: float, at_ms: int
) -> DeliverCommitted:
    """Change a volatile entry now; returns what the broadcaster is to deliver."""
    position = holdings.next_offset(write.channel)
    holdings.note(write.channel, position)
    holding = holdings.of_channel(write.channel)
    assert holding is not None, "entries are written by collections"
    entry = CachedEntry(position.offset, write.value, write.tags, fresh_until)
    holding.memory.keep((write.channel, write.key), entry, holdings.now)
    return DeliverCommitted([_volatile_event(write, position, at_ms)])
