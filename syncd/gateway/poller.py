"""The poller: one Trio task that owns one epoll of all plain sockets, listeners included.

Each round takes at most 512 ready sockets, reads at most `limits.read_bytes_per_tick` from each, lets the hub decode and group what came,
hands each actor one batch and writes what is queued. It never awaits a mailbox. What it pays Trio, it pays once a round. Whoever has a session
is served before those who come, for whom there is a slice of time: what is left of them is ready in the next round as well.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog
import trio

from syncd.gateway.connection import Connection
from syncd.gateway.hub import Hub
from syncd.wire.session import Phase

__all__ = ["HeadHandler", "Poller", "tune_listener"]

_log = structlog.get_logger("syncd.gateway")

MAX_READY: Final = 512
ACCEPTS_PER_ROUND: Final = 128
ARRIVALS_S: Final = 0.003
"""CPU of a round, for new connections, request heads and what comes up to `hello`: a crowd at the door is not to hold up those inside."""
ACCEPT_PAUSE_S: Final = 0.25
"""After EMFILE and the like: time for descriptors to come free."""

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT
_GONE: Final = select.EPOLLHUP | select.EPOLLERR

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class HeadHandler(Protocol):
    """What reads request heads: decides between WebSocket, HTTP and refusal."""

    def receive_head(self, connection: Connection, data: bytes) -> None:
        """Take bytes of a request head."""

    def admit(self, connection: Connection) -> bool:
        """Let a new connection in, or refuse it."""

    def forget(self, connection: Connection) -> None:
        """A connection is over."""


class Poller:
    """Drives every plain socket (see the module's docstring). Implements `driver.Driver`."""

    def __init__(
        self, hub: Hub, heads: HeadHandler, *, timer: Callable[[], float] = time.thread_time
    ) -> None:
        """Listen to nobody yet; `timer` measures the slice of who comes, in seconds of this thread's CPU, whatever else the machine does."""
        self._hub = hub
        self._timer = timer
        self._heads = heads
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._paused_until = 0.0
        self.sockets: dict[int, socket.socket] = {}
        """By file descriptor; taken out by whoever carries the socket on (HTTP)."""

    # ---------------------------------------------------------------- driver.Driver

    def watch_room(self, connection: Connection) -> None:
        """Call `Writer.on_room` when the socket takes bytes again."""
        self._modify(connection)

    def set_reading(self, connection: Connection, *, is_reading: bool) -> None:
        """Stop or go on to read from it (the connection's own flag says which)."""
        self._modify(connection)

    def forget(self, connection: Connection) -> None:
        """The connection is about to be closed."""
        self._heads.forget(connection)
        self.detach(connection)

    def end(self, connection: Connection, *, is_mutual: bool) -> None:
        """Write what is queued; drop the connection, or half-close it: closing at once could destroy the answer on its way."""
        self._hub.writer.flush()
        if is_mutual:
            self._hub.drop(connection)
        elif not connection.closed and connection.has_room():
            with contextlib.suppress(OSError):
                self.sockets[connection.fd].shutdown(socket.SHUT_WR)

    def detach(self, connection: Connection) -> socket.socket | None:
        """Take the socket out of the epoll and return it, unclosed."""
        sock = self.sockets.pop(connection.fd, None)
        if sock is not None:
            del self._by_fd[connection.fd]
            self._epoll.unregister(connection.fd)
        return sock

    def _modify(self, connection: Connection) -> None:
        if connection.fd not in self._by_fd:
            return
        mask = 0 if connection.is_paused else _IN
        if connection.outbox is not None:
            mask |= _OUT
        self._epoll.modify(connection.fd, mask)

    # ---------------------------------------------------------------- the task

    def listen(self, sock: socket.socket) -> None:
        """Accept from this listening socket, from the next round on."""
        sock.setblocking(False)  # noqa: FBT003
        self._listeners[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), _IN)

    def stop_listening(self) -> None:
        """Close the listeners; connections go on."""
        for fd, sock in self._listeners.items():
            self._epoll.unregister(fd)
            sock.close()
        self._listeners.clear()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; then every socket is closed."""
        task_status.started()
        epoll = self._epoll
        try:
            while True:
                await trio.lowlevel.wait_readable(epoll.fileno())
                self._round(epoll.poll(0, MAX_READY))
        finally:
            self.stop_listening()
            for connection in list(self._by_fd.values()):
                self._hub.drop(connection)
            epoll.close()

    def _round(self, ready: list[tuple[int, int]]) -> None:
        hub, by_fd = self._hub, self._by_fd
        hub.now = hub.clock()
        max_bytes = hub.config.limits.read_bytes_per_tick
        head, opening = Phase.HEAD, Phase.OPENING
        listeners: list[int] = []
        arriving: list[Connection] = []
        for fd, events in ready:
            connection = by_fd.get(fd)
            if connection is None:
                listeners.append(fd)
                continue
            if events & _OUT and hub.writer.on_room(connection):
                self._modify(connection)
            if events & _IN:
                phase = connection.phase
                if phase is head or phase is opening:
                    arriving.append(connection)
                else:
                    self._read(connection, max_bytes)
            elif events & _GONE:
                hub.drop(connection)
        if arriving or listeners:
            self._let_in(arriving, listeners, max_bytes)
        hub.hand_over()
        hub.writer.flush()

    def _let_in(self, arriving: list[Connection], listeners: list[int], max_bytes: int) -> None:
        """Serve who comes, for as long as their slice lasts and at least one of each."""
        ends_at = self._timer() + ARRIVALS_S
        for connection in arriving:
            if connection.phase is not Phase.CLOSED:
                self._read(connection, max_bytes)
            if self._timer() > ends_at:
                break
        for fd in listeners:
            # Last, so that a descriptor closed in this round and given out anew gets no event of its old owner.
            self._accept(fd, ends_at)

    def _read(self, connection: Connection, max_bytes: int) -> None:
        try:
            data = connection.sender.recv(max_bytes)  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError:
            self._hub.drop(connection)
            return
        if not data:
            self._hub.drop(connection)
        elif connection.phase is Phase.HEAD:
            self._heads.receive_head(connection, data)
        elif connection.phase is not Phase.CLOSED:
            self._hub.receive(connection, data)

    # ---------------------------------------------------------------- accepting

    def _accept(self, fd: int, ends_at: float) -> None:
        listener = self._listeners.get(fd)
        if listener is None:
            return
        for _ in range(ACCEPTS_PER_ROUND):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause_accepting(error)
                    return
                continue  # the peer was gone before we came (ECONNABORTED and its like)
            self._welcome(sock, address)
            if self._timer() > ends_at:
                return

    def _welcome(self, sock: socket.socket, address: object) -> None:
        sock.setblocking(False)  # noqa: FBT003
        fd = sock.fileno()
        peer = address[0] if isinstance(address, tuple) else "unix"
        connection = self._hub.open(sock, fd, peer, self)
        self._by_fd[fd] = connection
        self.sockets[fd] = sock
        self._epoll.register(fd, _IN)
        self._heads.admit(connection)

    def _pause_accepting(self, error: OSError) -> None:
        """Out of descriptors: leave the backlog alone for a moment instead of spinning on it."""
        _log.error("accept_paused", error=errno.errorcode.get(error.errno or 0, "?"))
        for fd in self._listeners:
            self._epoll.modify(fd, 0)
        self._paused_until = self._hub.now + ACCEPT_PAUSE_S

    def on_tick(self, now: float) -> None:
        """Go on accepting after a pause; called by the coarse timer."""
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0.0
            for fd in self._listeners:
                self._epoll.modify(fd, _IN)


def tune_listener(sock: socket.socket, send_buffer_bytes: int) -> None:
    """Set what accepted sockets inherit: no Nagle delay, a bounded send buffer."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if send_buffer_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
