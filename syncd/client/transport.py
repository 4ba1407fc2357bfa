"""One WebSocket connection of the client: the only place that knows trio-websocket.

Nothing that goes wrong here leaves as an exception: every connection and every attempt ends as a `Closure`.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import attrs
import trio
import trio_websocket

from syncd.client.connection import ABNORMAL_CLOSE
from syncd.client.frames import MAX_FRAME_BYTES
from syncd.codes import CloseCode

__all__ = ["Closure", "Link", "StreamOpener", "Target", "target_from_url"]

SUBPROTOCOL = "syncd.v1"
CLOSE_S = 1.0
"""How long a polite end may take: what was sent is flushed and the close frame answered, or not."""
RECEIVE_BYTES = 65_536
"""One read of the socket: a burst of events costs one pass through the parser."""

_TOO_BIG_HERE = f"Exceeded maximum message size: {MAX_FRAME_BYTES} bytes"
"""What trio-websocket 0.12 says when it ends a connection for a frame of the server's. The core takes 1009 for a word about our frames."""

_CUT_OFF = "The server closed the connection before it answered the upgrade."

StreamOpener = Callable[[], Awaitable[trio.abc.Stream]]


@attrs.frozen
class Target:
    """Where a client connects to."""

    host: str
    port: int
    resource: str
    is_tls: bool

    @property
    def host_header(self) -> str:
        """Value of the Host header."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == (443 if self.is_tls else 80) else f"{name}:{self.port}"

    async def open_stream(self) -> trio.abc.Stream:
        """Connect over TCP, and TLS if asked for."""
        if self.is_tls:
            context = ssl.create_default_context()
            return await trio.open_ssl_over_tcp_stream(
                self.host, self.port, ssl_context=context, https_compatible=True
            )
        return await trio.open_tcp_stream(self.host, self.port)


def target_from_url(url: str) -> Target:
    """Read `ws://host[:port][/path]`; `wss`, `http` and `https` are known too, the path defaults to `/ws`.

    Raises:
        ValueError: it is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
        msg = f"Not a WebSocket URL: {url!r}. Write ws://HOST:PORT or wss://HOST."
        raise ValueError(msg)
    is_tls = parts.scheme in ("wss", "https")
    resource = parts.path if parts.path not in ("", "/") else "/ws"
    if parts.query:
        resource += "?" + parts.query
    return Target(parts.hostname, parts.port or (443 if is_tls else 80), resource, is_tls)


@attrs.frozen
class Closure:
    """How a connection, or the attempt, ended."""

    code: int = ABNORMAL_CLOSE
    reason: str = ""
    after_s: float = 0.0
    """The server asked for this wait (`Retry-After`)."""


class _Opening(trio.abc.Stream):
    """A stream whose end, while the upgrade is not answered, is an error that trio-websocket does not catch.

    trio-websocket 0.12 takes it for the end of a connection, and waits for the answer all the same: a proxy without a server behind it, or a
    node that stops, would hold a client for the whole of its connect timeout.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._head = b""
        self._is_open = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._is_open:
                raise
            raise ConnectionError(_CUT_OFF) from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if self._is_open:
                raise
            raise ConnectionError(_CUT_OFF) from error
        if not self._is_open:
            self._look_at(data)
        return data

    def _look_at(self, data: bytes | bytearray) -> None:
        """The answer may share a read with frames and the end behind them: what the bytes say is known before the task that waits for it runs."""
        if not data:
            raise ConnectionError(_CUT_OFF)
        self._head += data
        self._is_open = b"\r\n\r\n" in self._head and self._head.split(b" ", 2)[1:2] == [b"101"]

    async def aclose(self) -> None:
        await self._stream.aclose()


class Link:
    """One connection attempt and the connection that may come of it.

    Args:
        target: Names the host in the upgrade request.
        open_stream: Connects.
        on_open: Called once the WebSocket is open.
        on_frame: Called for every binary frame.

    What is to be sent waits in a list that is bounded by its writer: `Client` admits 1,024 requests at a time, and the
    core adds a pong a ping.
    """

    def __init__(
        self,
        target: Target,
        open_stream: StreamOpener,
        on_open: Callable[[], None],
        on_frame: Callable[[bytes], None],
    ) -> None:
        self._target = target
        self._open_stream = open_stream
        self._on_open = on_open
        self._on_frame = on_frame
        self._scope = trio.CancelScope()
        self._frames: list[bytes] = []
        self._has_work = trio.Event()
        self._close_code: int | None = None
        self._closure = Closure()

    def send(self, frame: bytes) -> None:
        """Queue a frame. Never waits."""
        self._frames.append(frame)
        self._has_work.set()

    def hang_up(self, code: int, reason: str) -> None:
        """End it: politely within a second for a normal close, at once for any other. Never waits."""
        self._closure = Closure(code, reason)
        if code == ABNORMAL_CLOSE:
            self._scope.cancel(reason=reason)
            return
        self._close_code = code
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + CLOSE_S)
        self._has_work.set()

    async def run(self) -> Closure:
        """Connect and serve until the end, and say how it ended.

        Cancellation: the stream is closed without a goodbye.
        """
        try:
            with self._scope:
                await self._serve()
        except Exception as error:  # noqa: BLE001 - isolation: a lost connection is an outcome here
            return _closure_from_error(error)
        return self._closure

    async def _serve(self) -> None:
        stream = _Opening(await self._open_stream())
        try:
            async with trio.open_nursery() as nursery:
                connection = await trio_websocket.wrap_client_stream(
                    nursery,
                    stream,  # type: ignore[arg-type]  # any stream will do
                    self._target.host_header,
                    self._target.resource,
                    subprotocols=[SUBPROTOCOL],
                    max_message_size=MAX_FRAME_BYTES,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                self._on_open()
                nursery.start_soon(self._write, connection)
                await self._read(connection)
                nursery.cancel_scope.cancel(reason="the connection ended")
        finally:
            await trio.aclose_forcefully(stream)

    async def _read(self, connection: Any) -> None:
        try:
            while True:
                frame = await connection.get_message()
                if not isinstance(frame, bytes):
                    self.hang_up(1003, "The server sent a text frame.")
                    return
                self._on_frame(frame)
        except trio_websocket.ConnectionClosed as closed:
            if self._close_code is None and closed.reason is not None:
                self._closure = _closure_from_reason(closed.reason)

    async def _write(self, connection: Any) -> None:
        try:
            while True:
                await self._has_work.wait()
                self._has_work = trio.Event()
                frames, self._frames = self._frames, []
                for frame in frames:
                    await connection.send_message(frame)
                if self._close_code is not None and not self._frames:
                    await connection.aclose(self._close_code)
                    self._scope.cancel(reason="we hung up")
        except trio_websocket.ConnectionClosed:
            """The reader learns the same and knows the code."""


def _closure_from_error(error: Exception) -> Closure:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, trio_websocket.ConnectionRejected):
        reason = f"The server answered the upgrade with status {error.status_code}."
        return Closure(reason=reason, after_s=_retry_after_s(error.headers or ()))
    if isinstance(error, trio_websocket.ConnectionClosed) and error.reason is not None:
        return _closure_from_reason(error.reason)
    return Closure(reason=f"{type(error).__name__}: {error}")


def _closure_from_reason(reason: trio_websocket.CloseReason) -> Closure:
    text = reason.reason or ""
    code = CloseCode.PROTOCOL_ERROR_WS if text == _TOO_BIG_HERE else reason.code
    return Closure(code, text)


def _retry_after_s(headers: Any) -> float:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(float(value), 300.0)
    return 0.0
