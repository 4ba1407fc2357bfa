"""What the cache-owner holds of each collection, and what is committed as far as it is in memory.

Owner of: entries in memory, the position of each channel that they are as of, dirty keys, volatile channels, counts.

Invariant: an entry in memory is what the store had at `heads[channel]` or is newer; so whoever is told entries and then everything after
that position misses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.collection_memory import CachedEntry, CollectionMemory, Freshness, Limits
from syncd.model.decided import Decided
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.failures import Backoff, Failures
from syncd.model.heads import Heads, SharedHeads
from syncd.model.recording import CollectionRules, Missing, Place, Rejected
from syncd.ports_shared import InterestHandle
from syncd.ports_state import Committed, Entry, KeyName, MutationCommit

__all__ = ["TOMBSTONE", "Counts", "Holding", "Holdings", "value_of"]

TOMBSTONE = b"\xc1"
"""Stands in the store for an entry of an owned collection that was deleted, so that its loader does not bring it back: a byte that
no encoded value begins with."""

FIRST_RETRY_S = 0.25
MAX_RETRY_S = 30.0
"""Between attempts to load a key whose source fails; short enough to heal soon, long enough not to hammer."""


def value_of(stored: bytes) -> bytes | None:
    """Return an entry's value from how it stands in the store."""
    return None if stored == TOMBSTONE else stored


@attrs.define
class Counts:
    """What happened to one collection since the start."""

    mutations_ok: int = 0
    mutations_rejected: int = 0
    conflicts: int = 0
    loads: int = 0
    """Calls of the loader."""
    keys_loaded: int = 0
    load_failures: int = 0
    loads_discarded: int = 0
    """Brought something older than a change made meanwhile."""
    load_waits: int = 0
    """Keys that another node was loading when they were wanted here."""
    keys_taken: int = 0
    """Keys that another node had loaded."""
    load_s_total: float = 0.0
    load_s_max: float = 0.0
    paged_in: int = 0
    """Entries read from the store into memory."""
    invalidations: int = 0
    forwarded: int = 0
    forward_failures: int = 0


class Holding:
    """One collection: its definition, its entries in memory, and what is going on with its source."""

    def __init__(
        self, definition: CollectionDefinition, *, is_owned: bool, chance: Callable[[], float]
    ) -> None:
        self.definition = definition
        self.name = definition.name
        self.rules: CollectionRules = definition.rules
        self.is_owned = is_owned
        """syncd has the truth: nothing expires, and the loader fills only keys never seen."""
        self.is_volatile = definition.is_volatile
        self.has_source = definition.loader is not None and not is_owned
        """Entries come from a loader and are as old as their last load says."""
        self.is_forwarded = definition.on_commit is not None
        self.keeps_tombstones = definition.loader is not None and is_owned
        self.memory = CollectionMemory(
            Limits(
                definition.max_entries, definition.max_bytes, definition.ttl_s, definition.stale_s
            )
        )
        self.failures: Failures[Place] = Failures(Backoff(FIRST_RETRY_S, MAX_RETRY_S), chance)
        self.counts = Counts()
        self.dirty: dict[Place, int] = {}
        """Version of the change that the application has not acknowledged."""
        self.dirty_elsewhere: set[Place] = set()
        """Changed by another node, whose application may not have acknowledged that. Looked up now and then by `Sharing`."""
        self.has_unread_dirty = False
        """More keys are dirty than are in `dirty`: any of them may be."""
        self.num_forwarding = 0
        """Changes being told to the application."""
        self._chance = chance

    def is_dirty(self, place: Place) -> bool:
        """Whether the source may not have heard yet of a change of this entry."""
        if place in self.dirty or place in self.dirty_elsewhere:
            return True
        return self.has_unread_dirty

    def is_usable(self, place: Place, entry: CachedEntry, now: float) -> bool:
        """Whether an entry may be taken for what is so, without asking the source."""
        return now < entry.fresh_until or not self.has_source or self.is_dirty(place)

    def freshness(self, place: Place, entry: CachedEntry, now: float) -> Freshness:
        """Return what an entry is worth to readers."""
        if self.is_usable(place, entry, now):
            return Freshness.FRESH
        return self.memory.freshness(entry, now)

    def fresh_until(self, now: float, *, is_there: bool) -> float:
        """Return until when what the source has just told is fresh."""
        if not self.has_source:
            return math.inf
        definition, ttl_s = self.definition, self.memory.limits.ttl_s
        if not is_there:
            ttl_s = min(definition.negative_ttl_s, math.inf if ttl_s is None else ttl_s)
        if ttl_s is None:
            return math.inf
        return now + ttl_s * (1.0 - definition.jitter * self._chance())

    def entry_from_store(self, entry: Entry) -> CachedEntry:
        """Return an entry as memory has it. How old it is nobody knows, so one that has a source is to be loaded anew."""
        fresh_until = -math.inf if self.has_source else math.inf
        return CachedEntry(entry.version, value_of(entry.value), entry.tags, fresh_until)


