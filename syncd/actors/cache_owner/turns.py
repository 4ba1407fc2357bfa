"""Whose turn it is to tell an application of changes, where nodes share a store: one node at a time for each collection.

Owner of: the leases of this node. Two nodes that told changes of one key side by side could tell them in the wrong order, and the application
would keep the older one. So the holder of a collection's lease tells all its changes, whichever node committed them: it hears of them as of any
other event, of a collection without partitions whether or not it has any of it in memory, and reads the dirty keys now and then for what it did
not hear. A holder that dies is followed within `LEASE_S`; one that stood still
may finish a call that it had begun: `EntryChange.version` says which is newer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
import trio

from syncd.actors.cache_owner.forwarding import Forwarding
from syncd.actors.cache_owner.holdings import Holding, Holdings
from syncd.actors.cache_owner.swapping import RebuildStoreHandle
from syncd.actors.kit import Reply
from syncd.errors import SyncdError
from syncd.ids import ChannelName
from syncd.store.rebuilds import RebuildStore

__all__ = ["Turns"]

T = TypeVar("T")

_log = structlog.get_logger("syncd.forwarding")

LEASE_S = 10.0
RENEW_S = 3.0
READ_DIRTY_S = 6.0
"""Between two looks of the holder at what is dirty: so late is a change told whose event was lost, or is of a partition unknown here."""


class Turns:
    """The leases of a node. `run` is one task; without other nodes there is none of this."""

    def __init__(
        self,
        holdings: Holdings,
        forwarding: Forwarding,
        store: RebuildStoreHandle,
        holder: str,
        wall_ms: Callable[[], int],
    ) -> None:
        """Hold nothing.

        Args:
            holder: Name of this node.
        """
        self._holdings = holdings
        self._forwarding = forwarding
        self._store = store
        self._holder = holder
        self._wall_ms = wall_ms
        self._until: dict[str, float] = {}
        """By collection, until when its lease is surely ours."""
        self._read_at: dict[str, float] = {}
        if holdings.is_shared:
            forwarding.is_ours = self.is_ours

    def is_ours(self, holding: Holding) -> bool:
        """Whether this node tells the changes of a collection."""
        return trio.current_time() < self._until.get(holding.name, 0.0)

    async def run(self) -> None:
        """Take and keep leases until cancelled."""
        forwarded = [each for each in self._holdings.by_name.values() if each.is_forwarded]
        while forwarded:
            for holding in forwarded:
                await self._look(holding)
            await trio.sleep(RENEW_S)

    async def _look(self, holding: Holding) -> None:
        name, asked_at, was_ours = holding.name, trio.current_time(), self.is_ours(holding)
        lease_ms, now_ms, holder = int(LEASE_S * 1000), self._wall_ms(), self._holder
        try:
            is_ours = await self._ask(
                lambda store: store.hold(f"forward:{name}", holder, now_ms, lease_ms)
            )
        except SyncdError:
            is_ours = None  # the store is away: what we hold ends by itself
        if is_ours:
            self._until[name] = asked_at + LEASE_S
        elif is_ours is False:
            self._until[name] = 0.0
        if not self.is_ours(holding):
            if was_ours:
                _log.warning("forwarding_lost", collection=name)
            self._forwarding.leave_to_others(holding)
            return
        if not holding.definition.is_partitioned:
            self._holdings.listen(ChannelName(name))
        if not was_ours or trio.current_time() >= self._read_at.get(name, 0.0):
            self._read_at[name] = trio.current_time() + READ_DIRTY_S
            await self._forwarding.read_dirty_of(holding, is_guarded=True)
            self._forwarding.start()

    async def _ask(self, work: Callable[[RebuildStore], T]) -> T:
        reply: Reply[T] = Reply()
        self._store.rebuild(work, reply.settle)
        return await reply.wait()
