"""The cache-owner as others see it: what may be asked of it without its mailbox, and the mailbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syncd.actors.cache_owner.holdings import Holdings
from syncd.actors.cache_owner.messages import CacheOwnerMessage
from syncd.actors.cache_owner.upkeep import Upkeep
from syncd.actors.kit import Mailbox
from syncd.ids import ChannelName, Position
from syncd.ports_collections import CacheOwnerCommand
from syncd.ports_shared import CheckChannels, LoadsEnded, RemoteEvents, RenewEntries
from syncd.ports_state import KeyName
from syncd.store.rebuilds import SwapGeneration

__all__ = ["Handle"]


class Handle:
    """Implements `CacheOwnerHandle` for the actor."""

    mailbox: Mailbox[CacheOwnerMessage]
    holdings: Holdings
    upkeep: Upkeep

    def submit_nowait(
        self,
        commands: Sequence[CacheOwnerCommand]
        | Sequence[RemoteEvents | CheckChannels | RenewEntries | LoadsEnded],
        size_bytes: int,
    ) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""
        self.mailbox.put_nowait(commands, size_bytes)

    async def submit(self, commands: Sequence[CacheOwnerCommand], size_bytes: int) -> None:
        """Hand over, waiting for room. Cancelled: nothing was handed over."""
        await self.mailbox.put(commands, size_bytes)

    def channel_of(self, collection: str, keys: Sequence[str]) -> tuple[ChannelName, list[KeyName]]:
        """See `CacheOwnerHandle.channel_of`."""
        return self.holdings.channel_of(collection, list(keys))

    def whole_channel(self, collection: str, partition: str | None) -> ChannelName:
        """See `CacheOwnerHandle.whole_channel`."""
        return self.holdings.whole_channel(collection, partition)

    def cache_statistics(self) -> dict[str, dict[str, Any]]:
        """See `CacheOwnerHandle.cache_statistics`."""
        return self.upkeep.statistics()

    def cache_settings(self) -> dict[str, dict[str, Any]]:
        """See `CacheOwnerHandle.cache_settings`."""
        return self.upkeep.settings()

    def change_settings(self, collection: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """See `CacheOwnerHandle.change_settings`."""
        return self.upkeep.change(collection, changes)

    def swap_generation(self, message: SwapGeneration) -> None:
        """Have a rebuild's generation swapped in; never refused, returns at once."""
        self.mailbox.put_reply(message)

    def num_invalidations(self, collection: str) -> int:
        """Return how often entries of a collection were invalidated. Returns at once."""
        return self.holdings.by_name[collection].counts.invalidations

    def volatile_head(self, channel: ChannelName) -> Position:
        """Return where a volatile channel stands, for the broadcaster. Returns at once."""
        return self.holdings.volatile_head(channel)
