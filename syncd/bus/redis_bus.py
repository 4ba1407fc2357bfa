"""The bus over Redis pub/sub: two links to each master, and who of them serves which topic.

Owner of: the wanted topics, the links and the topology. The bridge calls it and is told (`ports_bus`). With a cluster topics are spread
over its masters by slot, with sharded pub/sub; else one master serves all. A topic that moves to another master is unwanted at the one and
wanted at the other, so that it gets its gap like any other new subscription.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterable

import attrs
import structlog
import trio

from syncd.bus.backoff import Backoff
from syncd.bus.commands import SHARDED, WHOLE, Verbs
from syncd.bus.link import Dialer, Link
from syncd.bus.publications import Publications
from syncd.bus.settings import BusSettings
from syncd.bus.statistics import ZERO, bus_statistics
from syncd.bus.subscriptions import Subscriptions
from syncd.bus.topology import NotDiscovered, discover, known, slot_of_topic
from syncd.ports_bus import BusEvents, BusStatistics
from syncd.redis_address import Endpoint, RedisAddress, RedisKind

__all__ = ["RedisBus"]

_log = structlog.get_logger("syncd.bus")
_CHANCE = random.SystemRandom().random


@attrs.define(eq=False)
class Shard:
    """One master: its two links and what they decide by."""

    endpoint: Endpoint
    subscriptions: Subscriptions
    publications: Publications
    subscriber: Link
    publisher: Link
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def is_up(self) -> bool:
        """Whether it can be published to and heard."""
        return self.subscriber.is_up and self.publisher.is_up


class RedisBus:
    """`BusPort` over Redis, and the tasks behind it: two for each link, one that finds the masters.

    Args:
        address: Of Redis.
        events: Whom to tell.
        name: Told to Redis as the name of the connections.
        settings: Times and bounds.
        is_sharded: Whether topics are published with SPUBLISH; None: on a cluster.
        chance: Between 0 and 1.

    Raises:
        ConfigError: TLS files cannot be used.
    """

    def __init__(
        self,
        address: RedisAddress,
        events: BusEvents,
        *,
        name: str = "syncd",
        settings: BusSettings | None = None,
        is_sharded: bool | None = None,
        chance: Callable[[], float] = _CHANCE,
    ) -> None:
        self._address, self._events, self._chance = address, events, chance
        self._settings = settings or BusSettings()
        self._is_cluster = address.kind is RedisKind.CLUSTER
        is_sharded = self._is_cluster if is_sharded is None else is_sharded
        self._verbs: Verbs = SHARDED if is_sharded else WHOLE
        self._dialer = Dialer(
            name, self._settings, address.username, address.password, address.ssl_context()
        )
        self._topology = known(address)
        self._shards: dict[Endpoint, Shard] = {}
        self._wanted: dict[bytes, Shard | None] = {}
        """Who serves each wanted topic; None: nobody now."""
        self._discovery_wanted = trio.Event()
        self._is_up = False
        self._num_dropped = 0
        self._past = ZERO
        """Counts of shards that are gone."""

    # ---------------------------------------------------------------- BusPort

    def publish(self, topic: bytes, payload: bytes) -> bool:
        """See `BusPort.publish`."""
        shard = self._shard_of(topic)
        if shard is None:
            self._num_dropped += 1
            return False
        if not shard.publications.publish(topic, payload):
            return False
        shard.publisher.wake()
        return True

    def want(self, topics: Iterable[bytes]) -> None:
        """See `BusPort.want`."""
        for topic in topics:
            if topic not in self._wanted:
                shard = self._wanted[topic] = self._shard_of(topic)
                if shard is not None:
                    shard.subscriptions.want((topic,))
                    shard.subscriber.wake()

    def unwant(self, topics: Iterable[bytes]) -> None:
        """See `BusPort.unwant`."""
        for topic in topics:
            shard = self._wanted.pop(topic, None)
            if shard is not None:
                shard.subscriptions.unwant((topic,))
                shard.subscriber.wake()

    def statistics(self) -> BusStatistics:
        """See `BusPort.statistics`."""
        own = attrs.evolve(self._past, is_up=self._is_up, num_topics=len(self._wanted))
        own = attrs.evolve(own, num_dropped=own.num_dropped + self._num_dropped)
        return bus_statistics(own, self._shards.values())

    # ---------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the links until cancelled; started at once, whether Redis answers or not.

        May be run again after it ended: what is wanted stays wanted.

        Cancellation: the links are closed and `on_link` tells it.
        """
        backoff = Backoff(self._settings.backoff_min_s, self._settings.backoff_max_s, self._chance)
        try:
            async with trio.open_nursery() as nursery:
                self._settle(nursery)
                task_status.started()
                while self._address.kind is not RedisKind.SINGLE:
                    await self._discover(backoff)
                    self._settle(nursery)
                    await trio.sleep(backoff.next_s())
                    with trio.move_on_after(self._settings.discovery_s):
                        await self._discovery_wanted.wait()
                        continue
                    backoff.reset()
                await trio.sleep_forever()
        finally:
            for shard in list(self._shards.values()):
                self._retire(shard)
            self._tell_link()

    async def _discover(self, backoff: Backoff) -> None:
        """Ask where the masters are, until somebody knows."""
        ask = functools.partial(discover, self._address)
        while True:
            self._discovery_wanted = trio.Event()
            try:
                self._topology = await trio.to_thread.run_sync(
                    ask, tuple(self._shards), abandon_on_cancel=True
                )
            except NotDiscovered as failure:
                _log.warning("bus_not_discovered", address=str(self._address), reason=str(failure))
                await trio.sleep(backoff.next_s())
            else:
                return

    def _settle(self, nursery: trio.Nursery) -> None:
        """Make links and topics be as the topology says."""
        if self._topology is None:
            return
        endpoints = self._topology.endpoints
        for endpoint in endpoints:
            if endpoint not in self._shards:
                shard = self._shards[endpoint] = self._make_shard(endpoint)
                nursery.start_soon(self._run_shard, shard)
        for shard in list(self._shards.values()):
            if shard.endpoint not in endpoints:
                self._retire(shard)
        for topic, old in self._wanted.items():
            new = self._shard_of(topic)
            if new is old:
                continue
            if old is not None:
                old.subscriptions.unwant((topic,))
                old.subscriber.wake()
            if new is not None:
                new.subscriptions.want((topic,))
                new.subscriber.wake()
            self._wanted[topic] = new
        self._tell_link()

    async def _run_shard(self, shard: Shard) -> None:
        with shard.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shard.subscriber.run)
                nursery.start_soon(shard.publisher.run)

    def _make_shard(self, endpoint: Endpoint) -> Shard:
        _log.info("bus_master", address=str(endpoint))
        slot_of = slot_of_topic if self._is_cluster else None
        subscriptions = Subscriptions(
            self._verbs, self._events.on_messages, self._events.on_gap, slot_of
        )
        publications = Publications(
            self._verbs,
            queue_bytes=self._settings.queue_bytes,
            max_outstanding=self._settings.max_outstanding,
        )
        make = functools.partial(Link, chance=self._chance, on_change=self._note_change)
        return Shard(
            endpoint,
            subscriptions,
            publications,
            make("subscribe", endpoint, subscriptions, self._dialer),
            make("publish", endpoint, publications, self._dialer),
        )

    def _retire(self, shard: Shard) -> None:
        """Let a master go; its topics are nobody's until they are settled again."""
        del self._shards[shard.endpoint]
        shard.scope.cancel("another master serves its topics")
        topics = shard.subscriptions.wanted
        shard.subscriptions.unwant(topics)
        self._wanted.update(dict.fromkeys(topics))
        shard.publications.close()
        self._past = bus_statistics(attrs.evolve(self._past, links=()), (shard,))
        self._past = attrs.evolve(self._past, links=(), num_subscribed=0)

    # ---------------------------------------------------------------- routing

    def _shard_of(self, topic: bytes) -> Shard | None:
        if self._topology is None:
            return None
        endpoint = self._topology.endpoint_of(topic)
        return None if endpoint is None else self._shards.get(endpoint)

    def _note_change(self, link: Link) -> None:
        shard = self._shards.get(link.endpoint)
        if shard is None or link not in (shard.subscriber, shard.publisher):
            return  # of a master that was let go
        if not link.is_up:
            self._discovery_wanted.set()
        self._tell_link()

    def _tell_link(self) -> None:
        is_up = bool(self._shards) and all(shard.is_up for shard in self._shards.values())
        if is_up is not self._is_up:
            self._is_up = is_up
            self._events.on_link(is_up=is_up)
