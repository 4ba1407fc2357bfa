"""The parts of a node that shares its store with others: Redis for the store, and the bridge over its pub/sub.

Imported only by nodes that are told of a Redis, since the client library is an extra.
"""

from __future__ import annotations

import attrs

from syncd.actors.bridge import Bridge
from syncd.actors.bridge.actor import Bus
from syncd.actors.bridge.line import ClusterLine
from syncd.actors.store import StoreActor
from syncd.bus.redis_bus import RedisBus
from syncd.config import Config, HistoryKind
from syncd.model.definitions import AppDefinition
from syncd.ports_bus import BusEvents
from syncd.redis_address import parse_redis_url
from syncd.store.base import Store, StoreOptions
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_store import RedisStore
from syncd.surroundings import Surroundings

__all__ = ["make_bridge", "open_redis", "with_shared_history"]


def with_shared_history(config: Config, app: AppDefinition) -> tuple[Config, AppDefinition]:
    """Return both as they are in force where nodes share a store: what lived in one node's memory lives in Redis.

    A channel with its history in memory is logged like a durable one, as durable as Redis is; so are volatile collections. In the memory of
    one node neither would be the same for clients of another.
    """
    namespaces = {
        name: attrs.evolve(each, history=HistoryKind.DURABLE)
        if each.history is HistoryKind.MEMORY
        else each
        for name, each in config.namespaces.items()
    }
    collections = {
        name: attrs.evolve(each, is_volatile=False) for name, each in app.collections.items()
    }
    return (
        attrs.evolve(config, namespaces=namespaces),
        attrs.evolve(app, collections=collections),
    )


def open_redis(config: Config, options: StoreOptions, node: str) -> RedisStore:
    """Open the store on Redis.

    Raises:
        StoreUnreachable: nobody answers.
        ConfigError: the URL cannot be used, or the server does not let us in or is not set to keep what it is given.
    """
    assert config.redis is not None, "asked of nodes with a Redis only"
    store = RedisStore(config.redis, options, names=RedisNames(config.redis_prefix), node=node)
    store.open()
    return store


def make_bridge(
    config: Config, line: ClusterLine, actor: StoreActor, store: Store, surroundings: Surroundings
) -> Bridge:
    """Make the way to the other nodes; it starts nothing yet.

    Args:
        line: Hears the topic of nodes before the bridge hears the rest.

    Raises:
        ConfigError: the URL cannot be used.
    """
    assert config.redis is not None, "asked of nodes with a Redis only"
    address = parse_redis_url(config.redis)

    def make_bus(events: BusEvents) -> Bus:
        heard_by = line.tap(events)
        bus = RedisBus(
            address, heard_by, name=f"syncd:{line.room.node}", chance=surroundings.jitter
        )
        line.use(bus)
        return bus

    names = RedisNames(config.redis_prefix)
    assert isinstance(store, RedisStore), "opened by `open_redis`"
    return Bridge(
        node=line.room.node,
        names=names,
        make_bus=make_bus,
        store=actor,
        is_unsure=store.is_unsure,
        chance=surroundings.jitter,
    )
