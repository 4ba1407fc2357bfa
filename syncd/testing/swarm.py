"""Many connections in one plain loop: readers of one channel whose latencies are measured, and peers that never read.

Owner of: its sockets. For tests against a server process only: everything here blocks, with deadlines. Latency is counted from just
before the publication is sent until a reader has it; the loop's own time is part of it, in every run alike.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from types import TracebackType
from typing import Any, Self

import attrs

from syncd.testing.history import Body, History, Observer
from syncd.testing.plain_client import FrameReader, Message, client_frame
from syncd.testing.raw_client import request_head

__all__ = ["Reader", "Swarm"]

OPEN_S = 10.0
READ_BYTES = 65_536


@attrs.define(eq=False)
class Reader:
    """One connection that reads."""

    sock: socket.socket
    observer: Observer
    frames: FrameReader = attrs.field(factory=FrameReader)
    close_code: int | None = None
    is_closed: bool = False


class Swarm:
    """Readers, mutes and a publisher on one channel of one server."""

    def __init__(self, port: int, channel: str, history: History) -> None:
        self.channel = channel
        self.readers: list[Reader] = []
        self.mutes: list[socket.socket] = []
        self._port = port
        self._history = history
        self._epoll = select.epoll()
        self._by_fd: dict[int, Reader] = {}
        self._num_published = 0
        self._publisher, self._answers = self._open(0)
        self._latencies: list[float] = []
        self._sent_at = 0.0
        self._num_missing = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.drop_mutes()
        for reader in self.readers:
            reader.sock.close()
        self._publisher.close()
        self._epoll.close()

    # ---------------------------------------------------------------- who is there

    def add_readers(self, count: int) -> None:
        """Connect readers and subscribe them."""
        for index in range(count):
            sock, frames = self._open(0)
            name = f"reader{index}"
            observer = self._history.observer(name, self.channel, keeps_events=False)
            self._send(sock, ("subscribe", {"id": 1, "channel": self.channel}))
            observer.subscribed(self._receive(sock, frames, "subscribed"))
            sock.setblocking(False)  # noqa: FBT003 - its only argument
            reader = Reader(sock, observer, frames)
            self.readers.append(reader)
            self._by_fd[sock.fileno()] = reader
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def add_mutes(self, count: int) -> None:
        """Connect peers with small buffers that subscribe and then never read again."""
        for _ in range(count):
            sock, frames = self._open(2048)
            self._send(sock, ("subscribe", {"id": 1, "channel": self.channel}))
            self._receive(sock, frames, "subscribed")
            self.mutes.append(sock)

    def drop_mutes(self) -> None:
        """Hang up on behalf of those that never read."""
        for sock in self.mutes:
            sock.close()
        self.mutes.clear()

    # ---------------------------------------------------------------- load

    def round(self, num_events: int, data_bytes: int, timeout_s: float = 60.0) -> list[float]:
        """Publish events one by one, each when every reader has the one before.

        Returns:
            Latency of each delivery in seconds.

        Raises:
            TimeoutError: not every reader got every event in time.
        """
        self._latencies = []
        deadline = time.monotonic() + timeout_s
        gc.collect()
        gc.disable()  # a collection of ours would pass for latency of the server's
        try:
            for _ in range(num_events):
                self._publish(data_bytes)
                self._read_until_all_have_it(deadline)
        finally:
            gc.enable()
        return self._latencies

    def _publish(self, data_bytes: int) -> None:
        self._num_published += 1
        self._num_missing = len(self.readers)
        data = {"n": self._num_published, "fill": bytes(data_bytes)}
        body = {"id": self._num_published, "channel": self.channel, "data": data}
        self._sent_at = time.perf_counter()
        self._send(self._publisher, ("publish", body))

    def _read_until_all_have_it(self, deadline: float) -> None:
        while self._num_missing:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._num_missing} readers have not got the last event")
            for fd, _events in self._epoll.poll(0.1, 1024):
                self._read(self._by_fd[fd])
        answer = self._receive(self._publisher, self._answers, "ok")
        assert answer["id"] == self._num_published

    def _read(self, reader: Reader) -> None:
        data = reader.sock.recv(READ_BYTES)
        now = time.perf_counter()
        for kind, body in reader.frames.feed(data):
            reader.observer.take(kind, body)
            if kind == "event":
                self._latencies.append(now - self._sent_at)
                self._num_missing -= body["data"]["n"] == self._num_published
            elif kind == "ping":
                reader.sock.send(client_frame(("pong", {})))
            elif kind == "close":
                reader.close_code, reader.is_closed = body["code"], True
        if not data:
            reader.is_closed = True
            self._epoll.unregister(reader.sock.fileno())

    # ---------------------------------------------------------------- one connection

    def _open(self, receive_buffer_bytes: int) -> tuple[socket.socket, FrameReader]:
        sock = socket.socket()
        sock.settimeout(OPEN_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.connect(("127.0.0.1", self._port))
        sock.sendall(request_head())
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(READ_BYTES)
            assert data, "hung up in the handshake"
            head += data
        assert head.startswith(b"HTTP/1.1 101"), head
        self._send(sock, ("hello", {"v": 1}))
        frames = FrameReader()
        self._receive(sock, frames, "welcome")
        return sock, frames

    @staticmethod
    def _send(sock: socket.socket, message: Message) -> None:
        sock.sendall(client_frame(message))

    @staticmethod
    def _receive(sock: socket.socket, frames: FrameReader, wanted: str) -> Body:
        """Read up to a message; only pings may come in between."""
        found: dict[str, Any] | None = None
        while found is None:
            data = sock.recv(READ_BYTES)
            assert data, f"hung up before {wanted}"
            for kind, body in frames.feed(data):
                assert kind in {wanted, "ping"}, (kind, body)
                found = body if kind == wanted else found
        return found
