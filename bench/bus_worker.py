"""One side of the bus in a process of its own: `python -m bench.bus_worker ROLE PORT COUNT`.

Roles: `publish` (through `RedisBus`), `receive` (through `RedisBus`), `redis-py` (its own pub/sub, hiredis parsing), `bare` (a blocking socket
and `hiredis`, nothing else: the floor). Receivers print `ready` when they are subscribed, and all print one line of JSON at the end:
CPU from the first message to the last.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence

import hiredis
import redis
import structlog
import trio

from syncd.bus.redis_bus import RedisBus
from syncd.bus.settings import BusSettings
from syncd.redis_address import parse_redis_url

TOPICS = [b"{bench}:b:orders/%d" % number for number in range(10)]
PAYLOAD_BYTES = 200
_A_TICK = 100
_HALF_QUEUE_BYTES = 500_000
_READ_BYTES = 131_072


class Meter:
    """Counts messages, and the CPU and time between the first batch and the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._count = count
        self._started: tuple[float, float] | None = None

    def add(self, count: int) -> bool:
        """Whether all have come."""
        if self._started is None:
            self._started = time.process_time(), time.perf_counter()
            self._count -= count  # their work was before
        self.left -= count
        return self.left <= 0

    def tell(self) -> None:
        assert self._started is not None
        assert self.left == 0, "lost, or doubled"
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        figures = {
            "messages": self._count,
            "cpu_s": cpu_s - self._started[0],
            "wall_s": wall_s - self._started[1],
        }
        print(json.dumps(figures), flush=True)


class Receiver:
    """`BusEvents` that count."""

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self.meter = Meter(count)
        self._done = done
        self._num_gaps = 0

    def on_messages(self, batch: list[tuple[bytes, bytes]]) -> None:
        if self.meter.add(len(batch)):
            self._done()

    def on_gap(self, topics: Sequence[bytes]) -> None:
        self._num_gaps += len(topics)
        assert self._num_gaps <= len(TOPICS), "the link was lost"
        if self._num_gaps == len(TOPICS):
            print("ready", flush=True)

    def on_link(self, *, is_up: bool) -> None:
        """Nothing to do."""


async def receive(port: int, count: int) -> None:
    done = trio.Event()
    receiver = Receiver(count, done.set)
    bus = RedisBus(parse_redis_url(f"redis://127.0.0.1:{port}"), receiver)
    bus.want(TOPICS)
    async with trio.open_nursery() as nursery:
        await nursery.start(bus.run)
        await done.wait()
        receiver.meter.tell()
        nursery.cancel_scope.cancel()


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - counts, which nobody announces
        await trio.sleep(0.001)


async def publish(port: int, count: int) -> None:
    """As fast as answers allow, a hundred a tick."""
    bus = RedisBus(
        parse_redis_url(f"redis://127.0.0.1:{port}"),
        Receiver(0, lambda: None),
        settings=BusSettings(max_outstanding=5000, queue_bytes=2 * _HALF_QUEUE_BYTES),
    )
    payload = b"x" * PAYLOAD_BYTES
    async with trio.open_nursery() as nursery:
        await nursery.start(bus.run)
        await _until(lambda: bus.statistics().is_up)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for number in range(count):
            while not bus.publish(TOPICS[number % len(TOPICS)], payload):
                await _until(lambda: bus.statistics().queue_bytes < _HALF_QUEUE_BYTES)
            if number % _A_TICK == 0:
                await trio.lowlevel.checkpoint()
        await _until(lambda: bus.statistics().num_published >= count)
        figures = {
            "messages": count,
            "cpu_s": time.process_time() - cpu_s,
            "wall_s": time.perf_counter() - wall_s,
        }
        print(json.dumps(figures), flush=True)
        nursery.cancel_scope.cancel()


def receive_redis_py(port: int, count: int) -> None:
    meter = Meter(count)
    pubsub = redis.Redis(port=port).pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*TOPICS)
    for _ in TOPICS:
        pubsub.get_message(timeout=5.0)
    print("ready", flush=True)
    is_done = False
    while not is_done:
        message = pubsub.get_message(timeout=5.0)
        if message is not None:
            is_done = meter.add(1)
    meter.tell()


def receive_bare(port: int, count: int) -> None:
    meter, reader, end = Meter(count), None, object()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(hiredis.pack_command((b"SUBSCRIBE", *TOPICS)))
        reader = hiredis.Reader(notEnoughData=end)
        num_confirmed = 0
        is_done = False
        while not is_done:
            reader.feed(sock.recv(_READ_BYTES))
            replies = list(iter(reader.gets, end))
            if num_confirmed < len(TOPICS):
                num_confirmed += len(replies)
                if num_confirmed == len(TOPICS):
                    print("ready", flush=True)
            else:
                is_done = meter.add(len(replies))
        meter.tell()


def main() -> None:
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # what is printed is read
    role, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    match role:
        case "publish":
            trio.run(publish, port, count)
        case "receive":
            trio.run(receive, port, count)
        case "redis-py":
            receive_redis_py(port, count)
        case _:
            receive_bare(port, count)


if __name__ == "__main__":
    main()
