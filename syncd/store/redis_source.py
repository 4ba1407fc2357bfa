"""Where connections to Redis come from: one server, the master that Sentinels name, or the master of our slot in a cluster."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError
from redis.sentinel import Sentinel

from syncd.errors import ConfigError

__all__ = ["Connection", "Source", "open_source"]


class Connection(Protocol):
    """What of a connection of redis-py is used."""

    def connect(self) -> None: ...
    def send_command(self, *words: bytes | str | int) -> None: ...
    def read_response(self) -> Any: ...
    def can_read(self, timeout: float = 0) -> bool: ...
    def disconnect(self) -> None: ...


class Source(Protocol):
    """Makes connections, one at a time."""

    is_cluster: bool

    def connect(self) -> Connection:
        """Return a connection, made now.

        Raises:
            RedisError, OSError: nobody is there, or nobody lets us in.
        """

    def release(self, connection: Connection) -> None:
        """Close a connection. Never raises."""

    def look_again(self) -> None:
        """Find out anew, with the next connection, who has the data. Never raises."""

    def close(self) -> None:
        """Never raises."""


class PoolSource:
    """One address, or the master behind Sentinels: redis-py's pool asks them with each connection."""

    is_cluster = False

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def connect(self) -> Connection:
        """See `Source.connect`."""
        connection: Connection = self._pool.make_connection()
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """See `Source.release`."""
        with contextlib.suppress(RedisError, OSError):
            connection.disconnect()

    def look_again(self) -> None:
        """See `Source.look_again`."""

    def close(self) -> None:
        """See `Source.close`."""
        with contextlib.suppress(RedisError, OSError):
            self._pool.disconnect()


class ClusterSource:
    """The master of the slot that one key is in."""

    is_cluster = True

    def __init__(self, url: str, options: dict[str, Any], key: str) -> None:
        self._url, self._options, self._key = url, options, key
        # redis-py has no types for much of this.
        self._cluster: Any = None

    def connect(self) -> Connection:
        """See `Source.connect`."""
        if self._cluster is None:
            self._cluster = RedisCluster.from_url(self._url, **self._options)
        node = self._cluster.get_node_from_key(self._key)
        if node is None:
            raise RedisError("no node has our slot")
        pool = self._cluster.get_redis_connection(node).connection_pool
        return PoolSource(pool).connect()

    def release(self, connection: Connection) -> None:
        """See `Source.release`."""
        with contextlib.suppress(RedisError, OSError):
            connection.disconnect()

    def look_again(self) -> None:
        """See `Source.look_again`."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with contextlib.suppress(RedisError, OSError):
                cluster.close()

    def close(self) -> None:
        """See `Source.close`."""
        self.look_again()


def open_source(url: str, options: dict[str, Any], key: str = "") -> Source:
    """Read a URL; nothing is connected yet.

    Args:
        url: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path`, `redis+sentinel://host:port,host:port/service/db`
            or `redis+cluster://host:port`. Options of redis-py may follow behind `?`.
        options: Of every connection.
        key: Where in a cluster.

    Raises:
        ConfigError: it cannot be used.
    """
    scheme, _, rest = url.partition("://")
    try:
        if scheme in ("redis", "rediss", "unix"):
            return PoolSource(redis.ConnectionPool.from_url(url, **options))
        if scheme in ("redis+cluster", "rediss+cluster"):
            return ClusterSource(f"{scheme.partition('+')[0]}://{rest}", options, key)
        if scheme in ("redis+sentinel", "rediss+sentinel"):
            return _sentinel(url, options)
    except (ValueError, RedisError) as error:
        raise ConfigError(f"redis.url cannot be used: {error}") from error
    raise ConfigError(
        f"redis.url begins with {scheme}://; known are redis, rediss, unix, redis+sentinel and redis+cluster."
    )


def _sentinel(url: str, options: dict[str, Any]) -> Source:
    parts = urlsplit(url)
    who, _, places = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("redis+sentinel:// needs the name of the service: .../mymaster")
    hosts = []
    for place in places.split(","):
        host, _, port = place.rpartition(":")
        hosts.append((host.strip("[]"), int(port)) if host else (port, 26379))
    login: dict[str, Any] = {"db": int(db or 0)}
    if who:
        user, _, password = who.partition(":")
        login |= {"username": unquote(user) or None, "password": unquote(password)}
    if parts.scheme.startswith("rediss"):
        login["ssl"] = True
    make: Any = Sentinel
    sentinel = make(hosts, sentinel_kwargs=dict(options), **options, **login)
    return PoolSource(sentinel.master_for(service).connection_pool)
