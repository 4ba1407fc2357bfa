"""Up to which position of each channel a node's memory holds what was committed.

Owner: the cache-owner's holdings. Pure. Invariant: an entry in memory is what the store had at the head of its channel, or is newer; so whoever
is told entries and then everything after the head misses nothing.

With a store of its own a node hears of commits in their order, and the newest it heard of is the head. Where nodes share a store, its own commits
may overtake what it hears of others: `SharedHeads` moves a head only over offsets that it has seen without a gap.
"""

from __future__ import annotations

from syncd.ids import ChannelName, Position

__all__ = ["Heads", "SharedHeads"]

MAX_AHEAD = 10_000
"""Offsets of one channel kept beyond a gap. Policy past that: forget them; the log says what is there when the gap is looked up."""


class Heads:
    """Heads of a node that has its store alone."""

    def __init__(self) -> None:
        self._heads: dict[ChannelName, Position] = {}

    def get(self, channel: ChannelName) -> Position | None:
        """Return a channel's head, once anything of it was read or changed."""
        return self._heads.get(channel)

    def known(self) -> dict[ChannelName, Position]:
        """Return all heads."""
        return dict(self._heads)

    def read(self, channel: ChannelName, position: Position) -> bool:
        """The store was read as of a position. Tells whether memory is of another life of the channel and has to go."""
        known = self._heads.get(channel)
        if known is None or known.epoch != position.epoch or known.offset < position.offset:
            self._heads[channel] = position
        return False

    def note(self, channel: ChannelName, position: Position) -> bool:
        """Memory has the change at this position. Tells the same as `read`."""
        return self.read(channel, position)

    def newest(self, channel: ChannelName) -> int:
        """Return the highest offset of a channel that anything is known of."""
        known = self._heads.get(channel)
        return 0 if known is None else known.offset

    def gaps(self) -> list[ChannelName]:
        """Return channels of which something newer than the head is known: none here."""
        return []

    def reset(self, channel: ChannelName, position: Position | None) -> None:
        """Memory holds nothing of a channel, or nothing older than this."""
        if position is None:
            self._heads.pop(channel, None)
        else:
            self._heads[channel] = position


class SharedHeads(Heads):
    """Heads of a node whose store has other writers."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead: dict[ChannelName, set[int]] = {}

    def read(self, channel: ChannelName, position: Position) -> bool:
        """The store was read as of a position: newer than the head, maybe, but not everything in memory is."""
        known = self._heads.get(channel)
        if known is None or known.epoch != position.epoch:
            self.reset(channel, position)
            return known is not None
        return False

    def note(self, channel: ChannelName, position: Position) -> bool:
        """Memory has the change at this position; the head follows as far as there is no gap."""
        known = self._heads.get(channel)
        if known is None or known.epoch != position.epoch:
            self.reset(channel, position)
            return known is not None
        offset = position.offset
        if offset <= known.offset:
            return False
        ahead = self._ahead.get(channel)
        if offset > known.offset + 1:
            if ahead is None:
                ahead = self._ahead[channel] = set()
            if len(ahead) < MAX_AHEAD:
                ahead.add(offset)
            return False
        if ahead is not None:
            while offset + 1 in ahead:
                offset += 1
                ahead.discard(offset)
            if not ahead:
                del self._ahead[channel]
        self._heads[channel] = Position(known.epoch, offset)
        return False

    def reset(self, channel: ChannelName, position: Position | None) -> None:
        """Memory holds nothing of a channel, or nothing older than this."""
        super().reset(channel, position)
        self._ahead.pop(channel, None)

    def newest(self, channel: ChannelName) -> int:
        """Return the highest offset of a channel that anything is known of, whether or not all before it is."""
        known = self._heads.get(channel)
        return max(self._ahead.get(channel, ()), default=0 if known is None else known.offset)

    def gaps(self) -> list[ChannelName]:
        """Return channels of which something newer than the head is known."""
        return list(self._ahead)
