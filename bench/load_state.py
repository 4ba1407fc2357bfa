"""The load generator for mutations, reads and watches. As `bench.load`, whose loops it uses."""

from __future__ import annotations

import array
import random
import socket
import time
from collections.abc import Iterator

import msgpack

from bench.dial import DRAIN_S, EVENTS, READ_BYTES, Conn
from bench.load import Load
from bench.wire import Chunk, Mismatch, masked, split_frames

__all__ = ["StateLoad"]

_NUM_ORDERS = 20_000
_TOUCH_S = 0.5
_pack = msgpack.Packer(use_bin_type=True).pack


class StateLoad(Load):
    """Clients that mutate, read and watch; publishers of `Load` are the clients."""

    _untouched: list[int] = []  # noqa: RUF012 - replaced, never changed
    """Numbers of orders to mutate before any are chosen by chance."""

    # -------------------------------------------------------------------------------- mutations

    def mutations(self, duration_s: float) -> dict[str, float]:
        """One mutation outstanding a client: mutate, outcome, mutate. Each outcome must be the client's next, and ok."""
        return self._closed_loop(duration_s, self._mutate, self._read_outcome, None)

    def touch_orders(self) -> None:
        """Mutate every order once, so that none is made or paged in while something is measured."""
        self._untouched = [*range(_NUM_ORDERS)]
        while self._untouched:
            self.mutations(_TOUCH_S)

    def _mutate(self, conn: Conn) -> None:
        conn.position += 1
        number = self._untouched.pop() if self._untouched else random.randrange(_NUM_ORDERS)
        order = f"order-{number:06}"
        args = {"order_id": order, "carrier": f"carrier {conn.position}"}
        conn.send(
            masked(_pack(["mutate", {"mid": conn.position, "name": "orders.ship", "args": args}]))
        )

    def _read_outcome(self, conn: Conn, data: bytes) -> Chunk | None:
        chunk = self._dialect.decode(data)
        conn.tail = data[chunk.consumed :] if chunk.consumed != len(data) else b""
        for _ in range(chunk.pings):
            conn.send(self._dialect.pong())
        if not chunk.oks:
            return None
        if chunk.oks != [conn.position]:
            raise Mismatch(f"mutation {conn.position} answered by {chunk.oks}")
        return chunk

    def paced_mutations(self, duration_s: float, per_s: float) -> dict[str, float]:
        """Mutate at an even pace, a client after the other; returns percentiles until the outcome in milliseconds."""
        clients = self._publishers
        total, sent, done = int(duration_s * per_s), 0, 0
        sent_at: dict[int, float] = {}
        samples = array.array("d")
        meter = self._meter()
        begun = time.perf_counter()
        while done < total:
            now = time.perf_counter()
            while sent < total and now >= begun + sent / per_s:
                conn = clients[sent % len(clients)]
                if conn.fd in sent_at:
                    break  # its last one is not decided: the wait counts for that one
                sent_at[conn.fd] = begun + sent / per_s
                self._mutate(conn)
                sent += 1
            for conn, _chunk in self._outcomes():
                samples.append(time.perf_counter() - sent_at.pop(conn.fd))
                done += 1
            if now > begun + duration_s + DRAIN_S:
                raise Mismatch(f"{total - done} mutations without an outcome")
        return {**self._figures(meter), **percentiles(samples), "requests": done}

    def _outcomes(self) -> Iterator[tuple[Conn, Chunk]]:
        for fd, _ in self._epoll.poll(0, EVENTS):
            conn = self._by_fd[fd]
            got = conn.recv(READ_BYTES)
            if not got:
                raise Mismatch("connection closed by the server")
            chunk = self._read_outcome(conn, conn.tail + got)
            if chunk is None:
                conn.tail = conn.tail + got if not conn.tail else conn.tail
            else:
                yield conn, chunk

    # -------------------------------------------------------------------------------- reads

    def read_all(self, collection: str, keys: list[list[str]]) -> dict[str, float]:
        """Every client reads its keys at the same time; each answer must have a value for every key."""
        meter = self._meter()
        begun = time.perf_counter()
        for conn, wanted in zip(self._publishers, keys, strict=False):
            conn.send(masked(_pack(["read", {"id": 1, "collection": collection, "keys": wanted}])))
        left = {conn.fd: len(wanted) for conn, wanted in zip(self._publishers, keys, strict=False)}
        while left:
            for fd, _ in self._epoll.poll(1.0, EVENTS):
                conn = self._by_fd[fd]
                conn.tail += conn.recv(1 << 20)
                frames, consumed = split_frames(conn.tail)
                conn.tail = conn.tail[consumed:]
                for kind, body in _messages(frames):
                    if kind == "ok" and sum("value" in e for e in body["entries"]) == left[fd]:
                        del left[fd]
                    elif kind != "ping":
                        raise Mismatch(f"{kind}: {str(body)[:300]}")
            if time.perf_counter() - begun > DRAIN_S:
                raise Mismatch(f"{len(left)} reads unanswered")
        return {**self._figures(meter), "seconds": time.perf_counter() - begun}

    def read_one(self, collection: str, key: str) -> float:
        """Return one entry's value, a number."""
        conn = self._publishers[0]
        conn.send(masked(_pack(["read", {"id": 2, "collection": collection, "keys": [key]}])))
        conn.sock.setblocking(True)  # noqa: FBT003 - its only argument
        try:
            while True:
                conn.tail += conn.recv(READ_BYTES)
                frames, consumed = split_frames(conn.tail)
                conn.tail = conn.tail[consumed:]
                for kind, body in _messages(frames):
                    if kind == "ok":
                        return float(body["entries"][0]["value"])
        finally:
            conn.sock.setblocking(False)  # noqa: FBT003 - its only argument

    # -------------------------------------------------------------------------------- watches

    def watch(self, num_entries: int) -> dict[str, float]:
        """Watch all orders with one client: seconds until the first page, and until the last."""
        conn = self._publishers[0]
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        begun = time.perf_counter()
        conn.send(masked(_pack(["watch", {"id": 3, "collection": "orders", "all": True}])))
        first_s, count, more = 0.0, 0, True
        while more:
            if not self._epoll.poll(DRAIN_S, EVENTS):
                raise Mismatch(f"{count} of {num_entries} entries, then nothing")
            conn.tail += conn.recv(1 << 20)
            frames, consumed = split_frames(conn.tail)
            conn.tail = conn.tail[consumed:]
            for kind, body in _messages(frames):
                if kind in ("watched", "snapshot"):
                    first_s = first_s or time.perf_counter() - begun
                    count += len(body["entries"])
                    more = body["more"]
        if count != num_entries:
            raise Mismatch(f"{count} entries instead of {num_entries}")
        conn.send(masked(_pack(["unwatch", {"id": 4, "collection": "orders"}])))
        return {"first_s": first_s, "all_s": time.perf_counter() - begun}


def _messages(frames: list[tuple[int, bytes]]) -> Iterator[tuple[str, dict[str, object]]]:
    for _opcode, payload in frames:
        unpacker = msgpack.Unpacker(None, raw=False)
        unpacker.feed(payload)
        yield from unpacker


def percentiles(samples: array.array[float]) -> dict[str, float]:
    """Return `p50_ms`, `p99_ms` and `max_ms`."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        "p50_ms": 1000 * ordered[int(0.5 * last)],
        "p99_ms": 1000 * ordered[int(0.99 * last)],
        "max_ms": 1000 * ordered[-1],
    }