class Holdings:
    """All collections of a node. Implements `model.recording.View` for the mutations of one group."""

    def __init__(
        self,
        app: AppDefinition,
        decided: Decided,
        new_epoch: Callable[[], Epoch],
        chance: Callable[[], float],
        now: Callable[[], float],
        interest: InterestHandle | None = None,
    ) -> None:
        """Hold nothing; `interest` is told which channels to hear of from other nodes, if the store is shared with any."""
        self._interest = interest
        if interest is not None:
            interest.leave_all()
        self.by_name = {
            name: Holding(definition, is_owned=app.is_owned(name), chance=chance)
            for name, definition in app.collections.items()
        }
        self.rules: Mapping[str, CollectionRules] = {
            name: holding.rules for name, holding in self.by_name.items()
        }
        self.has_volatile = any(each.is_volatile for each in self.by_name.values())
        self.decided = decided
        """What memory is as of, in the numbers of clients."""
        self.heads = Heads() if interest is None else SharedHeads()
        """What memory is as of."""
        self.volatile: dict[ChannelName, Position] = {}
        """Epoch and top of volatile channels: their offsets are given here."""
        self.borrowed: dict[Place, CachedEntry] = {}
        """Entries for mutations that wait to run again, in case memory has no room for all of them at once, or they are not to
        be kept at all: brought for them, they are usable until they have run."""
        self.borrowers: dict[Place, int] = {}
        """How many mutations wait for each."""
        self.is_shared = interest is not None
        """Other nodes change what the store has."""
        self.outdate: Callable[[Place], None] = lambda _place: None
        """An entry was changed: a load under way may bring something older. Set by `Fetching`."""
        self.outdate_all: Callable[[Callable[[ChannelName], bool]], None] = lambda _is_meant: None
        """The same of all entries of some channels."""
        self._new_epoch = new_epoch
        self._now = now
        self.now = now()

    def tick(self) -> float:
        """Read the clock: what happens until the next call happens at one time."""
        self.now = self._now()
        return self.now

    # ---------------------------------------------------------------- names

    def holding(self, collection: str) -> Holding:
        """Return a collection.

        Raises:
            RequestRejected: permission_denied, as for one that may not be seen.
        """
        holding = self.by_name.get(collection)
        if holding is None:
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return holding

    def of_channel(self, channel: ChannelName) -> Holding | None:
        """Return the collection that a channel belongs to, if it is one's."""
        return self.by_name.get(channel) or self.by_name.get(channel.partition("/")[0])

    def is_volatile(self, channel: ChannelName) -> bool:
        """Whether a channel's entries live in memory alone."""
        holding = self.of_channel(channel)
        return holding is not None and holding.is_volatile

    def channel_of(self, collection: str, keys: list[str]) -> tuple[ChannelName, list[KeyName]]:
        """See `CacheOwnerHandle.channel_of`."""
        rules = self.holding(collection).rules
        try:
            places = [rules.place(key) for key in keys]
        except Rejected as refusal:
            raise RequestRejected(ErrorCode.BAD_KEY, refusal.message) from None
        channels = {place[0] for place in places}
        if len(channels) != 1:
            raise RequestRejected(
                ErrorCode.BAD_REQUEST, "Name one key at least, and keys of one partition only."
            )
        return channels.pop(), [place[1] for place in places]

    def whole_channel(self, collection: str, partition: str | None) -> ChannelName:
        """See `CacheOwnerHandle.whole_channel`."""
        rules = self.holding(collection).rules
        if partition is None:
            if rules.is_partitioned:
                raise RequestRejected(ErrorCode.BAD_REQUEST, "Name a partition of this collection.")
            return ChannelName(collection)
        if not rules.is_partitioned:
            raise RequestRejected(ErrorCode.BAD_REQUEST, "This collection has no partitions.")
        try:
            return rules.place(f"{partition}/x")[0]
        except Rejected as refusal:
            raise RequestRejected(ErrorCode.BAD_KEY, refusal.message) from None

    # ---------------------------------------------------------------- positions

    def head(self, channel: ChannelName) -> Position | None:
        """Return the position that memory is as of, if it is known. A volatile channel begins when it is first asked about."""
        holding = self.of_channel(channel)
        known = self.heads.get(channel)
        if known is None and holding is not None and holding.is_volatile:
            known = self.volatile_head(channel)
            self.heads.reset(channel, known)
        return known

    def read(self, channel: ChannelName, position: Position) -> None:
        """Something of a channel was read in the store, as of a position."""
        self._hear_of(channel)
        if self.heads.read(channel, position):
            self._forget_entries(channel)

    def follow(self, channel: ChannelName, position: Position) -> None:
        """Hear what others change and invalidate from this position on, whether or not anything is in memory: somebody watches."""
        if self._interest is not None:
            self.read(channel, position)

    def note(self, channel: ChannelName, position: Position) -> None:
        """Memory has, or is to have at once, the change at this position."""
        self._hear_of(channel)
        if self.heads.note(channel, position):
            self._forget_entries(channel)

    def committed_alone(self, positions: Mapping[ChannelName, Position]) -> None:
        """Memory has all up to these positions, if nobody else writes to the store."""
        if self.is_shared:
            return
        for channel, position in positions.items():
            if self.of_channel(channel) is not None:
                self.heads.note(channel, position)

    def committed_among_others(self, commit: MutationCommit, result: Committed) -> None:
        """Memory has, or is to have at once, all that a commit of this node has changed."""
        positions = result.positions
        offsets = [
            *zip((write.channel for write in commit.writes), result.versions, strict=True),
            *((e.channel, a.offset) for e, a in zip(commit.events, result.appended, strict=False)),
        ]
        for channel, offset in offsets:
            if self.of_channel(channel) is not None:
                self.note(channel, Position(positions[channel].epoch, offset))

    def is_overtaken(self, channel: ChannelName, position: Position) -> bool:
        """Whether another node was heard to have changed something behind an own commit up to here, whose answer has come only now.

        That may be any entry: what the commit wrote is not to be kept, as nobody tells of the newer change again.
        """
        known = self.heads.get(channel)
        if self._interest is None or known is None or known.epoch != position.epoch:
            return False
        return self.heads.newest(channel) > position.offset

    def stamp(self, commit: MutationCommit) -> None:
        """Say in a commit which lives of their channels the versions are of that it read."""
        if self._interest is None:
            return
        for read in commit.reads:
            head = self.heads.get(read.channel)
            if head is not None:
                commit.epochs[read.channel] = head.epoch

    def _hear_of(self, channel: ChannelName) -> None:
        if self._interest is not None and self.heads.get(channel) is None:
            # Anew, where `listen` has entered it: what came since the store was read was passed over, and a check has to follow.
            self._interest.leave(channel)
            self._interest.enter(channel)

    def listen(self, channel: ChannelName) -> None:
        """Hear what others change from soon on, though nothing of it is in memory; until it is forgotten the next time."""
        if self._interest is not None:
            self._interest.enter(channel)

    def forget_channel(self, channel: ChannelName, position: Position | None = None) -> None:
        """Hold nothing of a channel any more: it is read anew, from `position` if that is known."""
        self._forget_entries(channel)
        self.heads.reset(channel, position)
        if position is None and self._interest is not None:
            self._interest.leave(channel)

    def forget_entry(self, place: Place) -> None:
        """Memory may be wrong about an entry: it is read anew when it is next needed."""
        holding = self.of_channel(place[0])
        if holding is not None and not holding.is_volatile:
            holding.memory.forget(place, self.now)
            self.borrowed.pop(place, None)

    def _forget_entries(self, channel: ChannelName) -> None:
        holding = self.of_channel(channel)
        if holding is None:
            return
        if holding.definition.is_partitioned:
            for place in [place for place in holding.memory.places() if place[0] == channel]:
                holding.memory.forget(place, self.now)
        else:
            holding.memory.clear()
        for place in [place for place in self.borrowed if place[0] == channel]:
            del self.borrowed[place]
        self.outdate_all(lambda other: other == channel)

    def volatile_head(self, channel: ChannelName) -> Position:
        """Return a volatile channel's epoch and top."""
        position = self.volatile.get(channel)
        if position is None:
            position = self.volatile[channel] = Position(self._new_epoch(), 0)
        return position

    def next_offset(self, channel: ChannelName) -> Position:
        """Give the next offset of a volatile channel."""
        head = self.volatile_head(channel)
        position = self.volatile[channel] = Position(head.epoch, head.offset + 1)
        return position

    def expire(self, place: Place) -> None:
        """An entry may have changed at its source: it is fresh no more."""
        holding = self.of_channel(place[0])
        if holding is not None and holding.has_source:
            holding.memory.expire(place, self.now)

    def volatile_channels(self, holding: Holding) -> list[ChannelName]:
        """Return a volatile collection's channels that anybody ever asked about."""
        return [channel for channel in self.volatile if self.of_channel(channel) is holding]

    def take_back(self, holding: Holding, tags: Sequence[str]) -> None:
        """What was brought for mutations is no good any more: entries of a collection with one of these tags, or (without) all."""
        for place, entry in list(self.borrowed.items()):
            is_meant = not tags or any(tag in entry.tags for tag in tags)
            if is_meant and self.of_channel(place[0]) is holding:
                del self.borrowed[place]

    # ---------------------------------------------------------------- model.recording.View

    def version_and_value(self, channel: ChannelName, key: KeyName) -> tuple[int, bytes | None]:
        """See `View.version_and_value`."""
        entry = self._entry(channel, key)
        return entry.version, entry.value

    def tags(self, channel: ChannelName, key: KeyName) -> tuple[str, ...]:
        """See `View.tags`."""
        return self._entry(channel, key).tags

    def _entry(self, channel: ChannelName, key: KeyName) -> CachedEntry:
        place = (channel, key)
        holding = self.of_channel(channel)
        assert holding is not None, "places come from rules of collections"
        entry = holding.memory.get(place, self.now)
        if entry is None or (holding.has_source and not holding.is_usable(place, entry, self.now)):
            entry = self.borrowed.get(place)
            if entry is None:
                raise Missing
        return entry
