"""Request heads: who becomes a WebSocket, who goes to HTTP, who is refused.

Owner of: the readers of unfinished heads and the counts that admission rests on. Used by the poller and by stream drivers alike.
"""

from __future__ import annotations

import enum
import resource

import attrs

from syncd.config import Config
from syncd.gateway.connection import Connection
from syncd.gateway.hub import Hub
from syncd.model.proxy_networks import ProxyNetworks
from syncd.model.rate_limit import TokenBucket
from syncd.wire.handshake import (
    SUBPROTOCOL,
    Head,
    HeadReader,
    HeadRejected,
    HostPolicy,
    OriginPolicy,
    accept_upgrade,
    refuse_token_in_query,
    reject_bytes,
)

__all__ = ["Heads", "Route", "Routed"]

WS_PATH = "/ws"


class Route(enum.Enum):
    """Where a connection goes after its head."""

    MORE = "more"
    """The head is not whole yet."""
    WEBSOCKET = "websocket"
    HTTP = "http"
    REFUSED = "refused"


@attrs.define
class Routed:
    """What became of the bytes so far."""

    route: Route
    response: bytes = b""
    """The 101 answer, or a refusal."""
    data: bytes = b""
    """WEBSOCKET: bytes behind the head. HTTP: the head and what followed it."""


class Heads:
    """Reads heads within bounds and routes them."""

    def __init__(
        self,
        config: Config,
        hub: Hub,
        *,
        serves_http: bool,
        is_loopback: bool,
        subprotocol: str | None = SUBPROTOCOL,
        ws_path: str | None = WS_PATH,
    ) -> None:
        """Read heads for one listener's rules; `subprotocol` and `ws_path` None take any."""
        self._config = config
        self._hub = hub
        self._serves_http = serves_http
        self._subprotocol = subprotocol
        self._ws_path = ws_path
        self._hosts = HostPolicy(config.hosts, loopback_only=is_loopback)
        self._origins = OriginPolicy(config.origins)
        self._readers: dict[int, HeadReader] = {}
        self._max_connections = config.limits.connections or _four_fifths_of_descriptors()
        rate = config.limits.accept_per_s
        self._rate = TokenBucket(rate, max(rate, 1.0)) if rate else None
        self._by_address: dict[str, int] = {}
        self._proxies = ProxyNetworks(config.trusted_proxies)

    # ---------------------------------------------------------------- admission

    def admit(self, connection: Connection) -> bytes | None:
        """Return None to let a new connection in, or the refusal to send it."""
        hub, limits = self._hub, self._config.limits
        if len(hub.connections) > self._max_connections or hub.is_stopping:
            return _refusal("The node has no room for more connections.", 5)
        if self._rate is not None and not self._rate.take(1, hub.now):
            return _refusal("Too many new connections.", 1)
        if self._proxies.is_trusted(connection.peer):
            return None  # counted by its client's address, when the head tells
        if limits.connections_per_address and not self._count_address(connection):
            return _refusal("Too many connections from this address.", 10)
        return None

    def _count_address(self, connection: Connection) -> bool:
        """Count a connection for its address; False when that has as many as it may."""
        count = self._by_address.get(connection.peer, 0) + 1
        if count > self._config.limits.connections_per_address:
            return False
        self._by_address[connection.peer] = count
        connection.counts_address = True
        return True

    def _name_client(self, connection: Connection, head: Head) -> None:
        """Behind a proxy of ours, the client's address is the one that counts."""
        if not self._proxies.is_trusted(connection.peer):
            return
        hops = b",".join(head.get_all(b"x-forwarded-for")).decode("latin-1")
        connection.peer = self._proxies.client_address(connection.peer, hops)
        if self._config.limits.connections_per_address and not self._count_address(connection):
            raise HeadRejected(
                503, "Too many connections from this address.", ((b"Retry-After", b"10"),)
            )

    def forget(self, connection: Connection) -> None:
        """A connection is over: forget its half-read head and its address."""
        self._readers.pop(id(connection), None)
        if connection.counts_address:
            connection.counts_address = False
            left = self._by_address.get(connection.peer, 1) - 1
            if left > 0:
                self._by_address[connection.peer] = left
            else:
                self._by_address.pop(connection.peer, None)

    # ---------------------------------------------------------------- routing

    def feed(self, connection: Connection, data: bytes) -> Routed:
        """Take bytes of a head and say where the connection goes. Raises nothing."""
        reader = self._readers.pop(id(connection), None) or HeadReader(
            self._config.limits.head_bytes
        )
        try:
            head = reader.feed(data)
            if head is None:
                self._readers[id(connection)] = reader
                return Routed(Route.MORE)
            return self._route(connection, head, reader.rest)
        except HeadRejected as rejected:
            return Routed(Route.REFUSED, reject_bytes(rejected))

    def _route(self, connection: Connection, head: Head, rest: bytes) -> Routed:
        self._name_client(connection, head)
        self._hosts.check(head)
        if self._ws_path in (None, head.path):
            self._origins.check(head)
            refuse_token_in_query(head)
            response = accept_upgrade(head, self._subprotocol)
            return Routed(Route.WEBSOCKET, response, rest)
        if head.is_upgrade or head.get(b"upgrade") is not None:
            raise HeadRejected(404, f"WebSocket connections go to {WS_PATH}.")
        if not self._serves_http:
            raise HeadRejected(404, "This address serves WebSocket only; HTTP has its own.")
        return Routed(Route.HTTP, data=head.raw + rest)


def _refusal(reason: str, after_s: int) -> bytes:
    return reject_bytes(HeadRejected(503, reason, ((b"Retry-After", str(after_s).encode()),)))


def _four_fifths_of_descriptors() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft * 4 // 5, 16)
