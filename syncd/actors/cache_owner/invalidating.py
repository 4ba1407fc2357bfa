"""Invalidation: entries may have changed at their source, so they are expired, watchers are told, and `Reloading` loads what they watch.

Owner of nothing. What is in memory is expired at once, before the event is committed, so that nobody reads as fresh what was
invalidated before; the reloads begin when the event stands, so that watchers hear of the invalidation first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.reloading import Reloading
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.ids import ChannelName, Position
from syncd.model.recording import Invalidation, Place, Rejected
from syncd.ports_collections import CommittedEvent, DeliverCommitted, InvalidateEntries
from syncd.ports_log import AppendRequest
from syncd.ports_state import (
    Committed,
    KeyName,
    MutationCommit,
    MutationResult,
    StateReader,
    StateStoreHandle,
)
from syncd.wire.encode_entries import invalidation_record

__all__ = ["Invalidating", "events_of"]

MAX_PARTITIONS = 10_000
"""Told of one invalidation of a partitioned collection. Policy when there are more: refuse, `too_large`."""
_TOO_MANY = f"This concerns more than {MAX_PARTITIONS} partitions; invalidate by keys, or by tags that fewer have."
LAST_KEY = KeyName("\U0010ffff" * 64)
"""After every key of a partition, in the order of code points."""

Commit = Callable[[MutationCommit, Callable[[MutationResult | SyncdError], None]], None]


class Invalidating:
    """Carries out invalidations, of applications and of mutators."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        store: StateStoreHandle,
        *,
        commit: Commit,
        deliver: Callable[[DeliverCommitted], None],
        call: Callable[[Callable[[], None]], None],
        reloading: Reloading,
        wall_ms: Callable[[], int],
    ) -> None:
        """Hold what it works with; `call` has something done in the actor's turn, since the store answers at any time."""
        self._holdings = holdings
        self._fetching = fetching
        self._store = store
        self._commit = commit
        self._deliver = deliver
        self._call = call
        self._reloading = reloading
        self._wall_ms = wall_ms
        self._asked: set[InvalidateEntries] = set()
        """Invalidations that wait for the store to tell their partitions."""

    # ---------------------------------------------------------------- asked

    def invalidate(self, command: InvalidateEntries) -> None:
        """Expire, tell, and load anew what is watched. Raises what its asker is told."""
        holding = self._holdings.holding(command.collection)
        try:
            for key in command.keys:
                holding.rules.place(key)
        except Rejected as refusal:
            raise RequestRejected(ErrorCode.BAD_KEY, refusal.message) from None
        holding.counts.invalidations += 1
        self.expire(holding, command.keys, command.tags)
        if command.keys:
            by_channel = _by_channel(holding, command.keys)
            self._tell(command, {channel: {"keys": keys} for channel, keys in by_channel.items()})
        elif holding.is_volatile or not holding.definition.is_partitioned:
            what: dict[str, Sequence[str]] = {"tags": command.tags} if command.tags else {}
            self._tell(command, dict.fromkeys(self._channels(holding, command.tags), what))
        else:
            self._find_partitions(holding, command)

    def _channels(self, holding: Holding, tags: Sequence[str]) -> list[ChannelName]:
        """Return the channels of a collection that are known without asking the store."""
        if not holding.definition.is_partitioned:
            return [ChannelName(holding.name)]
        if not tags:
            return self._holdings.volatile_channels(holding)
        places = [place for tag in tags for place in holding.memory.tagged(tag)]
        return [*dict.fromkeys(place[0] for place in places)]

    def _find_partitions(self, holding: Holding, command: InvalidateEntries) -> None:
        """Ask the store in which partitions the tags occur, or which there are."""
        name, tags = holding.name, command.tags

        def work(reader: StateReader) -> list[ChannelName]:
            if tags:
                return _tagged_channels(reader, name, tags)
            return list(reader.channels(name, MAX_PARTITIONS + 1))

        def done(answer: list[ChannelName] | SyncdError) -> None:
            def tell() -> None:
                self._asked.discard(command)
                if isinstance(answer, SyncdError):
                    command.done(answer)
                elif len(answer) > MAX_PARTITIONS:
                    command.done(RequestRejected(ErrorCode.TOO_LARGE, _TOO_MANY))
                else:
                    what: dict[str, Sequence[str]] = {"tags": tags} if tags else {}
                    self._tell(command, dict.fromkeys(answer, what))

            self._call(tell)

        self._asked.add(command)
        self._store.read_state(work, done)

    def _tell(
        self, command: InvalidateEntries, told: Mapping[ChannelName, Mapping[str, Sequence[str]]]
    ) -> None:
        """Commit one event a channel, and begin to load once they stand."""
        holding = self._holdings.holding(command.collection)
        at_ms = self._wall_ms()
        records = {
            channel: invalidation_record(
                at_ms, keys=what.get("keys", ()), tags=what.get("tags", ()), cause=command.cause
            )
            for channel, what in told.items()
        }
        if holding.is_volatile:
            command.done(self._tell_volatile(records, at_ms))
            self._reloading.reload(holding, command.keys, command.tags, told)
            return
        events = [
            AppendRequest(channel, record, at_ms, invalidated=told[channel].get("keys", ()))
            for channel, record in records.items()
        ]
        if not events:
            command.done({})
            return

        def settle(result: MutationResult | SyncdError) -> None:
            if isinstance(result, Committed):
                for channel, position in result.positions.items():
                    self._holdings.note(channel, position)
                self.expire(holding, command.keys, command.tags)
                self._reloading.reload(holding, command.keys, command.tags, told)
                command.done(result.positions)
            elif isinstance(result, SyncdError):
                # It is expired, and may be committed all the same: loading it does no harm.
                self._reloading.owe(holding, command.keys, told)
                command.done(result)

        self._commit(MutationCommit(None, 0, [], [], b"", at_ms, events), settle)

    def _tell_volatile(
        self, records: Mapping[ChannelName, bytes], at_ms: int
    ) -> dict[ChannelName, Position]:
        positions = {channel: self._holdings.next_offset(channel) for channel in records}
        events = [
            CommittedEvent(channel, position.epoch, position.offset, at_ms, None, records[channel])
            for channel, position in positions.items()
        ]
        self._deliver(DeliverCommitted(events))
        for channel, position in positions.items():
            self._holdings.note(channel, position)
        return positions

    # ---------------------------------------------------------------- of mutators

    def take_effect(self, invalidation: Invalidation, _result: Committed) -> None:
        """A mutation that invalidates is committed, with the events that `events_of` made of it."""
        holding = self._holdings.holding(invalidation.collection)
        if _is_told_with_mutation(holding, invalidation):
            holding.counts.invalidations += 1
            self.expire(holding, invalidation.keys, invalidation.tags)
            self._reloading.reload(
                holding, invalidation.keys, invalidation.tags, [ChannelName(holding.name)]
            )
            return
        keys, tags = invalidation.keys, invalidation.tags
        self.invalidate(InvalidateEntries(holding.name, _ignore, keys, tags))

    # ---------------------------------------------------------------- memory

    def expire(self, holding: Holding, keys: Sequence[KeyName], tags: Sequence[str]) -> None:
        """Nothing of this is fresh any more, and no load under way brings it."""
        if not holding.has_source:
            return
        memory, now, fetching = holding.memory, self._holdings.now, self._fetching
        if keys:
            for key in keys:
                place = holding.rules.place(key)
                memory.expire(place, now)
                self._holdings.borrowed.pop(place, None)
                fetching.outdate(place)
                holding.failures.forget(place)
            return
        if tags:
            for place in (place for tag in tags for place in memory.tagged(tag)):
                memory.expire(place, now)
                holding.failures.forget(place)
        else:
            memory.expire_all(now)
            holding.failures.clear()
        self._reloading.doubt(holding)
        self._holdings.take_back(holding, tags)
        # Which tags a load will bring is not known: all of them are asked again.
        fetching.outdate_all(lambda channel: channel.partition("/")[0] == holding.name)

    # ---------------------------------------------------------------- the end

    def fail_all(self, error: SyncdError) -> None:
        """Tell everybody who waits for the store here; what is to be committed is settled by `Mutating`."""
        asked, self._asked = self._asked, set()
        for command in asked:
            command.done(error)


