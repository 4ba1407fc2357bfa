"""Which loads one collection owes its watchers: entries that may be older than their source and could not be loaded anew yet.

Owner: the cache-owner, one for each collection that has a source. Pure: time is given, in seconds of one clock. Kept in two grains, since a
collection may be large: single entries, bounded in number, and whole channels that are *sure*: all that is stored of them was looked at
after it was invalidated last, and after this start. What the single entries have no room for takes its channel's sureness away.

Invariant: an entry of a sure channel that was invalidated since and not loaded is either owed here or on its way.
"""

from __future__ import annotations

import attrs

from syncd.ids import ChannelName
from syncd.model.recording import Place

__all__ = ["LOOKED_AT_ONCE", "MAX_OWED", "OwedLoads"]

MAX_OWED = 10_000
"""Single entries of one collection. Policy when full: the one looked at longest ago goes, and its channel is not sure any more."""
MAX_SURE = 10_000
"""Channels of one collection remembered as sure; the oldest goes, and is looked through once more when somebody comes."""
LOOKED_AT_ONCE = 1_000
"""Entries that one look goes over: about a millisecond."""
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0
"""Between two attempts at an entry that fails: as for loads that somebody asks for."""


@attrs.define
class _Owed:
    due: float
    num_failed: int = 0


class OwedLoads:
    """What one collection owes."""

    def __init__(self) -> None:
        self._places: dict[Place, _Owed] = {}
        """The one looked at longest ago first."""
        self._sure: dict[ChannelName, None] = {}
        self._walks: dict[ChannelName, bool] = {}
        """Channels that are being looked through as a whole; whether what was seen of them so far still holds."""

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, place: object) -> bool:
        return place in self._places

    # ---------------------------------------------------------------- single entries

    def invalidated(self, place: Place, now: float) -> ChannelName | None:
        """Owe an entry that was invalidated, from now on. Returns the channel of one that had to go for it, if one had to."""
        self._places.pop(place, None)
        return self._add(place, _Owed(now))

    def put_off(self, place: Place, now: float) -> ChannelName | None:
        """Owe an entry that cannot be loaded just now. Returns as `invalidated` does."""
        if place in self._places:
            return None
        return self._add(place, _Owed(now))

    def failed(self, place: Place, now: float, after_s: float) -> ChannelName | None:
        """Owe an entry whose load failed: not before `after_s`, and later each time in a row. Returns as `invalidated` does."""
        owed = self._places.pop(place, None) or _Owed(now)
        wait_s = min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(owed.num_failed, 30))
        owed.due = now + max(after_s, wait_s)
        owed.num_failed += 1
        return self._add(place, owed)

    def paid(self, place: Place) -> None:
        """An entry was loaded, or is fresh for another reason."""
        if self._places:
            self._places.pop(place, None)

    def due(self, now: float) -> list[Place]:
        """Return entries that may be tried now, some at a time: all have their turn when this is called again and again."""
        looked_at = [place for place, _ in zip(self._places, range(LOOKED_AT_ONCE), strict=False)]
        found = []
        for place in looked_at:
            owed = self._places[place] = self._places.pop(place)
            if owed.due <= now:
                found.append(place)
        return found

    def _add(self, place: Place, owed: _Owed) -> ChannelName | None:
        self._places[place] = owed
        if len(self._places) <= MAX_OWED:
            return None
        oldest = next(iter(self._places))
        del self._places[oldest]
        self.doubt(oldest[0])
        return oldest[0]

    # ---------------------------------------------------------------- whole channels

    def is_sure(self, channel: ChannelName) -> bool:
        """Whether nothing stored of a channel needs to be looked at, beside what is owed, or whether that is being done."""
        return channel in self._sure or self._walks.get(channel, False)

    def doubt(self, channel: ChannelName) -> None:
        """Something of this channel was invalidated that is not owed singly."""
        self._sure.pop(channel, None)
        if channel in self._walks:
            self._walks[channel] = False

    def doubt_all(self, now: float) -> None:
        """Anything of any channel may have been invalidated: whoever says so asks for a new start, so nothing is put off any more."""
        self._sure.clear()
        self._walks = dict.fromkeys(self._walks, False)
        for owed in self._places.values():
            owed.due, owed.num_failed = now, 0

    def begin_walk(self, channel: ChannelName) -> None:
        """All that is stored of a channel is looked at from now on."""
        self._walks[channel] = True

    def end_walk(self, channel: ChannelName, *, is_complete: bool) -> None:
        """It was looked at: the channel is sure, unless something was invalidated meanwhile."""
        if self._walks.pop(channel, False) and is_complete:
            self._sure[channel] = None
            if len(self._sure) > MAX_SURE:
                del self._sure[next(iter(self._sure))]
