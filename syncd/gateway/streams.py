"""The stream driver: a connection over any Trio stream, with a task that reads and a task that writes.

For TLS, platforms without epoll, in-memory tests and the simulator. The session is the same; what differs is that bytes always go
through the outbox, which the writer task empties.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import trio

from syncd.gateway.connection import Connection
from syncd.gateway.heads import Heads, Route
from syncd.gateway.hub import Hub
from syncd.model.outbox import Outbox

__all__ = ["ServeHttp", "StreamDriver"]

WRITE_BYTES = 16_384
"""Handed to the stream at once: one TLS record. Progress shows only between two of them, so a client has to take this much in
`slow_client_s`, or passes for one that takes nothing."""

ServeHttp = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
"""Serves one HTTP connection whose first bytes were read already; returns when it is over and closes the stream."""


class _StreamSender:
    """Stands in for a socket: takes nothing itself, wakes the writer."""

    def __init__(self) -> None:
        self.wake = trio.Event()
        self.may_read = trio.Event()
        self.may_read.set()
        self.scope: trio.CancelScope | None = None
        self.is_closed = False
        self.is_ending = False
        """What is queued is the last; the writer half-closes behind it, or drops the connection if `is_mutual`."""
        self.is_mutual = False

    def send(self, data: bytes, /) -> int:
        """Take nothing: everything goes through the outbox."""
        raise BlockingIOError

    def close(self) -> None:
        """End both tasks."""
        self.is_closed = True
        if self.scope is not None:
            self.scope.cancel("connection closed")


class StreamDriver:
    """Drives one connection over one stream. Implements `driver.Driver`."""

    def __init__(
        self,
        hub: Hub,
        heads: Heads,
        serve_http: ServeHttp | None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._hub = hub
        self._heads = heads
        self._serve_http = serve_http
        self._ssl = ssl_context
        self._sender = _StreamSender()
        self._is_busy = False
        """The writer has something to send."""

    # ---------------------------------------------------------------- driver.Driver

    def watch_room(self, connection: Connection) -> None:
        """Wake the writer; from now on the peer has a deadline to drain what waits."""
        if not self._is_busy:
            self._is_busy = True
            connection.drained_at = self._hub.now
            due = self._hub.now + self._hub.config.timing.slow_client_s
            self._hub.wheel.schedule(connection, due)
        self._sender.wake.set()

    def set_reading(self, connection: Connection, *, is_reading: bool) -> None:
        """Stop or go on to read."""
        if is_reading:
            self._sender.may_read.set()
        else:
            self._sender.may_read = trio.Event()

    def forget(self, connection: Connection) -> None:
        """The connection is closed."""
        self._heads.forget(connection)

    def end(self, connection: Connection, *, is_mutual: bool) -> None:
        """Leave it to the writer, which has the rest to send first."""
        self._sender.is_ending = True
        self._sender.is_mutual = is_mutual
        self._sender.wake.set()

    # ---------------------------------------------------------------- the tasks

    async def serve(self, stream: trio.abc.Stream, peer: str) -> None:
        """Serve one connection until it ends. What the peer does raises nothing here.

        Cancellation: the connection is dropped and the stream closed at once.
        """
        hub = self._hub
        hub.now = hub.clock()
        connection = hub.open(self._sender, -1, peer, self)
        connection.outbox = Outbox(hub.config.limits.outbox_bytes)
        connection.drained_at = hub.now
        http_head: bytes | None = None
        try:
            with trio.CancelScope() as self._sender.scope:
                refusal = self._heads.admit(connection)
                if self._ssl is not None:
                    stream = await _secure(stream, self._ssl)
                if refusal is None:
                    http_head = await self._read_head(stream, connection)
                else:
                    hub.refuse(connection, refusal)
                if http_head is None:
                    await self._run(stream, connection)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if http_head is None or self._serve_http is None:
                hub.drop(connection)
                hub.hand_over()
                await trio.aclose_forcefully(stream)
        if http_head is not None and self._serve_http is not None:
            self._heads.forget(connection)
            hub.release(connection)
            await self._serve_http(stream, http_head)

    async def _read_head(self, stream: trio.abc.Stream, connection: Connection) -> bytes | None:
        """Read the head. Returns the bytes for HTTP, or None when the connection is a WebSocket (or over)."""
        hub = self._hub
        while not connection.closed:
            data = await stream.receive_some(hub.config.limits.read_bytes_per_tick)
            if not data:
                hub.drop(connection)
                return None
            hub.now = hub.clock()
            routed = self._heads.feed(connection, bytes(data))
            if routed.route is Route.MORE:
                continue
            if routed.route is Route.HTTP:
                return routed.data
            if routed.route is Route.REFUSED:
                hub.refuse(connection, routed.response)
                return None
            hub.upgrade(connection, routed.response, routed.data)
            self._end_turn()
            return None
        return None

    async def _run(self, stream: trio.abc.Stream, connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, stream, connection)
            while not connection.closed:
                await self._sender.may_read.wait()
                data = await stream.receive_some(self._hub.config.limits.read_bytes_per_tick)
                self._hub.now = self._hub.clock()
                if not data:
                    self._hub.drop(connection)
                else:
                    self._hub.receive(connection, bytes(data))
                self._end_turn()
            nursery.cancel_scope.cancel("connection closed")

    async def _write(self, stream: trio.abc.Stream, connection: Connection) -> None:
        """Empty the outbox whenever it fills. A send that fails or is cancelled is the end of the connection."""
        outbox = connection.outbox
        assert outbox is not None
        while True:
            await self._sender.wake.wait()
            self._sender.wake = trio.Event()
            while outbox:
                chunk = outbox.seal(WRITE_BYTES)
                await stream.send_all(chunk)
                self._hub.now = self._hub.clock()
                self._hub.writer.sent(connection, outbox, len(chunk))
            self._is_busy = False
            self._hub.writer.drained(connection, outbox)
            self._end_turn()
            if self._sender.is_ending and not outbox:
                await self._end_stream(stream, connection)
                return

    async def _end_stream(self, stream: trio.abc.Stream, connection: Connection) -> None:
        if self._sender.is_mutual:
            self._hub.drop(connection)
            return
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        if isinstance(transport, trio.abc.HalfCloseableStream):
            await transport.send_eof()

    def _end_turn(self) -> None:
        self._hub.hand_over()
        self._hub.writer.flush()


async def _secure(stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.abc.Stream:
    """Do the TLS handshake; it counts as part of the request head's time."""
    secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
    await secured.do_handshake()
    return secured
