"""The load generator for several nodes: clients of a node that died come back to another. As `bench.load_state`, whose loops it uses."""

from __future__ import annotations

import select
import time
from typing import Any

import msgpack

from bench.dial import EVENTS, READ_BYTES, Conn
from bench.load_state import StateLoad
from bench.wire import Mismatch, masked, split_frames

__all__ = ["NodesLoad"]

_pack = msgpack.Packer(use_bin_type=True).pack
_LIVE_S = 60.0
"""Four times what is promised: then the storm has failed, whatever it measures."""


class _Back:
    """A client that comes back, and what it still waits for."""

    __slots__ = ("conn", "epoch", "is_upgraded", "since")

    def __init__(self, conn: Conn, epoch: str, since: int) -> None:
        self.conn, self.epoch, self.since = conn, epoch, since
        self.is_upgraded = False


class NodesLoad(StateLoad):
    """Clients that know their positions."""

    def _read_messages(self, conn: Conn) -> list[Any]:
        data = conn.recv(READ_BYTES)
        if not data:
            raise Mismatch("connection closed by the node that is alive")
        data = conn.tail + data
        frames, consumed = split_frames(data)
        conn.tail = data[consumed:]
        found: list[Any] = []
        for opcode, payload in frames:
            if opcode == 2:
                unpacker = msgpack.Unpacker(None, raw=False)
                unpacker.feed(payload)
                found += unpacker
        return found

    def come_back(self, port: int, num_missed: int, within_s: float) -> dict[str, float]:
        """Dial another node with every subscriber, evenly over `within_s`, and recover: each gets its missed events, and is live.

        Returns:
            `live_s`, since the first dial.

        Raises:
            Mismatch: a client was not recovered, or its events were not the ones it missed.
        """
        channels = [(conn.channel, conn.epoch, conn.position) for conn in self._subscribers]
        self.close_all()
        self._dialled = port
        waiting: dict[int, _Back] = {}
        begun = time.perf_counter()
        num_dialled = num_live = 0
        while num_live < len(channels):
            elapsed = time.perf_counter() - begun
            due = min(int(elapsed / within_s * len(channels)) + 1, len(channels))
            for channel, epoch, since in channels[num_dialled:due]:
                conn = self._dial(channel)
                waiting[conn.fd] = _Back(conn, epoch, since)
            num_dialled = due
            for fd, _ in self._epoll.poll(0.002, EVENTS):
                num_live += self._step(waiting[fd], num_missed)
            if elapsed > _LIVE_S:
                raise Mismatch(f"only {num_live} of {len(channels)} clients are live again")
        self._dialled = self._port
        return {"live_s": time.perf_counter() - begun}

    def _step(self, back: _Back, num_missed: int) -> bool:
        """Go on with one client; True once it is live."""
        conn = back.conn
        if conn.state == 0:
            conn.state = 1
            self._epoll.modify(conn.fd, select.EPOLLIN)
            conn.send(self._dialect.request_head("sub"))
            return False
        if not back.is_upgraded:
            back.is_upgraded = True
            head, _, conn.tail = conn.recv(READ_BYTES).partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise Mismatch(f"refused: {head[:300]!r}")
            position = {"epoch": back.epoch, "offset": back.since}
            body = {"id": 1, "channel": conn.channel, "position": position}
            conn.send(masked(_pack(["hello", {"v": 1}]) + _pack(["subscribe", body])))
            return False
        for kind, body in self._read_messages(conn):
            if kind == "subscribed":
                self._check(back, body, num_missed)
                return True
            if kind not in ("welcome", "ping"):
                raise Mismatch(f"{kind}: {body}")
        return False

    @staticmethod
    def _check(back: _Back, body: dict[str, Any], num_missed: int) -> None:
        offsets = [event["offset"] for event in body["events"]]
        wanted = list(range(back.since + 1, back.since + 1 + num_missed))
        if not body["recovered"] or offsets != wanted:
            raise Mismatch(f"{back.conn.channel} from {back.since}: {offsets}, {body['recovered']}")