def _tagged_channels(
    reader: StateReader, collection: str, tags: Sequence[str]
) -> list[ChannelName]:
    """Return the partitions where a tag occurs, a few too many at most. In the store's thread."""
    found: dict[ChannelName, None] = {}
    for tag in tags:
        after: Place | None = None
        while len(found) <= MAX_PARTITIONS:
            page = reader.keys_by_tag(collection, tag, after, 1)
            if not page:
                break
            found[page[0][0]] = None
            after = (page[0][0], LAST_KEY)
    return list(found)


def _ignore(_answer: object) -> None:
    """Nobody waits for an invalidation by a mutator."""


def _by_channel(holding: Holding, keys: Sequence[KeyName]) -> dict[ChannelName, list[KeyName]]:
    found: dict[ChannelName, list[KeyName]] = {}
    for key in keys:
        channel, name = holding.rules.place(key)
        found.setdefault(channel, []).append(name)
    return found


def _is_told_with_mutation(holding: Holding, invalidation: Invalidation) -> bool:
    """Whether the channels concerned are known before the commit."""
    if holding.is_volatile:
        return False
    return bool(invalidation.keys) or not holding.definition.is_partitioned


def events_of(
    holdings: Holdings, invalidations: Sequence[Invalidation], at_ms: int
) -> list[AppendRequest]:
    """Return the events that tell a mutation's invalidations, to be committed with it, as far as their channels are known."""
    events = []
    for invalidation in invalidations:
        holding = holdings.holding(invalidation.collection)
        if not _is_told_with_mutation(holding, invalidation):
            continue
        if invalidation.keys:
            for channel, keys in _by_channel(holding, invalidation.keys).items():
                record = invalidation_record(at_ms, keys=keys)
                events.append(AppendRequest(channel, record, at_ms, invalidated=keys))
        else:
            record = invalidation_record(at_ms, tags=invalidation.tags)
            events.append(AppendRequest(ChannelName(holding.name), record, at_ms))
    return events
