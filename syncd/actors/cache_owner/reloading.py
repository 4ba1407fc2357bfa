"""Loading anew what is watched and may be older than its source, until that has succeeded.

Owner of: which entries are owed (`OwedLoads`, one for each collection with a source) and the walks through collections that look for more.

Invariant (SPEC 17, "the server reloads those that are watched"): an entry that has a source, is watched, and was invalidated, or is of
unknown age as nothing has been asked about it since the start, is on its way to its source, or a walk is still to come by it, or it is
owed. What is owed is tried again with the turns of the actor, once its source may be asked again, until a load that began after the
invalidation has succeeded; so it is at most `LOOK_S` late (and a turn for every thousand that are owed).

Who watches is the broadcaster's to know, and it may not know yet: watches are handed over to it, and it may be starting anew. So what
is invalidated counts as owed for whoever comes later, and a watch that goes on from a position, over invalidations that nobody was there
for, has what it covers looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import attrs

from syncd.actors.cache_owner.fetching import MAX_FLIGHTS, Fetching
from syncd.actors.cache_owner.gathering import Flight
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.paging import PAGE_BYTES
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.model.collection_memory import CachedEntry
from syncd.model.owed_loads import LOOKED_AT_ONCE, OwedLoads
from syncd.model.recording import Place
from syncd.ports_collections import WatchingHandle
from syncd.ports_state import EntryPage, KeyName, StateReader, StateStoreHandle

__all__ = ["LOOK_S", "Reloading"]

LOOK_S = 0.4
"""Between two looks at what is owed; less than the actor's `SWEEP_S`, so that each sweep looks."""
UNDER_WAY_S = 10.0
"""A watch that was handed to the broadcaster is known there before this, or the node has ended (more than 3 restarts in 10 s)."""
STEP = 1_000
"""Entries looked at in one go: about a millisecond."""
CROWDED = MAX_FLIGHTS // 2
"""Flights under way at which walks pause, so that there is room for those that ask."""

_Name = tuple[str, ChannelName | None, str]
"""A walk: its collection, the channel (None: what is in memory of the collection), and the tag, if it is for one."""
_Pager = Callable[[StateReader, Place | None], tuple[Position | None, list[Place]]]
"""Reads where the next entries lie, after one, or from the first; and of one channel, the position that this is as of."""


@attrs.define(eq=False)
class _Walk:
    """One under way. Those that are wanted meanwhile share the next."""

    name: _Name
    holding: Holding
    is_whole: bool
    """Somebody watches all of the channel: every entry is looked at, whether or not the broadcaster knows of that yet."""
    is_again: bool = False
    is_whole_again: bool = False


