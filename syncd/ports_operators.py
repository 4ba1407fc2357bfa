"""What operators may ask of the gateway and do to its sessions, as Protocols and plain messages; nothing here does anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from syncd.ids import ChannelName
from syncd.ports import Identity

__all__ = [
    "GatewayPort",
    "GatewayStatistics",
    "HistogramCounts",
    "SessionInfo",
    "SessionOrders",
    "Target",
]


@attrs.frozen
class HistogramCounts:
    """A histogram at one moment."""

    bounds: tuple[float, ...]
    """Upper bounds, inclusive, ascending; what is above the last one counts in `count` only."""
    cumulative: tuple[int, ...]
    """Observations up to each bound."""
    count: int
    total: float
    """Sum of what was observed."""


@attrs.frozen
class Target:
    """Which sessions an operator means; all given fields must match, at least one is given."""

    user: str | None = None
    session: str | None = None
    client: str | None = None
    token_id: str | None = None


@attrs.frozen
class GatewayStatistics:
    """The gateway at one moment; counters count since start."""

    num_connections: int
    num_sessions: int
    """Connections past hello."""
    num_subscriptions: int
    num_accepted: int
    num_refused: int
    num_messages_in: int
    num_deliveries: int
    num_bytes_out: int
    num_conflated: int
    num_lagged: int
    closes: dict[str, int]
    """Close code to count."""
    errors: dict[str, int]
    """Error code to count."""
    num_mutations: int = 0
    """Asked for, whatever became of them."""
    num_reads: int = 0
    num_watches: int = 0
    num_messages_out: int = 0
    """Messages handed to sockets or outboxes: deliveries, answers and the rest."""
    applied_ages: HistogramCounts | None = None
    """Seconds from a publication until a client had applied it, as clients say."""


@attrs.frozen
class SessionInfo:
    """One session as operators see it. Ages are in seconds."""

    session: str
    user: str | None
    clients: tuple[str, ...]
    peer: str
    num_subscriptions: int
    outbox_bytes: int
    """What waits because its socket takes no more."""
    outbox_budget_bytes: int
    behind_s: float
    """How long its socket has taken nothing of what waits; 0 when nothing does."""
    silent_s: float
    """Since anything was heard of it."""
    is_paused: bool
    """Nothing is read of it, because it does not read our answers or asks more than is done."""


class SessionOrders(Protocol):
    """What operators may do to live sessions. All synchronous, effective when they return; counts are sessions touched."""

    def disconnect(self, target: Target, *, reconnect: bool, reason: str) -> int:
        """Close matching sessions with 4503, or 4007 when they should reconnect."""

    def unsubscribe(self, target: Target, channel: ChannelName) -> int:
        """End matching sessions' subscription to a channel: queued frames of it are dropped, `unsubscribed` is told."""

    def revoke(self, target: Target, *, until_s: float | None) -> int:
        """Refuse matching user or token id from now on (`until_s` wall clock, None: 24 h) and close its sessions with 4401."""


class GatewayPort(SessionOrders, Protocol):
    """What operators may do to live sessions, and ask of them."""

    def identify(self, token: str) -> Identity | None:
        """Return whom a token speaks for, as `hello` would; None for one that is not accepted or is revoked."""

    def statistics(self) -> GatewayStatistics:
        """Return counts. Looks at every session."""

    def counters(self) -> dict[str, int]:
        """Return what is counted anyway, since the start; looks at no session."""

    def gauges(self) -> dict[str, int]:
        """Return how many connections and sessions there are; looks at none of them."""

    def sessions(self, channel: ChannelName | None = None) -> Iterator[SessionInfo]:
        """Sessions as they are now, or those in a channel, each told when it is asked for."""

    def channels_of(self, session: str) -> list[ChannelName] | None:
        """Channels that a session is subscribed to or watches; None: there is no such session."""
