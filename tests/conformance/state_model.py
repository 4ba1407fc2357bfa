"""What a store of mutations must answer, in dicts: slow, naive and meant to be read."""

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended
from syncd.ports_state import Committed, Conflict, DirtyKey, Entry, KnownOutcome, OutOfOrder
from syncd.store.base import CLIENT_USE_MS, mismatch

UNKNOWN = KnownOutcome(None, {})


@attrs.define
class Perhaps:  # noqa: PLW1641 - compared, never kept in a set
    """An outcome that may have been forgotten: both answers are right."""

    known: KnownOutcome

    def __eq__(self, answer):
        return answer in (self.known, UNKNOWN)


@attrs.define
class Outcome:
    """What was answered first, and what became of it."""

    known: KnownOutcome
    at_ms: int
    is_kept: bool = True
    is_certain: bool = True
    """False: a walk that was not finished may have forgotten it."""


@attrs.define
class Client:
    """One client; `used_ms` is its last use as it is written down."""

    last: int = 0
    used_ms: int = 0
    outcomes: dict = attrs.field(factory=dict)

    def copy(self):
        outcomes = {mid: attrs.evolve(outcome) for mid, outcome in self.outcomes.items()}
        return Client(self.last, self.used_ms, outcomes)

    def known(self, mid, max_outcomes):
        outcome = self.outcomes.get(mid)
        if outcome is None or not outcome.is_kept or mid <= self.last - max_outcomes:
            return UNKNOWN
        return outcome.known if outcome.is_certain else Perhaps(outcome.known)


class Mismatch:  # noqa: PLW1641 - compared, never kept in a set
    """The refusal of a key used for another request."""

    def __eq__(self, answer):
        return type(answer) is type(mismatch()) and answer.code is mismatch().code


@attrs.frozen
class Keyed:
    """An outcome under an idempotency key."""

    request_hash: bytes
    known: KnownOutcome
    at_ms: int


@attrs.define
class Model:
    """All that was committed."""

    epochs: dict
    max_outcomes: int
    logs: dict
    entries: dict
    clients: dict
    dirty: dict
    """Place to version."""
    keyed: dict

    @classmethod
    def empty(cls, epochs, clients, max_outcomes):
        return cls(
            epochs,
            max_outcomes,
            {name: [] for name in epochs},
            {name: {} for name in epochs},
            {name: Client() for name in clients},
            {},
            {},
        )

    def copy(self):
        """Return one that can be thrown away."""
        return Model(
            self.epochs,
            self.max_outcomes,
            {name: list(log) for name, log in self.logs.items()},
            {name: dict(entries) for name, entries in self.entries.items()},
            {name: client.copy() for name, client in self.clients.items()},
            dict(self.dirty),
            dict(self.keyed),
        )

    def version(self, channel, key):
        entry = self.entries[channel].get(key)
        return 0 if entry is None else entry.version

    def append(self, channel, at_ms, key, record):
        self.logs[channel].append((at_ms, key, record))
        return Position(self.epochs[channel], len(self.logs[channel]))

    def decide(self, mutation, index, writers):
        """Return the one right answer, having applied it; `writers` has the place and index of what its group wrote."""
        answer = self.judge(mutation, writers)
        if isinstance(answer, Committed):
            writers |= {(write.channel, write.key): index for write in mutation.writes}
        return answer

    def judge(self, mutation, writers):
        if mutation.client is None:
            former = self.known_by_key(mutation)
        else:
            former = self.known_by_number(mutation)
        if former is not None:
            return former
        for read in mutation.reads:
            if read.written_by is not None:
                is_so = writers.get((read.channel, read.key)) == read.written_by
            else:
                is_so = self.version(read.channel, read.key) == read.version
            if not is_so:
                return Conflict(read)
        return self.apply(mutation)

    def known_by_number(self, mutation):
        client = self.clients[mutation.client]
        if mutation.mid <= client.last:
            return client.known(mutation.mid, self.max_outcomes)
        return None if mutation.mid == client.last + 1 else OutOfOrder(client.last + 1)

    def known_by_key(self, mutation):
        key = mutation.idempotency
        keyed = None if key is None else self.keyed.get((key.identity, key.operation, key.key))
        if keyed is None:
            return None
        return keyed.known if keyed.request_hash == key.request_hash else Mismatch()

    def apply(self, mutation):
        positions, versions, appended = {}, [], []
        for write in mutation.writes:
            position = self.append(write.channel, mutation.at_ms, write.key, write.record)
            positions[write.channel] = position
            versions.append(position.offset)
            self.entries[write.channel].pop(write.key, None)
            if write.value is not None:
                entry = Entry(write.key, position.offset, write.value, write.tags)
                self.entries[write.channel][write.key] = entry
            if write.is_forwarded:
                self.dirty[write.channel, write.key] = position.offset
        for event in mutation.events:
            position = self.append(event.channel, event.at_ms, event.key, event.record)
            positions[event.channel] = position
            appended.append(Appended(position.epoch, position.offset))
        self.conclude(mutation, KnownOutcome(mutation.outcome, dict(positions)))
        return Committed(versions, positions, appended)

    def conclude(self, mutation, known):
        key = mutation.idempotency
        if mutation.client is not None:
            client = self.clients[mutation.client]
            if client.last == 0 or mutation.at_ms - client.used_ms >= CLIENT_USE_MS:
                client.used_ms = mutation.at_ms
            client.last = mutation.mid
            client.outcomes[mutation.mid] = Outcome(known, mutation.at_ms)
        elif key is not None:
            name = (key.identity, key.operation, key.key)
            self.keyed[name] = Keyed(key.request_hash, known, mutation.at_ms)

    def dirty_keys(self, collection):
        return [
            DirtyKey(*place, version)
            for place, version in sorted(self.dirty.items())
            if place[0] == collection or place[0].startswith(collection + "/")
        ]

    def tagged(self, collection, tag):
        return sorted(
            (name, key)
            for name, entries in self.entries.items()
            if name == collection or name.startswith(collection + "/")
            for key, entry in entries.items()
            if tag in entry.tags
        )

    def events_above(self, channel, floor, *, is_latest):
        """Return what a log must hold above its floor."""
        above = [(n, e) for n, e in enumerate(self.logs[ChannelName(channel)], 1) if n > floor]
        if is_latest:
            newest = {event[1]: n for n, event in above}
            above = [(n, event) for n, event in above if newest[event[1]] == n]
        return above
