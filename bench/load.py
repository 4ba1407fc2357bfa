"""The load generator: one epoll over all connections, busy while work is outstanding, every delivery verified.

Runs in a process of its own on the load core (bench/worker.py). A loop that sleeps would add to the cost of the server under test,
so it polls without waiting while anything is outstanding.
"""

from __future__ import annotations

import array
import gc
import time
from collections.abc import Callable

from bench.dial import DRAIN_S, EVENTS, READ_BYTES, Conn, Dialer
from bench.process import Meter
from bench.wire import Chunk, Dialect, Mismatch

__all__ = ["Load"]

_CACHE_ITEMS = 512
_ECHOED = Chunk()


class Load(Dialer):
    """Connections to one target and the loops over them."""

    def __init__(self, dialect: Dialect, port: int, pid: int) -> None:
        super().__init__(dialect, port, pid)
        self._cache: dict[bytes, Chunk] = {}
        self._number = 0
        self._unanswered: set[tuple[int, int]] = set()
        """Descriptors of publishers, and the numbers of what is published over them."""
        self._completed = self._chunks = self._bytes = 0
        gc.disable()

    # -------------------------------------------------------------------------------- fan-out

    def fanout(self, duration_s: float, window: int, num_publishers: int = 1) -> dict[str, float]:
        """Keep `window` publications outstanding, over the channels in turn; one is done when all have it.

        Several servers that know nothing of each other deliver as one when a publisher on each says the same: `num_publishers`.
        """
        channels = list(self._tracks)
        base, sent = self._completed, 0
        meter = self._meter()
        deadline = time.perf_counter() + duration_s
        while time.perf_counter() < deadline:
            room = window - (sent - (self._completed - base))
            if room:
                names = [channels[(sent + index) % len(channels)] for index in range(room)]
                self._publish(names, num_publishers)
                sent += room
            self._receive(0)
        self._drain(lambda: self._completed - base >= sent)
        figures = self._figures(meter)
        figures["publications"] = sent
        figures["deliveries"] = sent * len(self._subscribers) / len(channels)
        return figures

    def paced(self, duration_s: float, per_s: float) -> dict[str, float]:
        """Publish at an even pace to one channel; returns percentiles of delivery in milliseconds."""
        (channel,) = self._tracks
        track = self._tracks[channel]
        base, start, sent = self._completed, track.low, 0
        samples = array.array("d")
        sent_at: list[float] = []
        meter = self._meter()
        begun = time.perf_counter()
        total = int(duration_s * per_s)
        while self._completed - base < total:
            now = time.perf_counter()
            if sent < total and now >= begun + sent / per_s:
                sent_at.append(now)
                self._publish([channel])
                sent += 1
            self._receive(0, lambda old, new: _sample(samples, sent_at, old - start, new - start))
            if now > begun + duration_s + DRAIN_S:
                raise Mismatch(
                    f"{total - (self._completed - base)} publications not delivered to all"
                )
        self._drain(lambda: True)
        figures = self._figures(meter)
        ordered = sorted(samples)
        if len(ordered) != total * len(self._subscribers):
            raise Mismatch(f"{len(ordered)} deliveries instead of {total * len(self._subscribers)}")
        for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)):
            figures[name] = 1000 * ordered[int(part * (len(ordered) - 1))]
        figures["max_ms"] = 1000 * ordered[-1]
        figures["publications"] = total
        figures["deliveries"] = len(ordered)
        return figures

    def _publish(self, channels: list[str], num_publishers: int = 1) -> None:
        frames = []
        for channel in channels:
            self._number += 1
            frames.append(self._dialect.publish(channel, self._number))
        data = b"".join(frames)
        numbers = range(self._number - len(channels) + 1, self._number + 1)
        for publisher in self._publishers[:num_publishers]:
            if self._dialect.has_ok:
                self._unanswered.update((publisher.fd, number) for number in numbers)
            if publisher.send(data) != len(data):
                raise Mismatch("the publisher's socket is full")

    def publish_unseen(self, channels: list[str]) -> None:
        """Publish to channels that this load generator does not watch, and wait for the answers."""
        self._publish(channels)
        self._drain(lambda: True)

    def _receive(self, timeout_s: float, sample: Callable[[int, int], None] | None = None) -> None:
        """Read what is ready, once per connection, and verify it."""
        by_fd, cache = self._by_fd, self._cache
        for fd, _ in self._epoll.poll(timeout_s, EVENTS):
            conn = by_fd[fd]
            data = conn.recv(READ_BYTES)
            if not data:
                raise Mismatch("connection closed by the server")
            self._chunks += 1
            self._bytes += len(data)
            if conn.tail:
                data = conn.tail + data
            chunk = cache.get(data)
            if chunk is None:
                chunk = self._decode(data)
            conn.tail = data[chunk.consumed :] if chunk.consumed != len(data) else b""
            if chunk.last >= 0:
                if chunk.prev != conn.position or conn.track is None:
                    raise Mismatch(f"at {conn.position} came events {chunk.prev + 1}-{chunk.last}")
                conn.position = chunk.last
                self._completed += conn.track.advance(chunk.prev, chunk.last)
                if sample is not None:
                    sample(chunk.prev, chunk.last)
            if chunk.oks or chunk.pings:
                self._answered(conn, chunk)

    def _answered(self, conn: Conn, chunk: Chunk) -> None:
        for number in chunk.oks:
            self._unanswered.remove((conn.fd, number))
        for _ in range(chunk.pings):
            conn.send(self._dialect.pong())

    def _decode(self, data: bytes) -> Chunk:
        chunk = self._dialect.decode(data)
        if len(self._cache) >= _CACHE_ITEMS:
            self._cache.clear()
        self._cache[data] = chunk
        return chunk

    def _meter(self) -> Meter:
        self._chunks = self._bytes = 0
        return Meter(self._pid)

    def _figures(self, meter: Meter) -> dict[str, float]:
        return {**meter.read(), "chunks": self._chunks, "bytes": self._bytes}

    def _drain(self, is_done: Callable[[], bool]) -> None:
        """Go on until everything is delivered and answered, then see that nothing more comes."""
        deadline = time.perf_counter() + DRAIN_S
        while not is_done() or self._unanswered:
            self._receive(0)
            if time.perf_counter() > deadline:
                raise Mismatch(
                    f"missing after {DRAIN_S} s: {len(self._unanswered)} answers, or deliveries"
                )
        self._receive(0)

    # -------------------------------------------------------------------------------- requests

    def requests(
        self, duration_s: float, channels: list[str], *, durable: bool = False
    ) -> dict[str, float]:
        """One publication outstanding a publisher, each in its channel: publish, ok, publish.

        Durable ones carry a `uid`, and the positions in the answers must be dense per channel, none twice.
        """
        loop = _Requests(self._dialect, channels, durable=durable)
        for index, conn in enumerate(self._publishers):
            conn.channel, conn.position = channels[index % len(channels)], self._number
        self._number += 1_000_000
        return self._closed_loop(duration_s, loop.send, self._read_ok, loop)

    def echo(self, duration_s: float, frame: bytes) -> dict[str, float]:
        """One frame outstanding a connection, which comes back as it went."""

        def send(conn: Conn) -> None:
            conn.send(frame)

        def read(conn: Conn, data: bytes) -> Chunk | None:
            if len(data) < len(frame):
                conn.tail = data
                return None
            if data != frame:
                raise Mismatch("echo differs")
            return _ECHOED

        return self._closed_loop(duration_s, send, read, None)

    def _read_ok(self, conn: Conn, data: bytes) -> Chunk | None:
        chunk = self._cache.get(data) or self._decode(data)
        conn.tail = data[chunk.consumed :] if chunk.consumed != len(data) else b""
        for _ in range(chunk.pings):
            conn.send(self._dialect.pong())
        if not chunk.oks:
            return None
        if chunk.oks != [conn.position]:
            raise Mismatch(f"publication {conn.position} answered by {chunk.oks}")
        return chunk

    def _closed_loop(
        self,
        duration_s: float,
        send: Callable[[Conn], None],
        read: Callable[[Conn, bytes], Chunk | None],
        loop: _Requests | None,
    ) -> dict[str, float]:
        """One request outstanding a publisher until the time is over, then wait for the last answers."""
        by_fd, poll = self._by_fd, self._epoll.poll
        meter = self._meter()
        for conn in self._publishers:
            send(conn)
        until = time.perf_counter() + duration_s
        outstanding, done = len(self._publishers), 0
        while outstanding:
            now = time.perf_counter()
            if now > until + DRAIN_S:
                raise Mismatch(f"{outstanding} requests unanswered")
            for fd, _ in poll(0, EVENTS):
                conn = by_fd[fd]
                got = conn.recv(READ_BYTES)
                if not got:
                    raise Mismatch("connection closed by the server")
                chunk = read(conn, conn.tail + got if conn.tail else got)
                if chunk is None:
                    continue
                if chunk.positions and loop is not None:
                    loop.offsets[conn.channel or ""].append(chunk.positions[0][1])
                done += 1
                if now < until:
                    send(conn)
                else:
                    outstanding -= 1
        figures = self._figures(meter)
        if loop is not None:
            loop.check(done)
        figures["requests"] = done
        return figures

    def idle(self, duration_s: float) -> dict[str, float]:
        """Only answer pings."""
        meter = self._meter()
        deadline = time.perf_counter() + duration_s
        while (left := deadline - time.perf_counter()) > 0:
            self._receive(left)
        return self._figures(meter)


