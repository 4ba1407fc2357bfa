"""Committed events that came before their predecessors, until the log or whoever brings those fills the gap.

Events of a durable channel come several ways, from our own appends, from commits of the cache-owner and from other nodes, and may overtake
each other. What is ahead waits here while the log is read; nobody is loaded anew for that. Bounded by `AHEAD_EVENTS` a channel.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from syncd.actors.broadcaster.messages import BroadcasterMessage, GapRead
from syncd.actors.broadcaster.rooms import Room
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports import Asker
from syncd.ports_log import LogPage, LogQuery, StoredEvent, StoreHandle

__all__ = ["Gaps", "Ok"]

AHEAD_EVENTS = 1000
"""Of one channel: two batches of appends; past that it is read anew."""

Ok = tuple[Asker, int, Epoch | None, int]
"""An answer to a publication: asker, request id, epoch, offset."""


Ahead = tuple[StoredEvent, bytes | None]
"""An event that waits, and its record with the whole value, where it tells a patch."""


@attrs.define
class _Gap:
    events: dict[int, Ahead] = attrs.field(factory=dict)
    upto: int = 0
    """The log is known to reach so far, whether or not anything waits."""
    is_reading: bool = False
    oks: list[Ok] = attrs.field(factory=list)
    """Answers to publications whose event waits: it comes to its author before."""


class Gaps:
    """The gaps of all channels."""

    def __init__(self, store: StoreHandle, post: Callable[[BroadcasterMessage], None]) -> None:
        self._store = store
        self._post = post
        self._gaps: dict[ChannelName, _Gap] = {}

    def __contains__(self, channel: ChannelName) -> bool:
        return channel in self._gaps

    def hold(self, room: Room, event: StoredEvent, full: bytes | None = None) -> bool:
        """Keep an event that is ahead, and have the log read; False when too many are."""
        gap = self._open(room)
        if len(gap.events) >= AHEAD_EVENTS:
            return False
        gap.events[event.offset] = (event, full)
        return True

    def note(self, room: Room, upto: int) -> None:
        """The log reaches so far, and nobody told us: have it read."""
        gap = self._open(room)
        gap.upto = max(gap.upto, upto)

    def _open(self, room: Room) -> _Gap:
        gap = self._gaps.get(room.name)
        if gap is None:
            gap = self._gaps[room.name] = _Gap()
            self.read(room)
        return gap

    def read_again(self, room: Room) -> None:
        """Ask once more for a gap whose read failed."""
        gap = self._gaps.get(room.name)
        if gap is not None and not gap.is_reading:
            self.read(room)

    def hold_ok(self, channel: ChannelName, ok: Ok) -> None:
        """Answer this publication when the gap is closed."""
        self._gaps[channel].oks.append(ok)

    def read(self, room: Room) -> None:
        """Ask for what the log has above the channel's top."""
        name, channel = room.name, room.channel
        assert channel is not None
        gap = self._gaps[name]
        gap.is_reading = True

        def done(answer: LogPage | SyncdError) -> None:
            gap.is_reading = False
            self._post(GapRead(name, answer))

        self._store.read(LogQuery(name, after=channel.top), done)

    def take(self, channel: ChannelName, offset: int) -> Ahead | None:
        """Return what waits at an offset."""
        gap = self._gaps.get(channel)
        return None if gap is None else gap.events.pop(offset, None)

    def is_over(self, channel: ChannelName, top: int) -> bool:
        """Whether nothing above the channel's top waits."""
        gap = self._gaps[channel]
        return top >= gap.upto and not any(offset > top for offset in gap.events)

    def close(self, channel: ChannelName) -> list[Ok]:
        """Forget the gap; returns the answers that are due now."""
        gap = self._gaps.pop(channel, None)
        return [] if gap is None else gap.oks

    def close_all(self) -> list[Ok]:
        """Forget all gaps; returns the answers that were held back."""
        return [ok for channel in list(self._gaps) for ok in self.close(channel)]
