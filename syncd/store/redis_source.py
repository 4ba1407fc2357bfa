"""Where the store's connection to Redis comes from: one server, the master that Sentinels name, or the master of our slot in a cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from syncd.redis_address import Endpoint, RedisAddress, RedisKind, master_of

__all__ = ["Connection", "Source"]

ASK_AGAIN_S = 10.0
"""How often Sentinels are asked unprompted, as often as by the bus: a master that was replaced behind a partition tells nobody."""

ASK_TIMEOUT_S = 0.5
"""For each Sentinel that is asked so: commits wait meanwhile."""


class Connection(Protocol):
    """What of a connection of redis-py is used."""

    def connect(self) -> None: ...
    def send_command(self, *words: bytes | str | int) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def disconnect(self) -> None: ...


class Source:
    """Makes connections, one at a time, each to whoever has the data at that moment."""

    def __init__(
        self,
        address: RedisAddress,
        limits: dict[str, Any],
        key: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect to nothing yet.

        Args:
            address: Where to look.
            limits: Timeouts and other options of redis-py, of every connection, those to Sentinels included.
            key: Whose slot counts in a cluster.
            clock: Of `ASK_AGAIN_S`.
        """
        self._address = address
        self._limits = limits
        self._key = key
        self._clock = clock
        self._named: Endpoint | None = None
        self._asked_at = 0.0
        # redis-py has no types for much of this.
        self._cluster: Any = None

    @property
    def is_cluster(self) -> bool:
        """Whether slots are spread over masters."""
        return self._address.kind is RedisKind.CLUSTER

    def connect(self) -> Connection:
        """Return a connection, made now.

        Raises:
            RedisError, OSError: nobody is there, or nobody lets us in.
        """
        connection: Connection = self._pool().make_connection()
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def _pool(self) -> Any:
        address = self._address
        if address.kind is RedisKind.CLUSTER:
            return self._pool_of_slot()
        if address.kind is RedisKind.SENTINEL:
            return self._pool_of(self._master())
        return self._pool_of(address.seeds[0])

    def _pool_of(self, endpoint: Endpoint) -> Any:
        options = {**self._address.options, **self._limits}
        if endpoint.path is not None:
            return redis.Redis(unix_socket_path=endpoint.path, **options).connection_pool
        return redis.Redis(host=endpoint.host, port=endpoint.port, **options).connection_pool

    def _master(self) -> Endpoint:
        """Ask the Sentinels, with each connection: what they said before may be over."""
        self._named = master_of(self._address, self._limits)
        self._asked_at = self._clock()
        return self._named

    def has_moved(self) -> bool:
        """Whether Sentinels name another master now than with the last connection; asked now and then. Blocks. Never raises.

        When none of them knows a master that is up, the one there is stays.
        """
        if self._named is None or self._clock() - self._asked_at < ASK_AGAIN_S:
            return False
        limits = dict(self._limits)
        for name in ("socket_timeout", "socket_connect_timeout"):
            limits[name] = min(limits[name], ASK_TIMEOUT_S)
        try:
            return master_of(self._address, limits) != self._named
        except (RedisError, OSError):
            return False
        finally:
            self._asked_at = (
                self._clock()
            )  # from the end: Sentinels that hang must not hold up everything

    def _pool_of_slot(self) -> Any:
        try:
            return self._pool_in_cluster()
        except RedisClusterException as error:  # to redis-py no RedisError
            raise RedisError(str(error)) from error

    def _pool_in_cluster(self) -> Any:
        if self._cluster is None:
            place: Any = ClusterNode
            make: Any = RedisCluster
            nodes = [place(each.host, each.port) for each in self._address.seeds]
            self._cluster = make(startup_nodes=nodes, **self._address.options, **self._limits)
        node = self._cluster.get_node_from_key(self._key)
        if node is None:
            raise RedisError("no node of the cluster has our slot")
        return self._cluster.get_redis_connection(node).connection_pool

    def release(self, connection: Connection) -> None:
        """Close a connection. Never raises."""
        with contextlib.suppress(RedisError, OSError):
            connection.disconnect()

    def look_again(self) -> None:
        """Find out anew, with the next connection, who has the data. Never raises."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with contextlib.suppress(RedisError, OSError):
                cluster.close()
