"""Serving HTTP connections that somebody else accepted, in bounds, each in a guard of its own.

Owns the count of open HTTP connections and the application's start and stop. The gateway calls `serve` with what it has read
from the shared port; the acceptor of `--api-listen` calls `serve_stream`.

Measured on the two-core machine of DESIGN 3, keep-alive connections on loopback, trivial handles: 0.55 ms of CPU for one
`/api/publish`, so 850 requests/s over one connection and 1,500 over four, nearly all of it Quart and Hypercorn. `/api/batch`
takes 50,000 events/s in batches of a thousand (19 ms each): who needs more than a thousand a second sends batches.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HyperConfig
from hypercorn.trio.worker_context import WorkerContext
from quart_trio import QuartTrio

from syncd.config import Config
from syncd.http.connection import READ_BYTES, HttpConnection, HyperLog, Patience

__all__ = ["MAX_OWN_CONNECTIONS", "MAX_SHARED_CONNECTIONS", "HttpServer"]

MAX_SHARED_CONNECTIONS = 256
"""On the shared port, where each serves one request: beyond it 503, so that HTTP never starves the sockets."""

MAX_OWN_CONNECTIONS = 1024
"""On `--api-listen`, where backends keep pools of connections."""

REFUSAL_S = 1.0
"""For writing the 503; a fresh socket takes it at once."""

_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: 105\r\n\r\n"
    b'{"error":{"code":"overloaded","message":"Too many HTTP connections.","retryable":true,"after_ms":1000}}\r\n'
)

_log = structlog.get_logger("syncd.http")


class HttpServer:
    """Serves one application over streams; `async with` starts and stops it."""

    def __init__(
        self,
        app: QuartTrio,
        config: Config,
        *,
        max_shared: int = MAX_SHARED_CONNECTIONS,
        max_own: int = MAX_OWN_CONNECTIONS,
        patience: Patience | None = None,
    ) -> None:
        self._quart = app
        self._app = ASGIWrapper(app)
        timing = config.timing
        self._patience = patience or Patience(timing.handshake_s, timing.http_request_s)
        self._stop_s = timing.stop_s
        self._one_shot = _hyper_config(config, keep_alive_requests=0)
        self._keep_alive = _hyper_config(config, keep_alive_requests=1000)
        self._context = WorkerContext(None)
        self._max = {False: max_shared, True: max_own}
        self._open: dict[bool, set[HttpConnection]] = {False: set(), True: set()}
        self._all_closed = trio.Event()
        self._exit = AsyncExitStack()

    @property
    def num_connections(self) -> int:
        """Open HTTP connections, of both kinds."""
        return len(self._open[False]) + len(self._open[True])

    # -------------------------------------------------------------------------------------------- start, stop

    async def __aenter__(self) -> Self:
        self._quart.nursery = await self._exit.enter_async_context(trio.open_nursery())
        await self._quart.startup()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.drain()  # noqa: ASYNC102 - bounded by timing.stop_s
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._stop_s):
                await self._quart.shutdown()
            await self._exit.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - closes a nursery

    async def drain(self) -> None:
        """End idle connections now and busy ones after their answer; wait for them at most `timing.stop_s`."""
        await self._context.terminated.set()
        for connection in [*self._open[False], *self._open[True]]:
            connection.close_if_idle()
        if self.num_connections:
            self._all_closed = trio.Event()
            with trio.move_on_after(self._stop_s):
                await self._all_closed.wait()

    # -------------------------------------------------------------------------------------------- serving

    async def run(
        self,
        listeners: Sequence[socket.socket],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve addresses of its own, if there are any, and what `serve` is given, until cancelled."""
        async with self, trio.open_nursery() as nursery:
            for sock in listeners:
                sock.setblocking(False)  # noqa: FBT003
                listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
                nursery.start_soon(trio.serve_listeners, self.serve_stream, [listener])
            task_status.started()
            await trio.sleep_forever()

    async def serve(self, stream: trio.abc.Stream, head: bytes, *, keep_alive: bool) -> None:
        """Serve one connection and close it. Raises nothing but `Cancelled`, whatever the peer does.

        Args:
            stream: Positioned after `head`.
            head: What was read from it already.
            keep_alive: Serve further requests; False answers `Connection: close`.
        """
        kept = self._open[keep_alive]
        if len(kept) >= self._max[keep_alive] or self._context.terminated.is_set():
            await _refuse(stream)
            return
        config = self._keep_alive if keep_alive else self._one_shot
        connection = HttpConnection(self._app, config, self._context, stream, self._patience)
        kept.add(connection)
        try:
            await connection.run(head)
        except* Exception as group:  # noqa: BLE001 - a connection's crash ends here, whoever caused it
            _log.warning("http_connection_failed", exc_info=group)
        finally:
            kept.discard(connection)
            if self.num_connections == 0:
                self._all_closed.set()

    async def serve_stream(self, stream: trio.abc.Stream) -> None:
        """Serve one connection of `--api-listen`: nothing of it was read, and it is kept alive."""
        await self.serve(stream, b"", keep_alive=True)


def _hyper_config(config: Config, *, keep_alive_requests: int) -> HyperConfig:
    hyper = HyperConfig()
    hyper.h11_max_incomplete_size = config.limits.head_bytes
    hyper.include_server_header = False
    hyper.keep_alive_max_requests = keep_alive_requests
    hyper.logger_class = HyperLog  # type: ignore[assignment]
    return hyper


async def _refuse(stream: trio.abc.Stream) -> None:
    """Answer 503 and close, after one look at what the peer sent: unread bytes would reset the connection first."""
    with (
        trio.move_on_after(REFUSAL_S),
        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await stream.send_all(_REFUSAL)
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        await stream.receive_some(READ_BYTES)
    await trio.aclose_forcefully(stream)