class Reloading:
    """The cache-owner's debts."""

    def __init__(
        self,
        holdings: Holdings,
        fetching: Fetching,
        store: StateStoreHandle,
        broadcaster: WatchingHandle,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """Begin with nothing owed, and sure of nothing.

        Args:
            broadcaster: Is asked who watches, no more.
            call: Has something done in another turn of the actor's.
        """
        self._holdings = holdings
        self._fetching = fetching
        self._store = store
        self._call = call
        self._num_watching = broadcaster.num_watching
        self._is_watched = broadcaster.is_watched
        self._owed = {
            name: OwedLoads() for name, each in holdings.by_name.items() if each.has_source
        }
        self._walks: dict[_Name, _Walk] = {}
        self._later: dict[_Name, float] = {}
        """Walks to begin from then on, if somebody is there by then or within `UNDER_WAY_S`. At most one for each channel that was
        told of an invalidation in that time, or whose walk the store could not serve."""
        self._paused: list[Callable[[], None]] = []
        self._look_at = 0.0
        fetching.on_settled, fetching.on_failed = self._settled, self._failed

    # ---------------------------------------------------------------- invalidated

    def lost(self, channel: ChannelName) -> None:
        """Anything of a channel may have been invalidated, by others, and we did not hear of it."""
        holding = self._holdings.of_channel(channel)
        if holding is not None and holding.has_source:
            self._owed[holding.name].doubt(channel)
            self.owe(holding, (), [channel])

    def doubt(self, holding: Holding) -> None:
        """Anything of a collection may have been invalidated."""
        if holding.has_source:
            self._owed[holding.name].doubt_all(self._holdings.now)

    def reload(
        self,
        holding: Holding,
        keys: Sequence[KeyName],
        tags: Sequence[str],
        channels: Collection[ChannelName],
    ) -> None:
        """Load what was invalidated and somebody watches, most watched first (`Loading` sorts); the rest when somebody comes."""
        if not holding.has_source:
            return
        if keys:
            self.owe(holding, keys, ())
            self._see_some(holding, [holding.rules.place(key) for key in keys])
            return
        if tags:
            tagged = [place for tag in tags for place in holding.memory.tagged(tag)]
            self._see_slowly(holding, tagged, 0)
        else:
            self._begin(holding, None)
        watched = dict.fromkeys(channel for channel in channels if self._is_watched(channel))
        self.owe(holding, (), [channel for channel in channels if channel not in watched])
        # What is watched may be in the store alone: evicted, or not read yet since the start.
        if holding.is_volatile or not watched:
            return
        for tag in tags:
            self._begin(holding, None, tag)
        for channel in () if tags else watched:
            self._begin(holding, channel)

    def owe(
        self, holding: Holding, keys: Sequence[KeyName], channels: Iterable[ChannelName]
    ) -> None:
        """Have it loaded with the next look, if somebody watches it by then: these keys, or what there is of these channels."""
        if not holding.has_source:
            return
        owed, now = self._owed[holding.name], self._holdings.now
        for key in keys:
            self._dropped(holding, owed.invalidated(holding.rules.place(key), now))
        if not keys:
            for channel in channels:
                self._begin_later(holding, channel)

    def _begin_later(self, holding: Holding, channel: ChannelName, after_s: float = 0.0) -> None:
        self._later.setdefault((holding.name, channel, ""), self._holdings.now + after_s)

    def _dropped(self, holding: Holding, channel: ChannelName | None) -> None:
        """An entry of a channel is not owed any more only because there are so many: all of it is looked at, but not all the time."""
        if channel is not None:
            self._begin_later(holding, channel, UNDER_WAY_S)

    # ---------------------------------------------------------------- watched

    def watched(self, channel: ChannelName, keys: Iterable[KeyName] | None) -> None:
        """Somebody watches keys of a channel from now on, or (None) all of it, without being told what the source has now."""
        holding = self._holdings.of_channel(channel)
        if holding is None or not holding.has_source:
            return
        if keys is not None:
            for key in keys:
                self._see_to(holding, (channel, key), 1)
        elif not self._owed[holding.name].is_sure(channel):
            self._begin(holding, channel, is_whole=True)

    def told(self, channel: ChannelName, page: EntryPage) -> None:
        """Somebody watches a channel from now on, and is told these entries of it as the store has them."""
        holding, now = self._holdings.of_channel(channel), self._holdings.now
        if holding is None or not holding.has_source:
            return
        self._holdings.follow(channel, page.position)
        for each in page.entries:
            place = (channel, each.key)
            known = holding.memory.peek(place, now)
            if not holding.is_usable(place, known or holding.entry_from_store(each), now):
                # What is not in memory is read again, with its position: memory is never ahead of what it is as of.
                self._have_loaded(holding, place, known, 1)

    # ---------------------------------------------------------------- single entries

    def _see_some(self, holding: Holding, places: Iterable[Place], at_least: int = 0) -> None:
        for place in places:
            count = max(self._num_watching(*place), at_least)
            if count:
                self._see_to(holding, place, count)

    def _see_to(self, holding: Holding, place: Place, num_watching: int) -> None:
        """Have a watched entry loaded if it is not fresh; if that cannot be now, it is owed."""
        now, owed = self._holdings.now, self._owed[holding.name]
        entry = holding.memory.peek(place, now)
        is_dirty = holding.is_dirty(place)
        if entry is None and is_dirty:
            return  # what the store has of it is newer than its source
        if entry is not None and now < entry.fresh_until:
            if not is_dirty:
                owed.paid(place)
        else:
            self._have_loaded(holding, place, entry, num_watching)

    def _have_loaded(
        self, holding: Holding, place: Place, entry: CachedEntry | None, num_watching: int
    ) -> None:
        if not self._fetching.refresh(holding, place, entry, num_watching=num_watching):
            owed = self._owed[holding.name]
            self._dropped(holding, owed.put_off(place, self._holdings.now))

    def _see_slowly(self, holding: Holding, places: list[Place], start: int) -> None:
        """Go through places in steps, so that others have their turn."""
        end = start + STEP
        self._see_some(holding, places[start:end])
        if end < len(places):
            self._go_on(lambda: self._see_slowly(holding, places, end))

    def _settled(self, flight: Flight) -> None:
        owed = self._owed.get(flight.holding.name)
        if owed is not None and not flight.holding.is_dirty(flight.place):
            owed.paid(flight.place)

    def _failed(self, flight: Flight, error: SyncdError) -> None:
        holding, place = flight.holding, flight.place
        owed = self._owed.get(holding.name)
        if owed is not None and (flight.num_watching or place in owed):
            after_s = (error.after_ms or 0) / 1000
            self._dropped(holding, owed.failed(place, self._holdings.now, after_s))

    # ---------------------------------------------------------------- walks

    def _begin(
        self,
        holding: Holding,
        channel: ChannelName | None,
        tag: str = "",
        *,
        is_whole: bool = False,
    ) -> None:
        """Go through what the store has of a channel or tag (what memory has, if that is all), or through memory."""
        name = (holding.name, channel, tag)
        walk = self._walks.get(name)
        if walk is not None:
            walk.is_again = True
            walk.is_whole_again |= is_whole
            return
        if channel is not None:
            is_whole = is_whole or self._num_watching(channel, KeyName("")) > 0
        walk = self._walks[name] = _Walk(name, holding, is_whole)
        if channel is not None and is_whole:
            self._owed[holding.name].begin_walk(channel)
        if tag:
            self._walk_store(walk, _tagged_pager(holding.name, tag))
        elif channel is None or holding.is_volatile:
            self._walk_memory(walk, 0)
        else:
            self._walk_store(walk, _channel_pager(channel))

    def _walk_memory(self, walk: _Walk, cursor: int) -> None:
        holding, channel = walk.holding, walk.name[1]
        places, cursor = holding.memory.scan(cursor, STEP)
        if channel is not None:
            places = [place for place in places if place[0] == channel]
        self._see_some(holding, places, walk.is_whole)
        if cursor:
            self._go_on(lambda: self._walk_memory(walk, cursor))
        else:
            self._end(walk, is_complete=True)

    def _walk_store(self, walk: _Walk, pager: _Pager, after: Place | None = None) -> None:
        def work(reader: StateReader) -> tuple[Position | None, list[Place]]:
            return pager(reader, after)

        def done(answer: tuple[Position | None, list[Place]] | SyncdError) -> None:
            self._call(lambda: look(answer))

        def look(answer: tuple[Position | None, list[Place]] | SyncdError) -> None:
            if isinstance(answer, SyncdError):
                self._end(walk, is_complete=False)
                return
            position, places = answer
            if position is not None and walk.name[1] is not None:
                self._holdings.follow(walk.name[1], position)
            if places:
                self._see_some(walk.holding, places, walk.is_whole)
                self._go_on(lambda: self._walk_store(walk, pager, places[-1]))
            else:
                self._end(walk, is_complete=True)

        self._store.read_state(work, done)

    def _go_on(self, step: Callable[[], None]) -> None:
        if len(self._fetching.flights) > CROWDED:
            self._paused.append(step)
        else:
            self._call(step)

    def _end(self, walk: _Walk, *, is_complete: bool) -> None:
        holding, (_, channel, tag) = walk.holding, walk.name
        del self._walks[walk.name]
        if channel is not None and walk.is_whole:
            self._owed[holding.name].end_walk(channel, is_complete=is_complete)
        if not is_complete:
            self._later.setdefault(walk.name, self._holdings.now)
        elif walk.is_again:
            self._begin(holding, channel, tag, is_whole=walk.is_whole_again)

    # ---------------------------------------------------------------- time

    def look_again(self) -> None:
        """Try what is owed, and begin the walks that are due: time has passed."""
        now = self._holdings.now
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        paused, self._paused = self._paused, []
        for step in paused:
            self._go_on(step)
        for name, owed in self._owed.items():
            self._see_some(self._holdings.by_name[name], owed.due(now))
        for walk in [name for name, _ in zip(self._later, range(LOOKED_AT_ONCE), strict=False)]:
            due = self._later.pop(walk)
            holding, channel = self._holdings.by_name[walk[0]], walk[1]
            if due <= now and (channel is None or self._is_watched(channel)):
                self._begin(holding, channel, walk[2])
                if channel is not None and not holding.is_volatile:
                    self._begin(holding, None)  # what is known not to exist is in memory alone
            elif now < due + UNDER_WAY_S:
                self._later[walk] = due


def _tagged_pager(collection: str, tag: str) -> _Pager:
    def page(reader: StateReader, after: Place | None) -> tuple[None, list[Place]]:
        return None, list(reader.keys_by_tag(collection, tag, after, STEP))

    return page


def _channel_pager(channel: ChannelName) -> _Pager:
    def page(reader: StateReader, after: Place | None) -> tuple[Position, list[Place]]:
        after_key = None if after is None else after[1]
        found = reader.scan(channel, after_key, STEP, PAGE_BYTES)
        return found.position, [(channel, entry.key) for entry in found.entries]

    return page
