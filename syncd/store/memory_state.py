"""Entries, tags, dirty keys, clients and outcomes in memory. Owned by `MemoryStore`, which ends the transactions.

Every change puts its undoing on the store's list, so that a rollback needs to know nothing. Invariant: `_order` has the keys
of `_entries`, and `_tagged` exactly the tags that stand in them, both sorted.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended
from syncd.ports_state import (
    Committed,
    Conflict,
    DirtyKey,
    Entry,
    EntryRead,
    EntryWrite,
    KeyName,
    KnownOutcome,
    MutationCommit,
    MutationResult,
    OutOfOrder,
    TaggedKey,
)
from syncd.store.base import CLIENT_USE_MS, StoreOptions, client_cutoff_ms, cutoff_ms
from syncd.store.memory_keyed import KeyedOutcomes
from syncd.store.memory_log import Log, Undo
from syncd.store.memory_places import DirtyPlaces, insert_place, places_inside, remove_place

__all__ = ["MemoryState"]

_AppendEvent = Callable[[ChannelName, int, "str | None", bytes], tuple[Log, int]]


@attrs.define
class _Outcome:
    outcome: bytes
    positions: dict[ChannelName, Position]
    at_ms: int


@attrs.define(eq=False)
class _Client:
    """One client; the mids of its outcomes ascend."""

    at_ms: int
    last: int = 0
    outcomes: dict[int, _Outcome] = attrs.field(factory=dict)

    def drop_upto(self, mid: int) -> int:
        old = [*itertools.takewhile(lambda known: known <= mid, self.outcomes)]
        for known in old:
            del self.outcomes[known]
        return len(old)


class MemoryState:
    """The state's side of `MemoryStore`; see `Store` and `StateReader`."""

    def __init__(self, options: StoreOptions, append_event: _AppendEvent, undo: list[Undo]) -> None:
        self._options = options
        self._append_event = append_event
        self._undo = undo
        self._entries: dict[ChannelName, dict[KeyName, Entry]] = {}
        self._order: dict[ChannelName, list[KeyName]] = {}
        self._tagged: dict[str, list[TaggedKey]] = {}
        self._dirty = DirtyPlaces(undo)
        self._keyed = KeyedOutcomes(undo)
        self._clients: dict[str, _Client] = {}
        self._writers: dict[TaggedKey, int] = {}
        """Index in the group at hand of the mutation that wrote an entry last."""
        self._advanced: set[_Client] = set()
        self._decided = self._resent = self._conflicts = self._mismatches = 0
        self._outcomes_trimmed = self._clients_trimmed = 0

    # -------------------------------------------------------------------------------------------- deciding

    def decide(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        self._writers.clear()
        return [self._decide(mutation, index) for index, mutation in enumerate(group)]

    def _decide(self, mutation: MutationCommit, index: int) -> MutationResult:
        former = self._former(mutation)
        if former is not None:
            return former
        for read in mutation.reads:
            if not self._is_so(read):
                self._conflicts += 1
                return Conflict(read)
            if read.unless_dirty and (read.channel, read.key) in self._dirty:
                self._conflicts += 1
                return Conflict(read, is_dirty=True)
        return self._take_effect(mutation, index)

    def _former(self, mutation: MutationCommit) -> MutationResult | None:
        """Return the answer to a mutation that is not to be decided now."""
        if mutation.client is None:
            return self._known_by_key(mutation)
        client = self._clients.get(mutation.client)
        last = 0 if client is None else client.last
        if mutation.mid <= last:
            self._resent += 1
            return self._known(client, mutation.mid)
        return None if mutation.mid == last + 1 else OutOfOrder(last + 1)

    def _known_by_key(self, mutation: MutationCommit) -> KnownOutcome | SyncdError | None:
        key = mutation.idempotency
        known = None if key is None else self._keyed.find(key)
        self._resent += isinstance(known, KnownOutcome)
        self._mismatches += isinstance(known, SyncdError)
        return known

    def _is_so(self, read: EntryRead) -> bool:
        """Tell whether what was seen is still there."""
        if read.written_by is not None:
            return self._writers.get((read.channel, read.key)) == read.written_by
        entry = self._entries.get(read.channel, {}).get(read.key)
        return read.version == (0 if entry is None else entry.version)

    def _known(self, client: _Client | None, mid: int) -> KnownOutcome:
        known = None
        if client is not None and mid > client.last - self._options.outcomes_per_client:
            known = client.outcomes.get(mid)
        if known is None:
            return KnownOutcome(None, {})
        return KnownOutcome(known.outcome, dict(known.positions))

    def _take_effect(self, mutation: MutationCommit, index: int) -> Committed:
        positions: dict[ChannelName, Position] = {}
        versions = []
        for write in mutation.writes:
            log, offset = self._append_event(write.channel, mutation.at_ms, write.key, write.record)
            self._change(write, offset)
            self._writers[write.channel, write.key] = index
            positions[write.channel] = Position(log.epoch, offset)
            versions.append(offset)
        appended = []
        for event in mutation.events:
            log, offset = self._append_event(event.channel, event.at_ms, event.key, event.record)
            positions[event.channel] = Position(log.epoch, offset)
            appended.append(Appended(log.epoch, offset))
        self._conclude(mutation, positions)
        return Committed(versions, positions, appended)

    def _change(self, write: EntryWrite, offset: int) -> None:
        value = write.value
        entry = None if value is None else Entry(write.key, offset, value, tuple(write.tags))
        old = self._set(write.channel, write.key, entry)
        self._undo.append(lambda: self._restore(write, old))
        if write.is_forwarded:
            self._dirty.put((write.channel, write.key), offset)

    def replace(self, channel: ChannelName, key: KeyName, entry: Entry | None) -> None:
        """Put an entry as it is, or take it away: nothing tells of it, in the open transaction."""
        old = self._set(channel, key, entry)
        self._undo.append(lambda: _ignored(self._set(channel, key, old)))

    def _restore(self, write: EntryWrite, old: Entry | None) -> None:
        self._set(write.channel, write.key, old)

    def _set(self, channel: ChannelName, key: KeyName, entry: Entry | None) -> Entry | None:
        """Put an entry, or take it away; return what was there."""
        entries = self._entries.setdefault(channel, {})
        order = self._order.setdefault(channel, [])
        old = entries.pop(key, None)
        if old is not None:
            self._untag(channel, old)
        if entry is not None:
            entries[key] = entry
            for tag in set(entry.tags):
                insert_place(self._tagged.setdefault(tag, []), (channel, key))
        if old is None and entry is not None:
            bisect.insort(order, key)
        elif old is not None and entry is None:
            del order[bisect.bisect_left(order, key)]
        return old

    def _untag(self, channel: ChannelName, entry: Entry) -> None:
        for tag in set(entry.tags):
            places = self._tagged[tag]
            remove_place(places, (channel, entry.key))
            if not places:
                del self._tagged[tag]

    def _conclude(self, mutation: MutationCommit, positions: dict[ChannelName, Position]) -> None:
        """Store the outcome, under its number or its key."""
        self._decided += 1
        self._undo.append(self._uncount)
        if mutation.client is not None:
            self._advance(mutation.client, mutation, positions)
        elif mutation.idempotency is not None:
            self._keyed.remember(mutation.idempotency, mutation, positions)

    def _uncount(self) -> None:
        self._decided -= 1

    def _advance(
        self, name: str, mutation: MutationCommit, positions: dict[ChannelName, Position]
    ) -> None:
        """Store the outcome and bump `last`."""
        mid = mutation.mid
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client(mutation.at_ms)
            self._undo.append(lambda: self._clients.__delitem__(name))
        used_at_ms = client.at_ms
        if mutation.at_ms - used_at_ms >= CLIENT_USE_MS:
            client.at_ms = mutation.at_ms
        client.last = mid
        client.outcomes[mid] = _Outcome(mutation.outcome, dict(positions), mutation.at_ms)
        self._advanced.add(client)
        self._undo.append(lambda: self._retreat(client, used_at_ms))

    def _retreat(self, client: _Client, used_at_ms: int) -> None:
        del client.outcomes[client.last]
        client.last -= 1
        client.at_ms = used_at_ms

    def commit(self) -> None:
        """Drop the outcomes that newer ones have pushed out."""
        for client in self._advanced:
            client.drop_upto(client.last - self._options.outcomes_per_client)
        self._advanced.clear()

    def rollback(self) -> None:
        """Forget what `commit` would have done; the rest is on the list of undoings."""
        self._advanced.clear()

    # -------------------------------------------------------------------------------------------- forgetting

    def acknowledge(self, client: str, upto: int) -> None:
        """See `Store.acknowledge`."""
        known = self._clients.get(client)
        if known is not None:
            known.drop_upto(upto)

    def acknowledge_forwarded(self, channel: ChannelName, key: KeyName, version: int) -> None:
        """See `Store.acknowledge_forwarded`."""
        self._dirty.acknowledge((channel, key), version)

    def forget_keyed(self, now_ms: int) -> int:
        """Forget outcomes under keys past their age; return how many."""
        return self._keyed.forget(cutoff_ms(now_ms, self._options.idempotency_s))

    def forget(self, now_ms: int) -> tuple[int, int]:
        """Forget outcomes and clients past their age; return how many of each."""
        cutoff = cutoff_ms(now_ms, self._options.outcomes_s)
        num_outcomes = sum(_forget_before(client, cutoff) for client in self._clients.values())
        used = client_cutoff_ms(now_ms, self._options.clients_s)
        old = [name for name, client in self._clients.items() if client.at_ms < used]
        for name in old:
            del self._clients[name]
        self._outcomes_trimmed += num_outcomes
        self._clients_trimmed += len(old)
        return num_outcomes, len(old)

    # -------------------------------------------------------------------------------------------- reading

    def entry(self, channel: ChannelName, key: KeyName) -> Entry | None:
        """Return an entry, if there is one."""
        return self._entries.get(channel, {}).get(key)

    def keys(self, channel: ChannelName) -> list[KeyName]:
        """Return all keys of a channel, in order."""
        return list(self._order.get(channel, ()))

    def last_mids(self, clients: Sequence[str]) -> list[int]:
        """See `StateReader.last_mids`."""
        found = (self._clients.get(name) for name in clients)
        return [0 if client is None else client.last for client in found]

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]:
        """See `StateReader.entries`."""
        entries = self._entries.get(channel, {})
        return [entries[key] for key in keys if key in entries]

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> tuple[list[Entry], bool]:
        """Return entries as `StateReader.scan`, and whether these were the last."""
        order = self._order.get(channel, [])
        start = 0 if after_key is None else bisect.bisect_right(order, after_key)
        found: list[Entry] = []
        for key in order[start : start + limit]:
            entry = self._entries[channel][key]
            max_bytes -= len(entry.value)
            if found and max_bytes < 0:
                break
            found.append(entry)
        return found, start + len(found) == len(order)

    def keys_by_tag(
        self, collection: str, tag: str, after: TaggedKey | None, limit: int
    ) -> list[TaggedKey]:
        """See `StateReader.keys_by_tag`."""
        found = places_inside(self._tagged.get(tag, []), collection, after)
        return list(itertools.islice(found, limit))

    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """See `StateReader.dirty`."""
        return self._dirty.read(collection, after, limit)

    def count(self, channel: ChannelName) -> int:
        """See `StateReader.count`."""
        return len(self._order.get(channel, ()))

    @property
    def num_mismatches(self) -> int:
        """How many mutations came under a key that was used for another one."""
        return self._mismatches

    def counts(self) -> dict[str, int]:
        """Return this side's part of `StoreStatistics`."""
        return {
            "num_mutations": self._decided,
            "num_resent": self._resent,
            "num_conflicts": self._conflicts,
            "num_outcomes_trimmed": self._outcomes_trimmed,
            "num_clients_trimmed": self._clients_trimmed,
        }


def _forget_before(client: _Client, cutoff: int) -> int:
    """Drop a client's outcomes older than that, from the oldest on."""
    young = next((mid for mid, known in client.outcomes.items() if known.at_ms >= cutoff), None)
    return client.drop_upto(client.last if young is None else young - 1)


def _ignored(_entry: Entry | None) -> None:
    """Nobody asks what was there."""
