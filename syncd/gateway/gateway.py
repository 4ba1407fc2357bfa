"""The gateway, put together: listeners, drivers, the feeder and the coarse timer.

Started last and stopped first: it is where work comes in. `run` serves until cancelled; `drain` says good-bye before.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import structlog
import trio

from syncd.codes import CloseCode
from syncd.config import Address, Config
from syncd.errors import ActorStopped, ConfigError
from syncd.gateway.authorizer import AuthorizerCalls
from syncd.gateway.connection import Connection
from syncd.gateway.heads import Heads, Route
from syncd.gateway.hub import Hub
from syncd.gateway.lanes import Lane, ParkedBatch, refuse_all
from syncd.gateway.poller import Poller, tune_listener
from syncd.gateway.sessions import Sessions
from syncd.gateway.streams import ServeHttp, StreamDriver
from syncd.wire.session import Phase

__all__ = ["Gateway", "bind"]

_log = structlog.get_logger("syncd.gateway")

BACKLOG = 4096


class Gateway:
    """Listens, accepts, drives. Plain sockets go to the poller where there is epoll, everything else to stream drivers."""

    def __init__(
        self,
        config: Config,
        hub: Hub,
        sessions: Sessions,
        heads: Heads,
        *,
        serve_http: ServeHttp | None,
        ssl_context: ssl.SSLContext | None = None,
        authorizer: AuthorizerCalls | None = None,
    ) -> None:
        self._authorizer = authorizer
        self._config = config
        self._hub = hub
        self._sessions = sessions
        self._heads = heads
        self._serve_http = serve_http
        self._ssl = ssl_context
        self._nursery: trio.Nursery | None = None
        self._is_parked = {id(lane): trio.Event() for lane in hub.lanes}
        self._is_late = trio.Event()
        hub.on_parked = lambda lane: self._is_parked[id(lane)].set()
        hub.on_late = self._finish_soon
        uses_epoll = config.driver != "stream" and ssl_context is None and hasattr(select, "epoll")
        if config.driver == "epoll" and not uses_epoll:
            raise ConfigError("driver = epoll needs Linux and no TLS; use driver = auto.")
        self._poller = Poller(hub, self) if uses_epoll else None

    async def run(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve connections of these listening sockets until cancelled; then all are closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._tick)
            nursery.start_soon(self._finish)
            for lane in self._hub.lanes:
                nursery.start_soon(self._feed, lane)
            if self._authorizer is not None:
                nursery.start_soon(self._authorizer.run)
            for sock in listeners:
                tune_listener(sock, self._config.limits.send_buffer_bytes)
            if self._poller is not None:
                for sock in listeners:
                    self._poller.listen(sock)
                await nursery.start(self._poller.run)
            else:
                for sock in listeners:
                    nursery.start_soon(self._accept_streams, sock)
            task_status.started()

    # ---------------------------------------------------------------- poller.HeadHandler

    def admit(self, connection: Connection) -> bool:
        """Let a new connection in, or refuse it at once."""
        refusal = self._heads.admit(connection)
        if refusal is None:
            return True
        self._hub.refuse(connection, refusal)
        return False

    def receive_head(self, connection: Connection, data: bytes) -> None:
        """Take bytes of a request head."""
        routed = self._heads.feed(connection, data)
        if routed.route is Route.WEBSOCKET:
            self._hub.upgrade(connection, routed.response, routed.data)
        elif routed.route is Route.HTTP:
            self._to_http(connection, routed.data)
        elif routed.route is Route.REFUSED:
            self._hub.refuse(connection, routed.response)

    def forget(self, connection: Connection) -> None:
        """A connection of the poller is over."""
        self._heads.forget(connection)

    def _to_http(self, connection: Connection, head: bytes) -> None:
        assert self._poller is not None
        assert self._nursery is not None
        sock = self._poller.detach(connection)
        self._heads.forget(connection)
        self._hub.release(connection)
        if sock is None or self._serve_http is None:
            return
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._nursery.start_soon(self._serve_http, stream, head)

    # ---------------------------------------------------------------- streams

    async def _accept_streams(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self.serve_stream, [listener], handler_nursery=nursery)

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection over a Trio stream, TLS included if configured. Raises nothing a peer could cause."""
        driver = StreamDriver(self._hub, self._heads, self._serve_http, self._ssl)
        await driver.serve(stream, _peer_of(stream))

    # ---------------------------------------------------------------- timer and feeder

    async def _tick(self) -> None:
        """The one coarse timer of all connections."""
        hub, tick_s = self._hub, self._config.timing.tick_s
        while True:
            await trio.sleep(tick_s)
            hub.now = hub.clock()
            for connection in hub.wheel.advance(hub.now):
                self._on_due(connection)
            if self._poller is not None:
                self._poller.on_tick(hub.now)
            hub.hand_over()
            hub.writer.flush()

    def _on_due(self, connection: Connection) -> None:
        hub = self._hub
        if connection.phase is Phase.OPEN:
            self._sessions.on_due(connection)
        elif hub.now < connection.hello_deadline:
            hub.wheel.schedule(connection, connection.hello_deadline)
        elif connection.phase is Phase.OPENING:
            hub.close(connection, CloseCode.HELLO_TIMEOUT, "no hello in time")
        else:
            hub.drop(connection)

    def _finish_soon(self) -> None:
        self._is_late.set()

    async def _finish(self) -> None:
        """End a round for what came from elsewhere than a driver: answers of actors and of the authorizer, once for all of a turn."""
        hub = self._hub
        while True:
            await self._is_late.wait()
            self._is_late = trio.Event()
            hub.now = hub.clock()
            hub.hand_over()
            hub.writer.flush()

    async def _feed(self, lane: Lane) -> None:
        """Hand over a lane's parked batches when its actor has room, then read their sessions again."""
        hub, key = self._hub, id(lane)
        while True:
            await self._is_parked[key].wait()
            self._is_parked[key] = trio.Event()
            while lane.parked:
                batch = lane.parked[0]
                try:
                    await self._submit(lane, batch)
                except ActorStopped as error:
                    refuse_all(batch.commands, error)
                lane.parked.pop(0)
                for connection in batch.connections:
                    hub.resume_unless_parked(connection)

    async def _submit(self, lane: Lane, batch: ParkedBatch) -> None:
        await lane.handle.submit(batch.commands, batch.size_bytes)

    # ---------------------------------------------------------------- stopping

    def stop_accepting(self) -> None:
        """Take no new connections."""
        self._hub.is_stopping = True
        if self._poller is not None:
            self._poller.stop_listening()

    async def drain(self, timeout_s: float) -> None:
        """Tell every session to come back later, each with its own slot, and wait until they are gone or time is up."""
        hub = self._hub
        hub.now = hub.clock()
        for connection in list(hub.connections):
            slot_ms = int(hub.jitter() * timeout_s * 1000 / 2)
            hub.close(connection, CloseCode.GOING_AWAY, "the node is stopping", after_ms=slot_ms)
        hub.hand_over()
        hub.writer.flush()
        with trio.move_on_after(timeout_s):
            while hub.connections:  # noqa: ASYNC110 - a coarse look is enough, once in a node's life
                await trio.sleep(self._config.timing.tick_s / 5)


