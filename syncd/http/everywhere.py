"""What HTTP asks of the other nodes: to carry out an operator's order, and how they are."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from syncd.http.ports import NodeInfo
from syncd.ports_cluster import ClusterPort, NodeRow, NodeState, Order
from syncd.ports_operators import GatewayPort

__all__ = ["done_everywhere", "nodes_json"]


async def done_everywhere(
    cluster: ClusterPort | None, order: Order, num_sessions: int
) -> dict[str, int]:
    """Have all other nodes carry out an order that was carried out here, and wait for their counts, `order_s` at most.

    Args:
        num_sessions: How many sessions it touched here.

    Returns:
        `num_sessions` of all that answered, `nodes_answered` and `nodes`, this one included in both.

    Cancellation: the order goes on; nobody counts.
    """
    if cluster is None:
        return {"num_sessions": num_sessions, "nodes_answered": 1, "nodes": 1}
    has_answer = trio.Event()
    poll = cluster.order(order, lambda: has_answer.set())  # noqa: PLW0108 - there is a new one after each answer
    try:
        with trio.move_on_after(cluster.timing.order_s):
            while not poll.is_complete:
                await has_answer.wait()
                has_answer = trio.Event()
    finally:
        cluster.forget(poll)
    return {
        "num_sessions": num_sessions + sum(poll.answers.values()),
        "nodes_answered": 1 + len(poll.answers),
        "nodes": 1 + len(poll.expected),
    }


def nodes_json(
    cluster: ClusterPort | None, node: NodeInfo, gateway: GatewayPort
) -> list[dict[str, Any]]:
    """Return all nodes as JSON, this one first; without a cluster it is the only one."""
    if cluster is not None:
        return [_row_json(row) for row in cluster.nodes()]
    counts = gateway.statistics()
    alone = {
        "node": None,
        "is_self": True,
        "state": NodeState.ALIVE.value,
        "heard_ago_s": 0.0,
        "num_members": node.statistics().presence.num_members,
        "version": node.version,
        "address": None,
        "num_connections": counts.num_connections,
        "num_sessions": counts.num_sessions,
        "loop_lag_ms": round(node.loop_lag_ms(), 3),
        "store_lag_ms": None,
        "started_at_ms": node.started_at_ms,
    }
    return [alone]


_NOT_TOLD: dict[str, Any] = dict.fromkeys(
    (
        "version",
        "address",
        "num_connections",
        "num_sessions",
        "loop_lag_ms",
        "store_lag_ms",
        "started_at_ms",
    )
)


def _row_json(row: NodeRow) -> dict[str, Any]:
    load = _NOT_TOLD if row.load is None else attrs.asdict(row.load)
    return {
        "node": row.node,
        "is_self": row.is_self,
        "state": row.state.value,
        "heard_ago_s": round(row.heard_ago_s, 3),
        "num_members": row.num_members,
        **{
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in load.items()
        },
    }
