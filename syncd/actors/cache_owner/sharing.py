"""What other nodes change in the store that this one shares: what memory has of it is dropped, and read anew when it is wanted.

Owner of: which channels are being looked up. Entries are dropped rather than changed, since an event tells neither tags nor for how long the
source's word is good. Invariant (`model.heads`): the head of a channel moves over an offset only after what that offset changed was dropped or
is what memory has, so a reader who is told entries and then everything after the head misses nothing. What was lost on the way is read from
the log, from the head on; where the log does not go back so far, everything of the channel is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

from syncd.actors.cache_owner.fetching import Fetching
from syncd.actors.cache_owner.forwarding import Forwarding
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.invalidating import Invalidating
from syncd.actors.cache_owner.reloading import Reloading
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.recording import Place
from syncd.ports_log import LogPage, LogQuery
from syncd.ports_shared import CheckChannels, RemoteEvents, RenewEntries
from syncd.ports_state import KeyName, StateReader, StateStoreHandle
from syncd.wire.encode_entries import INVALIDATE

__all__ = ["Sharing"]

CHANNELS_PER_LOOK = 50
"""Logs read in one job."""
EVENTS_PER_LOOK = 500
DIRTY_S = 5.0
"""Between two looks at what other nodes have forwarded: so long is an entry taken for dirty that is not."""
DIRTY_PER_READ = 500
MAX_DIRTY = 50_000
"""Keys of one collection remembered as dirty elsewhere. Past that the store refuses what a source has of them (`EntryRead.unless_dirty`)."""


class Sharing:
    """The part of the cache-owner that hears of other nodes. Without them nothing of it is ever called."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        invalidating: Invalidating,
        reloading: Reloading,
        forwarding: Forwarding,
        store: StateStoreHandle,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """Begin with nothing to look up; `call` has something done in the actor's turn."""
        self._holdings = holdings
        self._fetching = fetching
        self._invalidating = invalidating
        self._reloading = reloading
        self._forwarding = forwarding
        self._store = store
        self._call = call
        self.on_look: Callable[[ChannelName], None] = lambda _channel: None
        """The store is about to be read."""
        self.on_looked: Callable[[ChannelName, Epoch], None] = lambda _channel, _epoch: None
        """It was of this epoch, and what it told is taken in."""
        self._dirty_at = 0.0
        self._looking: dict[ChannelName, bool] = {}
        """Being looked up; True: once more after that."""
        self.num_dropped = 0
        """Entries that went because another node changed them."""

    def handlers(self) -> dict[type, Callable[[Any], None]]:
        """Return what is done here with messages that concern no other room."""
        return {CheckChannels: self.check, RenewEntries: self.renew}

    # ---------------------------------------------------------------- heard

    def events(self, message: RemoteEvents) -> None:
        """Take in what others committed."""
        for event in message.events:
            self._take(event.channel, event.epoch, event.offset, event.key, event.record)

    def _take(
        self, channel: ChannelName, epoch: Epoch, offset: int, key: str | None, record: bytes
    ) -> None:
        holdings = self._holdings
        known, holding = holdings.heads.get(channel), holdings.of_channel(channel)
        if known is None or holding is None:
            # Nothing of it is in memory; but it may be our turn to tell the application.
            if holding is not None and key is not None and self._forwarding.is_told_here(holding):
                self._forwarding.heard(holding, (channel, KeyName(key)), offset)
            return
        if known.epoch == epoch and offset <= known.offset:
            return
        if key is not None:
            self._drop(holding, channel, KeyName(key), offset)
        else:
            self._invalidate(holding, channel, record)
        holdings.note(channel, Position(epoch, offset))

    def _drop(self, holding: Holding, channel: ChannelName, key: KeyName, offset: int) -> None:
        """An entry was changed at this offset, maybe by ourselves."""
        place, now = (channel, key), self._holdings.now
        entry = holding.memory.peek(place, now)
        if entry is not None and entry.version < offset:
            holding.memory.forget(place, now)
            self.num_dropped += 1
        if holding.is_forwarded and len(holding.dirty_elsewhere) < MAX_DIRTY:
            self._forwarding.heard(holding, place, offset)
        borrowed = self._holdings.borrowed.get(place)
        if borrowed is not None and borrowed.version < offset:
            del self._holdings.borrowed[place]
        self._fetching.changed(place)

    def _invalidate(self, holding: Holding, channel: ChannelName, record: bytes) -> None:
        event: dict[str, Any] = msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
        if event.get("name") != INVALIDATE:
            return
        data = event["data"]
        keys, tags = data.get("keys", ()), data.get("tags", ())
        holding.counts.invalidations += 1
        self._invalidating.expire(holding, keys, tags)
        self._reloading.reload(holding, keys, tags, [channel])

    def renew(self, message: RenewEntries) -> None:
        """All entries of a channel were replaced."""
        if self._holdings.heads.get(message.channel) is not None:
            self._holdings.forget_channel(message.channel)
            self._reloading.lost(message.channel)

    # ---------------------------------------------------------------- lost

    def check(self, message: CheckChannels) -> None:
        """See in the logs what was not heard."""
        heads = self._holdings.heads
        self.look(heads.known() if message.channels is None else message.channels)

    def look(self, channels: Iterable[ChannelName]) -> None:
        """Read what the logs have after our heads."""
        heads, batch = self._holdings.heads, dict[ChannelName, Position]()
        for channel in channels:
            known = heads.get(channel)
            if known is None or self._holdings.is_volatile(channel):
                continue
            if channel in self._looking:
                self._looking[channel] = True
                continue
            self._looking[channel] = False
            self.on_look(channel)
            batch[channel] = known
            if len(batch) == CHANNELS_PER_LOOK:
                self._read(batch)
                batch = {}
        if batch:
            self._read(batch)

    def _read(self, heads: dict[ChannelName, Position]) -> None:
        def work(reader: StateReader) -> list[LogPage]:
            pages = _pages(reader, heads)
            is_less = any(
                page.head.lacks(at) for page, at in zip(pages, heads.values(), strict=True)
            )
            if not is_less:
                return pages
            reader.heads(list(heads), heads)  # another life begins
            return _pages(reader, heads)

        def done(answer: list[LogPage] | SyncdError) -> None:
            self._call(lambda: self._have_read(heads, answer))

        self._store.read_state(work, done)

    def _have_read(
        self, heads: dict[ChannelName, Position], answer: list[LogPage] | SyncdError
    ) -> None:
        again = []
        for index, (channel, head) in enumerate(heads.items()):
            is_wanted_again = self._looking.pop(channel)
            if isinstance(answer, SyncdError):
                continue  # the store is away: checked again when it is back
            if self._follow(channel, head, answer[index]) or is_wanted_again:
                again.append(channel)
            self.on_looked(channel, answer[index].head.epoch)
        self.look(again)

    def _follow(self, channel: ChannelName, head: Position, page: LogPage) -> bool:
        """Take in a page of a log; tell whether there is more."""
        holdings, log = self._holdings, page.head
        known = holdings.heads.get(channel)
        if known is None or known.epoch != head.epoch:
            return False  # it begins anew by itself
        if log.epoch != known.epoch or log.floor > known.offset or log.top < head.offset:
            holdings.forget_channel(channel, Position(log.epoch, log.top))
            self._reloading.lost(channel)
            return False
        for event in page.events:
            self._take(channel, log.epoch, event.offset, event.key, event.record)
        return not page.is_complete

    def look_again(self) -> None:
        """Time has passed: see what should have come by now."""
        gaps = self._holdings.heads.gaps()
        if gaps:
            self.look(gaps)
        if self._holdings.now >= self._dirty_at:
            self._dirty_at = self._holdings.now + DIRTY_S
            for holding in self._holdings.by_name.values():
                if holding.dirty_elsewhere:
                    self._look_for_dirty(holding)

    # ---------------------------------------------------------------- dirty elsewhere

    def _look_for_dirty(self, holding: Holding) -> None:
        """See which of the changes of others their applications have acknowledged by now."""
        suspects = set(holding.dirty_elsewhere)

        def work(reader: StateReader) -> set[Place]:
            found: set[Place] = set()
            after: Place | None = None
            for _ in range(MAX_DIRTY // DIRTY_PER_READ):
                page = reader.dirty(holding.name, after, DIRTY_PER_READ)
                found.update((each.channel, each.key) for each in page)
                if len(page) < DIRTY_PER_READ:
                    return suspects - found
                after = (page[-1].channel, page[-1].key)
            return {place for place in suspects - found if after is None or place <= after}

        def done(answer: set[Place] | SyncdError) -> None:
            if not isinstance(answer, SyncdError):
                self._call(lambda: self._acknowledged(holding, answer))

        self._store.read_state(work, done)

    def _acknowledged(self, holding: Holding, places: set[Place]) -> None:
        for place in places:
            # A load that began before may have read the source as it was before the change.
            self._fetching.outdate(place)
        holding.dirty_elsewhere -= places


def _pages(reader: StateReader, heads: Mapping[ChannelName, Position]) -> list[LogPage]:
    return [
        reader.read(LogQuery(channel, after=head.offset, limit=EVENTS_PER_LOOK))
        for channel, head in heads.items()
    ]
