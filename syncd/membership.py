"""This node's place in a cluster: the line to the other nodes, and what they are told of its load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from syncd.actors.bridge.line import ClusterLine
from syncd.actors.presence import Presence
from syncd.actors.store_statistics import StoreActorStatistics
from syncd.config import Config
from syncd.gateway.admin import GatewayAdmin
from syncd.gateway.hub import Hub
from syncd.gateway.peers import PeerSessions
from syncd.gateway.sessions import Sessions
from syncd.http.ports import NodeInfo
from syncd.ports_cluster import ClusterTiming, NodeLoad
from syncd.surroundings import Surroundings
from syncd.wire.session import Phase

__all__ = ["Membership"]


class Membership:
    """Made where nodes share a store; starts nothing."""

    def __init__(self, config: Config, node: str, surroundings: Surroundings) -> None:
        timing = config.timing
        self.line = ClusterLine(
            node,
            config.redis_prefix,
            timing=ClusterTiming.scaled(
                timing.node_beat_s, timing.node_dead_s, timing.node_orphan_s
            ),
            clock=trio.current_time,
            wall_s=surroundings.wall_s,
            chance=surroundings.jitter,
        )
        self.room = self.line.room
        self.address = ""
        """Where this node listens, as far as it knows."""
        self._wall_s = surroundings.wall_s

    def join(
        self,
        node: NodeInfo,
        presence: Presence,
        hub: Hub,
        sessions: Sessions,
        admin: GatewayAdmin,
        store: Callable[[], StoreActorStatistics],
    ) -> None:
        """Let the parts of this node and the others hear of each other."""

        def load() -> NodeLoad:
            counts = store()
            mean_s = counts.commit_s_total / counts.num_commits if counts.num_commits else 0.0
            return NodeLoad(
                version=node.version,
                address=self.address,
                num_connections=len(hub.connections),
                num_sessions=sum(c.phase is Phase.OPEN for c in hub.connections),
                loop_lag_ms=node.loop_lag_ms(),
                store_lag_ms=mean_s * 1000,
                started_at_ms=node.started_at_ms,
            )

        peers = PeerSessions(hub, sessions, admin, self._wall_s)
        self.room.connect(presence.submit_nowait, peers, load)
        sessions.greetings.cluster = self.room

    def listens_at(self, addresses: list[Any]) -> None:
        """Say where this node listens."""
        if addresses:
            first = addresses[0]
            self.address = f"{first[0]}:{first[1]}" if isinstance(first, tuple) else str(first)
