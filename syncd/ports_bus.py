"""What the bridge may ask of the bus that joins nodes, and what the bus tells it; nothing here does anything.

A bus is a hint, never the source of truth (DESIGN 5.14): it may lose messages, and says so. Its invariant: for a topic that is
wanted and subscribed, whatever was published and not delivered through `BusEvents.on_messages` is followed by an `on_gap` that
names the topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

__all__ = ["BusEvents", "BusPort", "BusStatistics", "LinkStatistics"]


class BusEvents(Protocol):
    """Whom the bus tells. Called on the Trio thread, between two ticks of nothing else; must not wait and must not raise.

    Each may call `publish`, `want` and `unwant` of the bus.
    """

    def on_messages(self, batch: list[tuple[bytes, bytes]]) -> None:
        """Take (topic, payload) of everything one read brought, each topic's in the order of publication, none twice.

        The node's own publications are among them, and for a moment those of topics that were unwanted lately. The list is the
        receiver's.
        """

    def on_gap(self, topics: Sequence[bytes]) -> None:
        """These topics, all wanted, may have lost messages up to now, and are subscribed: read what they missed where it is kept.

        Called once for each topic after `want`, after each (re)connect, cut and overflow. Whoever reads the log from now on
        misses nothing: what is published later comes through `on_messages`.
        """

    def on_link(self, *, is_up: bool) -> None:
        """The bus can publish and hear (True), or some of it cannot (False). Told at changes only; a bus starts down."""


class BusPort(Protocol):
    """The bus that joins the nodes of a cluster. Every call returns at once.

    A topic is the name of a Redis channel, whole; never a syncd channel's bare name.
    """

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """Queue a message; all of a tick go out in one write, each topic's in order.

        Returns:
            False when it was dropped and counted: the queue is full (policy: DROP), or the link that serves the topic is down.
            True is no promise: a link that breaks loses what was under way.
        """

    def want(self, topics: Iterable[bytes]) -> None:
        """Subscribe, all of a tick in one command; each topic not wanted before gets its `on_gap` when it is subscribed."""

    def unwant(self, topics: Iterable[bytes]) -> None:
        """Unsubscribe, all of a tick in one command."""

    def statistics(self) -> BusStatistics:
        """Counts since the start, and how the links are now."""


@attrs.frozen
class LinkStatistics:
    """One connection to Redis."""

    role: str
    """`subscribe` or `publish`."""
    address: str
    is_up: bool
    round_trip_s: float | None
    """Of the last PING that was answered, what waited before it included: how far this link is behind. None: not asked yet."""
    last_error: str
    """Why it was lost the last time; empty for never."""


@attrs.frozen
class BusStatistics:
    """Counts since the start, and how things are now."""

    is_up: bool
    links: tuple[LinkStatistics, ...]
    num_topics: int
    """Wanted."""
    num_subscribed: int
    """Of these, subscribed now."""
    queue_messages: int
    """Accepted and not yet written."""
    queue_bytes: int
    num_outstanding: int
    """Written and not yet answered."""
    num_published: int
    """Answered by Redis."""
    num_received: int
    num_dropped: int
    """Publications refused at once: the queue was full or the link down."""
    num_unconfirmed: int
    """Publications under way when a link broke: they may have arrived or not."""
    num_refused: int
    """Publications that Redis answered with an error."""
    num_gaps: int
    """Topics told by `on_gap`."""
    num_reconnects: int
    """Links lost."""
