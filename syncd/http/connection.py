"""One HTTP/1.1 connection, from its first byte to its close.

Hypercorn's `H11Protocol` speaks HTTP; its `TCPServer` is not used, because one packet can crash it and its writes are shielded
without a deadline. Here whatever goes wrong ends this connection alone, and one cancel scope with a moving deadline stands
over all of it, so no peer can hold it open by being slow.

The deadline: `head_s` for the first head, `IDLE_S` for a later one, then twice `request_s` for a whole request (its body and its
answer have `request_s` each inside the application).
"""

from __future__ import annotations

import ssl as tls
from typing import Any

import attrs
import h11
import structlog
import trio
from hypercorn.config import Config as HyperConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

__all__ = ["HttpConnection", "HyperLog", "Patience"]

READ_BYTES = 65_536

IDLE_S = 5.0
"""A kept connection waits this long for its next request; proxies and clients pool for longer and reconnect."""

LINGER_S = 1.0
LINGER_BYTES = 4_194_304
"""After an answer that came before the end of the body, this much of it is read and dropped: closing at once would reset the
connection and destroy the answer on its way."""

MAX_TARGET_BYTES = 8192
MAX_HEADERS = 128

_log = structlog.get_logger("syncd.http")

_UPGRADE_HEADERS = frozenset({b"upgrade", b"http2-settings"})


@attrs.frozen
class Patience:
    """How long a peer may take, in seconds."""

    head_s: float
    request_s: float
    idle_s: float = IDLE_S
    linger_s: float = LINGER_S


class HyperLog:
    """What Hypercorn logs, as events of ours; what the application raised ends up here."""

    def __init__(self, config: HyperConfig) -> None:
        pass

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """No access log."""

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.error("http_application_failed", exc_info=True)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        _log.warning("http_warning", text=message)


class PlainProtocol(H11Protocol):
    """Hypercorn's HTTP/1.1 that never becomes anything else: upgrades are ignored, as RFC 9110 7.8 allows."""

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _create_stream(self, request: h11.Request) -> None:
        status = _refusal(request, self.config.h11_max_incomplete_size)
        if status is not None:
            await self._send_error_response(status)
            await self.send(Closed())
            return
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=[item for item in request.headers if item[0] not in _UPGRADE_HEADERS],
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    def has_unread_body(self) -> bool:
        """Tell whether the peer may still be sending what nobody wants."""
        return self.connection.their_state in (h11.SEND_BODY, h11.ERROR)


def _size_bytes(request: h11.Request) -> int:
    fields = sum(len(name) + len(value) + 4 for name, value in request.headers)
    return len(request.target) + fields


def _refusal(request: h11.Request, max_head_bytes: int) -> int | None:
    """Return the status of a request that the application never sees."""
    if request.http_version not in (b"1.1", b"1.0"):
        return 505
    if len(request.target) > MAX_TARGET_BYTES:
        return 414
    if len(request.headers) > MAX_HEADERS or _size_bytes(request) > max_head_bytes:
        return 431
    if not request.target.startswith(b"/"):
        return 400
    return None


class HttpConnection:
    """Serves one stream; `run` once."""

    def __init__(
        self,
        app: AppWrapper,
        config: HyperConfig,
        context: WorkerContext,
        stream: trio.abc.Stream,
        patience: Patience,
    ) -> None:
        self._app = app
        self._config = config
        self._context = context
        self._stream = stream
        self._patience = patience
        self._send_lock = trio.Lock()
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._is_idle = True
        self._protocol: PlainProtocol

    async def run(self, head: bytes) -> None:
        """Serve until either side ends it, then close the stream.

        Args:
            head: What was read from the stream already.

        Raises:
            Exception: whatever the protocol raises; the stream is closed then, too.
        """
        try:
            self._give(self._patience.head_s)
            with self._scope:
                await self._serve(head)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LINGER_S):
                await self._stream.aclose()

    def close_if_idle(self) -> None:
        """End a connection between two requests now; a busy one ends after its answer."""
        if self._is_idle:
            self._scope.cancel(reason="the node is stopping")

    def _give(self, seconds: float) -> None:
        self._scope.deadline = trio.current_time() + seconds

    async def _serve(self, head: bytes) -> None:
        client, server, is_tls = _addresses(self._stream)
        async with TaskGroup() as tasks:
            self._protocol = PlainProtocol(
                self._app,
                self._config,
                self._context,
                tasks,
                ConnectionState({}),
                is_tls,
                client,
                server,
                self._send,
            )
            await self._read(head)

    async def _read(self, head: bytes) -> None:
        """Feed the protocol until the end; an answer in the making is still written after the peer's half-close."""
        try:
            with self._reading:
                if head:
                    await self._protocol.handle(RawData(head))
                while True:
                    data = await self._stream.receive_some(READ_BYTES)
                    await self._protocol.handle(RawData(bytes(data)))
                    if not data and not self._reading.cancel_called:
                        return
            await self._protocol.handle(Closed())
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            if self._protocol.has_unread_body():
                await self._drop_rest()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._protocol.handle(Closed())

    async def _drop_rest(self) -> None:
        num_bytes = 0
        with trio.move_on_after(self._patience.linger_s):
            while num_bytes < LINGER_BYTES:
                data = await self._stream.receive_some(READ_BYTES)
                if not data:
                    return
                num_bytes += len(data)

    async def _send(self, event: Event) -> None:
        """Perform what the protocol wants.

        Quart cancels the task that ends a request as soon as the request is over, so ending a connection takes no step
        that could be cancelled: the reader does the rest.
        """
        if isinstance(event, RawData):
            await self._write(event.data)
        elif isinstance(event, Closed):
            self._reading.cancel(reason="the protocol is at its end")
        elif isinstance(event, Updated):
            self._is_idle = event.idle
            self._give(self._patience.idle_s if event.idle else 2 * self._patience.request_s)

    async def _write(self, data: bytes) -> None:
        try:
            async with self._send_lock:
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._protocol.handle(Closed())


_Address = tuple[str, int] | None


def _addresses(stream: trio.abc.Stream) -> tuple[_Address, _Address, bool]:
    """Return peer and own address as far as the stream has any, and whether it is TLS."""
    is_tls = isinstance(stream, trio.SSLStream)
    transport: Any = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    sock = getattr(transport, "socket", None)
    if sock is None:
        return None, None, is_tls
    try:
        client = parse_socket_addr(sock.family, sock.getpeername())
        return client, parse_socket_addr(sock.family, sock.getsockname()), is_tls
    except (OSError, tls.SSLError):
        return None, None, is_tls
