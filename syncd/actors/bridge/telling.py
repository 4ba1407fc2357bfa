"""What the cluster room tells of itself and of its peers."""

from __future__ import annotations

import attrs

from syncd.model.peers import Peer
from syncd.ports_cluster import ClusterTiming, NodeRow, NodeState

__all__ = ["ClusterStatistics", "row_of"]


@attrs.frozen
class ClusterStatistics:
    """The room at one moment; counters count since start."""

    num_nodes: int
    """Alive, this one included."""
    num_claims: int
    """Of peers: clients present elsewhere, once a channel."""
    num_spoken: int
    num_refused: int
    """Messages that the bus did not take; what they told was told later."""
    num_missed: int
    """Messages of peers that did not come; what they told was asked for."""
    num_unheard: int
    """Messages of nodes that had left or were too many."""
    num_bad: int
    """Payloads that are no message."""
    num_faults: int
    """Peers found to claim other things than they told, and asked again."""
    num_snapshots: int
    """Told to peers, whole."""
    num_overflows: int
    """Changes that the presence actor had no room for, told later."""
    num_dead: int


def row_of(peer: Peer, now: float, timing: ClusterTiming, *, is_up: bool) -> NodeRow:
    """Return a peer as it is listed; `is_up`: whether our own link is."""
    heard_ago_s = now - peer.heard_at
    is_silent = not is_up or heard_ago_s > 2 * timing.beat_s
    state = NodeState.SILENT if is_silent else NodeState.ALIVE
    return NodeRow(peer.node, False, state, heard_ago_s, len(peer.claims.by_key), peer.load)  # noqa: FBT003
