"""Orders of operators that all nodes carry out: who was asked, who has answered, and what is done here for others.

Owned by the cluster room. Bounded by the HTTP requests that wait, each for `ClusterTiming.order_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from syncd.ports_cluster import (
    DisconnectOrder,
    Order,
    Poll,
    RevokeOrder,
    SessionsPort,
    UnsubscribeOrder,
)

__all__ = ["Orders", "carry_out"]


class Orders:
    """Polls under way."""

    def __init__(self) -> None:
        self._polls: dict[int, Poll] = {}
        self._num_given = 0

    def open(self, expected: Iterable[str], on_answer: Callable[[], None]) -> Poll:
        """Begin to wait for these nodes."""
        self._num_given += 1
        poll = Poll(self._num_given, frozenset(expected), on_answer)
        self._polls[poll.id] = poll
        return poll

    def answered(self, node: str, poll_id: int, count: int) -> None:
        """A node has carried out an order; too late is nothing."""
        poll = self._polls.get(poll_id)
        if poll is not None and node in poll.expected:
            poll.answers[node] = count
            poll.on_answer()

    def close(self, poll: Poll) -> None:
        """Nobody waits any more."""
        self._polls.pop(poll.id, None)


def carry_out(order: Order, sessions: SessionsPort) -> int:
    """Do here what an order says; return how many sessions it touched.

    Raises:
        RequestRejected: limit_exceeded, when too many revocations stand.
    """
    match order:
        case DisconnectOrder():
            return sessions.disconnect(order.target, reconnect=order.reconnect, reason=order.reason)
        case UnsubscribeOrder():
            return sessions.unsubscribe(order.target, order.channel)
        case RevokeOrder():
            return sessions.revoke(order.target, until_s=order.until_s)
