"""What the HTTP side asks of the node that runs it, besides the handles of `syncd.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from syncd.actors.bridge import BridgeStatistics
from syncd.actors.bridge.telling import ClusterStatistics
from syncd.actors.broadcaster.statistics import BroadcasterStatistics
from syncd.actors.kit import ActorHealth, MailboxStatistics
from syncd.actors.presence import PresenceStatistics
from syncd.actors.rebuild_coordinator.statistics import RebuildStatistics
from syncd.actors.store_statistics import StoreActorStatistics
from syncd.http.siblings import Siblings
from syncd.ports_operators import HistogramCounts
from syncd.store.sqlite_backup import CopyReport

__all__ = ["NodeInfo", "NodeStatistics", "StatsInfo"]


@attrs.frozen
class NodeStatistics:
    """Every part of a node at one moment, but for the gateway."""

    store: StoreActorStatistics
    broadcaster: BroadcasterStatistics
    presence: PresenceStatistics
    collections: dict[str, dict[str, Any]]
    """By collection, see `CacheOwnerHandle.cache_statistics`."""
    mailboxes: dict[str, MailboxStatistics]
    """By actor."""
    rebuilds: RebuildStatistics
    loop_lag: HistogramCounts
    """Seconds."""
    num_stalls: int
    """Times the loop stood still for longer than `timing.stall_s`."""
    cluster: ClusterStatistics | None = None
    """None: there are no other nodes."""
    bridge: BridgeStatistics | None = None
    """The same."""


class StatsInfo(Protocol):
    """What a node samples of itself once a second. Both return at once."""

    def columns(self) -> dict[str, list[float | None]]:
        """Return the last ten minutes: a list of each number's samples, oldest first."""

    def now(self) -> dict[str, Any]:
        """Return the newest sample, and how the node, its actors and its collections stand."""


class NodeInfo(Protocol):
    """One node, as its health and info pages tell it. Every method returns at once."""

    version: str
    started_at_ms: int
    """Wall clock, milliseconds since 1970."""
    siblings: Siblings | None
    """Other workers on this port, whose metrics are told along; None: there are none."""

    @property
    def stats(self) -> StatsInfo:
        """What is sampled of it."""

    def uptime_s(self) -> float:
        """Return seconds since the start."""

    def loop_lag_ms(self) -> float:
        """Return how late the event loop lately woke a sleeper."""

    def health(self) -> Sequence[ActorHealth]:
        """Return what became of each actor, in start order."""

    def reasons_not_ready(self) -> Sequence[str]:
        """Return why the node should get no traffic, one sentence each; empty when it is ready."""

    async def check_store(self) -> None:
        """See whether the store can commit, within a second, for `reasons_not_ready` to tell."""

    async def backup(self, path: Path) -> CopyReport:
        """Copy the store to a new file. Raises `SyncdError`. Cancelled: nothing is left of it."""

    def statistics(self) -> NodeStatistics:
        """Return counts of every part."""