def _sample(samples: array.array[float], sent_at: list[float], old: int, new: int) -> None:
    now = time.perf_counter()
    for index in range(old, new):
        samples.append(now - sent_at[index])


class _Requests:
    """The publications of one closed loop and where the server says they stand."""

    def __init__(self, dialect: Dialect, channels: list[str], *, durable: bool) -> None:
        self.offsets: dict[str, list[int]] = {name: [] for name in channels}
        self._publish = dialect.publish
        self._uid = f"{time.time_ns():x}-" if durable else None

    def send(self, conn: Conn) -> None:
        """Send a publisher's next publication."""
        conn.position += 1
        uid = None if self._uid is None else f"{self._uid}{conn.fd}-{conn.position}"
        conn.send(self._publish(conn.channel or "", conn.position, uid=uid))

    def check(self, num_answered: int) -> None:
        """See that durable events are dense per channel, none missing, none twice."""
        if self._uid is None:
            return
        if sum(map(len, self.offsets.values())) != num_answered:
            raise Mismatch("an ok of a durable publication has no position")
        for channel, offsets in self.offsets.items():
            offsets.sort()
            if offsets and offsets != list(range(offsets[0], offsets[-1] + 1)):
                raise Mismatch(f"{channel}: offsets of acknowledged events are not dense")
