"""Reads that a store nobody else writes to puts together of others: between two of them nothing changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from syncd.ids import ChannelName, Position
from syncd.ports_log import ChannelHead, LoadedChannel
from syncd.ports_state import Entry, EntryPage, KeyName, LookedUp

__all__ = ["AloneReads"]


class _Reads(Protocol):
    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel: ...

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]: ...

    def last_mids(self, clients: Sequence[str]) -> list[int]: ...

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> EntryPage: ...


class AloneReads:
    """Part of a store that has its data alone."""

    blocks = False

    def era(self) -> str:
        """See `StateReader.era`."""
        return ""

    def load_many(
        self: _Reads, wanted: Sequence[tuple[ChannelName, int, int]]
    ) -> list[LoadedChannel]:
        """See `Store.load_many`."""
        return [self.load(*each) for each in wanted]

    def heads(
        self: _Reads,
        channels: Sequence[ChannelName],
        told: Mapping[ChannelName, Position] | None = None,
    ) -> list[ChannelHead]:
        """See `StateReader.heads`; what was told of a store of one's own is there."""
        return [self.load(channel, 0, 0).head for channel in channels]

    def look_up(
        self: _Reads,
        channel: ChannelName,
        keys: Sequence[KeyName],
        *,
        with_dirty: bool = False,
        clients: Sequence[str] = (),
    ) -> LookedUp:
        """See `StateReader.look_up`."""
        head = self.load(channel, 0, 0).head
        found, mids = self.entries(channel, keys), self.last_mids(clients)
        return LookedUp(Position(head.epoch, head.top), found, mids=mids)

    def scan_for(
        self: _Reads,
        clients: Sequence[str],
        channel: ChannelName,
        after_key: KeyName | None,
        limit: int,
        max_bytes: int,
    ) -> tuple[EntryPage, list[int]]:
        """See `StateReader.scan_for`."""
        return self.scan(channel, after_key, limit, max_bytes), self.last_mids(clients)
