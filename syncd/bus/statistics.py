"""Counts of all links of a bus, added up when asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from syncd.bus.link import Link
from syncd.bus.publications import Publications
from syncd.bus.subscriptions import Subscriptions
from syncd.ports_bus import BusStatistics

__all__ = ["ZERO", "Counted", "bus_statistics"]


class Counted(Protocol):
    """One master's links and states."""

    @property
    def subscriptions(self) -> Subscriptions: ...

    @property
    def publications(self) -> Publications: ...

    @property
    def subscriber(self) -> Link: ...

    @property
    def publisher(self) -> Link: ...


ZERO = BusStatistics(
    is_up=False,
    links=(),
    num_topics=0,
    num_subscribed=0,
    queue_messages=0,
    queue_bytes=0,
    num_outstanding=0,
    num_published=0,
    num_received=0,
    num_dropped=0,
    num_unconfirmed=0,
    num_refused=0,
    num_gaps=0,
    num_reconnects=0,
)


def bus_statistics(past: BusStatistics, shards: Iterable[Counted]) -> BusStatistics:
    """Return what `past` says of the bus, with the counts of these masters added."""
    masters = list(shards)
    writers = [each.publications for each in masters]
    readers = [each.subscriptions for each in masters]
    links = [link for each in masters for link in (each.subscriber, each.publisher)]
    return BusStatistics(
        is_up=past.is_up,
        links=tuple(link.statistics() for link in links),
        num_topics=past.num_topics,
        num_subscribed=sum(each.num_subscribed for each in readers),
        queue_messages=sum(each.num_queued for each in writers),
        queue_bytes=sum(each.queue_bytes for each in writers),
        num_outstanding=sum(each.num_outstanding for each in writers),
        num_published=past.num_published + sum(each.num_published for each in writers),
        num_received=past.num_received + sum(each.num_received for each in readers),
        num_dropped=past.num_dropped + sum(each.num_dropped for each in writers),
        num_unconfirmed=past.num_unconfirmed + sum(each.num_unconfirmed for each in writers),
        num_refused=past.num_refused + sum(each.num_refused for each in writers),
        num_gaps=past.num_gaps + sum(each.num_gaps for each in readers),
        num_reconnects=past.num_reconnects + sum(link.num_lost for link in links),
    )
