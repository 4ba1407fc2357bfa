"""Opening connections: the handshake and greeting of many sockets at once, over one epoll.

Owns the sockets until they are live; `Dialer` is the base of `bench.load.Load`, which then reads and writes them.
"""

from __future__ import annotations

import select
import socket
import time

from bench.process import Meter
from bench.wire import Dialect, Mismatch

__all__ = ["Conn", "Dialer", "Track"]

READ_BYTES = 16_384
EVENTS = 1024
DRAIN_S = 20.0
_PORTS_PER_SOURCE = 20_000
_CONNECTING, _UPGRADING, _GREETING, _LIVE = range(4)


class Conn:
    """One connection and how far it has come."""

    __slots__ = (
        "channel",
        "epoch",
        "fd",
        "position",
        "recv",
        "send",
        "sock",
        "state",
        "tail",
        "track",
    )

    def __init__(self, sock: socket.socket, channel: str | None) -> None:
        self.sock, self.channel = sock, channel
        self.fd, self.recv, self.send = sock.fileno(), sock.recv, sock.send
        self.state = _CONNECTING
        self.tail = b""
        self.position = 0
        self.epoch = ""
        self.track: Track | None = None


class Track:
    """How far the subscribers of one channel have come: its lowest position is what everybody has."""

    __slots__ = ("at", "low")

    def __init__(self, position: int) -> None:
        self.at: dict[int, int] = {position: 0}
        self.low = position

    def advance(self, old: int, new: int) -> int:
        """Move one subscriber; returns how many events became complete."""
        at = self.at
        at[new] = at.get(new, 0) + 1
        left = at[old] - 1
        if left:
            at[old] = left
            return 0
        del at[old]
        if old != self.low:
            return 0
        self.low = min(at)
        return self.low - old


class Dialer:
    """Connections to one target, and how they come to life."""

    def __init__(self, dialect: Dialect, port: int, pid: int) -> None:
        self._dialect, self._port, self._pid = dialect, port, pid
        self._epoll = select.epoll()
        self._by_fd: dict[int, Conn] = {}
        self._subscribers: list[Conn] = []
        self._publishers: list[Conn] = []
        self._tracks: dict[str, Track] = {}
        self._num_opened = 0
        self._dialled = port

    def open_subscribers(
        self, count: int, channels: list[str], concurrency: int = 64, port: int | None = None
    ) -> dict[str, float]:
        """Open `count` connections, each subscribed to one of `channels` in turn; returns time and CPU. `port`: of another node."""
        self._dialled = port or self._port
        conns, figures = self._open(
            [channels[index % len(channels)] for index in range(count)], "sub", concurrency
        )
        self._dialled = self._port
        for conn in conns:
            assert conn.channel is not None
            track = self._tracks.setdefault(conn.channel, Track(conn.position))
            if track.low != conn.position:
                raise Mismatch(
                    f"{conn.channel}: subscribed at {conn.position}, others at {track.low}"
                )
            track.at[conn.position] += 1
            conn.track = track
        self._subscribers += conns
        return figures

    def open_publishers(
        self, count: int, concurrency: int = 64, port: int | None = None
    ) -> dict[str, float]:
        """Open connections that only publish. `port`: to another server."""
        self._dialled = port or self._port
        conns, figures = self._open([None] * count, "pub", concurrency)
        self._dialled = self._port
        self._publishers += conns
        return figures

    def _open(
        self, channels: list[str | None], role: str, concurrency: int
    ) -> tuple[list[Conn], dict[str, float]]:
        opened: list[Conn] = []
        todo = iter(channels)
        num_done, num_started = 0, 0
        started, meter = time.perf_counter(), Meter(self._pid)
        while num_done < len(channels):
            while num_started < len(channels) and num_started - num_done < concurrency:
                opened.append(self._dial(next(todo)))
                num_started += 1
            for fd, _ in self._epoll.poll(1.0, EVENTS):
                conn = self._by_fd[fd]
                if conn.state != _LIVE:
                    num_done += self._greet(conn, role)
            if time.perf_counter() - started > DRAIN_S + len(channels) / 200:
                raise Mismatch(f"only {num_done} of {len(channels)} connections opened")
        return opened, meter.read()

    def _dial(self, channel: str | None) -> Conn:
        sock = socket.socket()
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        source = self._num_opened // _PORTS_PER_SOURCE
        self._num_opened += 1
        if source:
            sock.bind((f"127.0.0.{2 + source % 250}", 0))
        sock.connect_ex(("127.0.0.1", self._dialled))
        conn = Conn(sock, channel)
        self._by_fd[conn.fd] = conn
        self._epoll.register(conn.fd, select.EPOLLOUT)
        return conn

    def _greet(self, conn: Conn, role: str) -> bool:
        """Take the next step of opening; True when the connection is live."""
        if conn.state == _CONNECTING:
            self._epoll.modify(conn.fd, select.EPOLLIN)
            head = self._dialect.request_head(role)
            if not self._dialect.is_websocket:
                head += self._dialect.greeting(conn.channel)
            conn.send(head)
            conn.state = _UPGRADING
            return False
        data = conn.tail + conn.recv(READ_BYTES)
        conn.tail = b""
        if not data:
            raise Mismatch("connection closed while opening")
        if conn.state == _UPGRADING:
            return self._upgraded(conn, data)
        return self._greeted(conn, data)

    def _upgraded(self, conn: Conn, data: bytes) -> bool:
        if not self._dialect.is_websocket:
            conn.state = _LIVE
            return True
        head, end, conn.tail = data.partition(b"\r\n\r\n")
        if not end:
            conn.tail = head
            return False
        if not head.startswith(b"HTTP/1.1 101"):
            raise Mismatch(f"refused: {head[:300]!r}")
        greeting = self._dialect.greeting(conn.channel)
        if not greeting:
            conn.state = _LIVE
            return True
        conn.send(greeting)
        conn.state = _GREETING
        return False

    def _greeted(self, conn: Conn, data: bytes) -> bool:
        chunk = self._dialect.decode(data)
        if not self._dialect.is_greeted(chunk, conn.channel):
            conn.tail = data
            return False
        conn.tail = data[chunk.consumed :]
        if conn.channel is not None:
            conn.position = chunk.subscribed.get(conn.channel, 0)
            conn.epoch = chunk.epochs.get(conn.channel, "")
        conn.state = _LIVE
        return True

    def close_all(self) -> None:
        """Close every connection by RST, so that no port lingers in TIME_WAIT."""
        linger = (1).to_bytes(4, "little") + bytes(4)
        for conn in self._by_fd.values():
            self._epoll.unregister(conn.fd)
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            conn.sock.close()
        self._by_fd.clear()
        self._tracks.clear()
        self._subscribers, self._publishers = [], []