def bind(address: Address, *, is_shared: bool = False) -> list[socket.socket]:
    """Open listening sockets for an address; a shared one is open to other processes of the same user that say so, too.

    Raises:
        ConfigError: the address is taken or not ours; the message says which.
    """
    try:
        if address.path is not None:
            return [_bind_unix(address.path)]
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with contextlib.ExitStack() as opened:
            bound = [
                opened.enter_context(_bind_tcp(family, name, is_shared=is_shared))
                for family, _, _, _, name in dict.fromkeys(found)
            ]
            opened.pop_all()
            return bound
    except OSError as error:
        where = address.path or f"{address.host}:{address.port}"
        raise ConfigError(f"Cannot listen on {where}: {error.strerror or error}.") from error


def _bind_tcp(family: int, name: object, *, is_shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return _listening(sock, name)


def _bind_unix(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if Path(path).is_socket():
            Path(path).unlink()
    return _listening(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)


def _listening(sock: socket.socket, name: object) -> socket.socket:
    try:
        sock.bind(name)  # type: ignore[arg-type]
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _peer_of(stream: trio.abc.Stream) -> str:
    if isinstance(stream, trio.SocketStream):
        with contextlib.suppress(OSError):
            name = stream.socket.getpeername()
            return name[0] if isinstance(name, tuple) else "unix"
    return "memory"
