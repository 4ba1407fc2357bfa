"""The committed side of a mutation: entries, logs and outcomes, decided one after the other as DESIGN 5.3 says it."""

import attrs
import msgpack

from syncd.ids import Position
from syncd.model.mutation_group import Mutation, MutationGroup
from syncd.model.mutators import Mutators
from syncd.model.recording import CollectionRules, Ground, Missing, Untimed
from syncd.ports import Identity
from syncd.ports_log import Appended
from syncd.ports_state import Committed, Conflict, KnownOutcome, OutOfOrder
from syncd.wire.encode import EventPrefix, event_body
from syncd.wire.encode_outcomes import outcome_message

NOW_MS = 1_700_000_000_000
ANYBODY = Identity()


@attrs.define
class State:
    """A store and, as a `View`, a cache in front of it that may lack entries or be out of date."""

    entries: dict = attrs.field(factory=dict)
    """Place to (version, value, tags)."""
    tops: dict = attrs.field(factory=dict)
    last: dict = attrs.field(factory=dict)
    outcomes: dict = attrs.field(factory=dict)
    log: list = attrs.field(factory=list)
    """(channel, offset, record) in order."""
    absent: set = attrs.field(factory=set)
    """Places that are not in memory."""
    stale: dict = attrs.field(factory=dict)
    """What the view still takes for true."""
    broken: dict = attrs.field(factory=dict)
    """Place to the error of asking for it."""
    num_lookups: int = 0

    def fork(self):
        return State(
            dict(self.entries), dict(self.tops), dict(self.last), dict(self.outcomes), [*self.log]
        )

    def seed(self, channel, key, value, tags=()):
        self._append(channel, b"\x00")
        self.entries[channel, key] = (self.tops[channel], msgpack.packb(value), tags)

    def values(self):
        return {place: msgpack.unpackb(entry[1]) for place, entry in self.entries.items()}

    # ------------------------------------------------------------------ View

    def version_and_value(self, channel, key):
        place = (channel, key)
        self.num_lookups += 1
        if place in self.broken:
            raise self.broken[place]
        if place in self.absent:
            raise Missing
        version, value, _ = self.stale.get(place) or self.entries.get(place, (0, None, ()))
        return version, value

    def tags(self, channel, key):
        return (self.stale.get((channel, key)) or self.entries[channel, key])[2]

    # ------------------------------------------------------------------ Store

    def commit(self, group):
        results = []
        writers = {}
        for index, mutation in enumerate(group):
            results.append(self._decide(mutation, results, writers))
            if isinstance(results[-1], Committed):
                writers |= {(write.channel, write.key): index for write in mutation.writes}
        return results

    def _decide(self, mutation, results, writers):
        last = self.last.get(mutation.client, 0)
        if mutation.mid <= last:
            return KnownOutcome(*self.outcomes[mutation.client, mutation.mid])
        if mutation.mid != last + 1:
            return OutOfOrder(last + 1)
        for read in mutation.reads:
            place = (read.channel, read.key)
            if read.written_by is not None:
                is_so = writers.get(place) == read.written_by
                assert not is_so or isinstance(results[read.written_by], Committed)
            else:
                is_so = self.entries.get(place, (0,))[0] == read.version
            if not is_so:
                return Conflict(read)
        return self._take_effect(mutation)

    def _take_effect(self, mutation):
        positions, versions, appended = {}, [], []
        for write in mutation.writes:
            offset = self._append(write.channel, write.record)
            versions.append(offset)
            positions[write.channel] = Position("e", offset)
            if write.value is None:
                self.entries.pop((write.channel, write.key), None)
            else:
                self.entries[write.channel, write.key] = (offset, write.value, write.tags)
        for event in mutation.events:
            offset = self._append(event.channel, event.record)
            appended.append(Appended("e", offset))
            positions[event.channel] = Position("e", offset)
        self.last[mutation.client] = mutation.mid
        self.outcomes[mutation.client, mutation.mid] = (mutation.outcome, positions)
        return Committed(versions, positions, appended)

    def _append(self, channel, record):
        offset = self.tops[channel] = self.tops.get(channel, 0) + 1
        self.log.append((channel, offset, record))
        return offset


@attrs.define
class Bench:
    """A registry, two collections and a state to run groups on."""

    state: State = attrs.field(factory=State)
    mutators: Mutators = attrs.field(factory=Mutators)
    collections: dict = attrs.field(
        factory=lambda: {
            "orders": CollectionRules("orders", max_value_bytes=10_000),
            "lines": CollectionRules("lines", is_partitioned=True),
        }
    )
    logged: dict = attrs.field(factory=dict)
    """Channel to whether it has a log."""
    mids: dict = attrs.field(factory=dict)

    def is_logged(self, channel, size):
        answer = self.logged.get(channel, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ground(self, view=None, keeper=None):
        keeper = keeper or Untimed()
        return Ground(view or self.state, self.collections, NOW_MS, self.is_logged, keeper)

    def group(self, view=None, keeper=None):
        return MutationGroup(self.mutators, self.ground(view, keeper))

    def add(self, run, name="act", collection="orders"):
        return self.mutators.add(name, run, collection=collection)

    def mutation(self, name, args=None, *, client="c", mid=None, identity=ANYBODY):
        mid = self.mids[client] = self.mids.get(client, 0) + 1 if mid is None else mid
        return Mutation(client, mid, name, args, identity)

    def decide(self, run, args=None, *, identity=ANYBODY, keeper=None):
        """Run one function as a mutator, and return what became of it; nothing is committed."""
        mutators = Mutators()
        mutators.add("act", run, collection="orders")
        group = MutationGroup(mutators, self.ground(keeper=keeper))
        return group.run(Mutation("c", 1, "orders.act", args, identity))

    def commit(self, run, args=None):
        """Run one function as a mutator and commit it; return its outcome."""
        decided = self.decide(run, args)
        decided.commit.mid = self.state.last.get("c", 0) + 1
        (result,) = self.state.commit([decided.commit])
        assert isinstance(result, Committed)
        return outcome_of(decided)


def outcome_of(decided, positions=None):
    """The outcome's body as a client sees it."""
    kind, body = msgpack.unpackb(outcome_message(decided.commit.outcome, positions or {}))
    assert kind == "outcome"
    return body


def rejection_of(decided):
    """The code of a rejection."""
    body = outcome_of(decided)
    assert body["status"] == "rejected", body
    assert decided.commit.writes == []
    return body["error"]["code"]


def event_of(write, offset=9):
    """The event that tells a write, as a client sees it."""
    return msgpack.unpackb(event_body(EventPrefix(write.channel, "e"), offset, write.record))
