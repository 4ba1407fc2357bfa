"""A TCP proxy that delays, holds and cuts what goes through it: the network between a node and its Redis on a bad day.

Owner of: its connections. Everything is in order within a direction; what was held goes on its way when it is let go, also to a peer whose other
side has given up meanwhile. That is how a command comes late.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs
import trio

__all__ = ["HoldingProxy"]

READ_BYTES = 65_536


@attrs.define(eq=False)
class HoldingProxy:
    """Listens on `127.0.0.1:port` and passes everything on to a Unix socket."""

    port: int
    target: Path
    delay_s: float = 0.0
    """Each way, for every piece that is read from now on."""
    num_connections: int = 0
    _scopes: set[trio.CancelScope] = attrs.field(factory=set)
    _open: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        """Let everything through."""
        self._open.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, self._serve, self.port, host="127.0.0.1")
            await nursery.start(serve)
            task_status.started()

    def cut(self) -> None:
        """End every connection at once, with what is under way in it."""
        for scope in list(self._scopes):
            scope.cancel("cut")

    def hold(self) -> None:
        """Pass nothing on, and end nothing: a black hole."""
        self._open = trio.Event()

    def let_go(self) -> None:
        """Pass on again, beginning with what was held."""
        self._open.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.num_connections += 1
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await self._open.wait()
                there = await trio.open_unix_socket(str(self.target))
                async with there, trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, stream, there)
                    nursery.start_soon(self._pump, there, stream)
            except* OSError:
                pass  # nobody is there: the caller sees its connection end
            finally:
                self._scopes.discard(scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some(READ_BYTES):
                if self.delay_s:
                    await trio.sleep(self.delay_s)
                await self._open.wait()
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(source)
            await trio.aclose_forcefully(sink)
