"""Up to where channels hold what this client's own mutations have changed: whatever node it is connected to, it reads nothing older. Pure.

Owned by `StateCore`, asked at every `read` and `watch` (promise READ-YOUR-WRITES, SPEC 17): a node may not have heard yet of what another one has
committed, and says so, or waits, where a request names a position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncd.ids import ChannelName, Position

__all__ = ["OwnWrites"]

MAX_CHANNELS = 1_000
"""Policy when full: forget the channel whose last own change is the oldest; every node has heard of that long since."""


class OwnWrites:
    """The positions of outcomes, the newest of each channel."""

    def __init__(self) -> None:
        self._positions: dict[ChannelName, Position] = {}

    def note(self, positions: Mapping[ChannelName, Position]) -> None:
        """A mutation was decided; an outcome that is told again may be older than what is known."""
        known = self._positions
        for channel, position in positions.items():
            known[channel] = _newer(known.pop(channel, position), position)
            if len(known) > MAX_CHANNELS:
                del known[next(iter(known))]

    def of(self, channel: ChannelName) -> Position | None:
        """Return up to where a channel holds what was changed in it, if anything was."""
        return self._positions.get(channel)

    def after(
        self, collection: str, keys: Iterable[str], asked: Mapping[str, Position] | None
    ) -> dict[str, Position]:
        """Return how new entries of a collection have to be: as what is known, and as what is asked for."""
        parts = {key.partition("/")[0] for key in keys if "/" in key}
        channels = [collection, *(f"{collection}/{part}" for part in sorted(parts))]
        after = dict(asked or {})
        for channel in channels:
            own = self._positions.get(ChannelName(channel))
            if own is not None:
                after[channel] = _newer(own, after.get(channel, own))
        return after


def _newer(known: Position, position: Position) -> Position:
    """Return the later of two positions; of two epochs nobody knows which that is, then the second one."""
    is_older = known.epoch == position.epoch and known.offset > position.offset
    return known if is_older else position
