"""A TCP proxy that a test makes slow, cut or deaf: it stands between a client and a server and forwards bytes, or does not.

Runs in the test's own Trio run. Faults act on connections that are open and on later ones, until they are lifted.
"""

from __future__ import annotations

import trio

__all__ = ["ChaosProxy"]

_CHUNK_BYTES = 65_536


class ChaosProxy:
    """Forwards from a port of its own to a server.

    Args:
        host: Of the server.
        port: Of the server; may be changed while it runs, for later connections.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.listen_port = 0
        """Where clients connect; known when `run` has started."""
        self.delay_s = 0.0
        """Added to each chunk, in each direction."""
        self.num_accepted = 0
        self._can_pass = trio.Event()
        self._can_pass.set()
        self._open: set[trio.CancelScope] = set()

    @property
    def num_open(self) -> int:
        """Connections now."""
        return len(self._open)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept until cancelled; every connection ends with it."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.listen_port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, listeners)
            task_status.started()

    # ---------------------------------------------------------------- faults

    def cut(self) -> None:
        """End every connection; new ones are served."""
        for scope in list(self._open):
            scope.cancel("cut")

    def black_hole(self) -> None:
        """From now on nothing passes and nobody is told: connections stay open, new ones are accepted."""
        self._can_pass = trio.Event()

    def heal(self) -> None:
        """Forward again; what waited goes first."""
        self.delay_s = 0.0
        self._can_pass.set()

    # ---------------------------------------------------------------- forwarding

    async def _serve(self, client: trio.SocketStream) -> None:
        self.num_accepted += 1
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                await self._join(client, scope)
            except (OSError, trio.BrokenResourceError):
                pass
            finally:
                self._open.discard(scope)
                await trio.aclose_forcefully(client)

    async def _join(self, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        await self._can_pass.wait()
        server = await trio.open_tcp_stream(self.host, self.port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._forward, client, server, scope)
                nursery.start_soon(self._forward, server, client, scope)
        finally:
            await trio.aclose_forcefully(server)

    async def _forward(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            while data := await source.receive_some(_CHUNK_BYTES):
                if self.delay_s:
                    await trio.sleep(self.delay_s)
                await self._can_pass.wait()
                await sink.send_all(data)
        except (OSError, trio.BrokenResourceError):
            pass
        scope.cancel("one side ended")
