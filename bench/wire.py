"""What the load generator says and understands: masked frames out, cached decoding in.

A *dialect* is one target's language. `SyncdDialect` speaks the protocol in full; `RawDialect` speaks to floors and rivals, whose
payloads begin with an eight-byte sequence number. All subscribers of a channel get the same bytes, so a chunk is decoded once and
looked up by its bytes afterwards: every delivery of every connection is verified, at the price of one dictionary lookup.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgpack

__all__ = ["DATA_BYTES", "Chunk", "Dialect", "RawDialect", "SyncdDialect", "masked", "split_frames"]

DATA_BYTES = 128
"""Size of `data` in every scenario, as in the issue."""

_MASK = b"\x37\xfa\x21\x3d"
_LONG_MASK = int.from_bytes(_MASK * 16_384, "big")
_LONG_MASK_BITS = 8 * 65_536
_MARK = bytes(range(64, 64 + DATA_BYTES - 8))
"""What follows the number in `data`, compared in full on arrival."""


class Mismatch(AssertionError):
    """The target said something it must not say: missing, doubled, damaged or refused."""


def masked(payload: bytes, opcode: int = 2) -> bytes:
    """Return a client frame with a fixed, non-trivial mask."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size)) + _MASK
    else:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big") + _MASK
    mask = _LONG_MASK >> (_LONG_MASK_BITS - 8 * size)
    return head + (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Split unmasked server frames into (opcode, payload); returns the bytes consumed too."""
    frames: list[tuple[int, bytes]] = []
    at, end = 0, len(data)
    while end - at >= 2:
        size, start = data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[start : start + 2], "big"), start + 2
        elif size == 127:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if start + size > end:
            break
        frames.append((data[at] & 0x0F, data[start : start + size]))
        at = start + size
    return frames, at


@dataclass(slots=True)
class Chunk:
    """What one `recv` held."""

    consumed: int = 0
    prev: int = -1
    """Position before its first event; -1 without events."""
    last: int = -1
    oks: list[int] = field(default_factory=list)
    """Request ids answered ok."""
    positions: list[tuple[str, int]] = field(default_factory=list)
    """(epoch, offset) of each ok that has one."""
    subscribed: dict[str, int] = field(default_factory=dict)
    """Channel to offset."""
    epochs: dict[str, str] = field(default_factory=dict)
    """Channel to epoch."""
    is_welcome: bool = False
    pings: int = 0
    """How many answers `pong` are owed."""

    def add_event(self, prev: int, offset: int) -> None:
        if self.last == -1:
            self.prev = prev
        elif prev != self.last:
            raise Mismatch(f"event {offset} follows {self.last} but says prev {prev}")
        if offset != prev + 1:
            raise Mismatch(f"event {offset} says prev {prev}")
        self.last = offset


class Dialect(Protocol):
    """How to speak to one kind of target."""

    is_websocket: bool
    has_ok: bool
    """Publications are answered."""

    def request_head(self, role: str) -> bytes: ...

    def greeting(self, channel: str | None) -> bytes: ...

    def is_greeted(self, chunk: Chunk, channel: str | None) -> bool: ...

    def decode(self, data: bytes) -> Chunk: ...

    def publish(self, channel: str, number: int, *, uid: str | None = None) -> bytes: ...

    def pong(self) -> bytes: ...


def _upgrade(path: str, protocol: str | None) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
    if protocol:
        lines.append(f"Sec-WebSocket-Protocol: {protocol}")
    return "\r\n".join([*lines, "", ""]).encode()


class SyncdDialect:
    """The protocol of protocol/messages.toml."""

    is_websocket = True
    has_ok = True

    def __init__(self) -> None:
        self._heads: dict[str, bytes] = {}
        self._pack = msgpack.Packer(use_bin_type=True).pack
        self._hello = masked(self._pack(["hello", {"v": 1}]))
        self._pong = masked(self._pack(["pong", {}]))

    def request_head(self, role: str) -> bytes:
        return _upgrade("/ws", "syncd.v1")

    def greeting(self, channel: str | None) -> bytes:
        """Hello and subscribe in one go."""
        if channel is None:
            return self._hello
        return self._hello + masked(self._pack(["subscribe", {"id": 1, "channel": channel}]))

    def is_greeted(self, chunk: Chunk, channel: str | None) -> bool:
        return chunk.is_welcome if channel is None else channel in chunk.subscribed

    def publish(self, channel: str, number: int, *, uid: str | None = None) -> bytes:
        """Publication `number` on a channel; its number is its request id and begins its data."""
        body: dict[str, Any] = {"id": number, "channel": channel}
        body["data"] = number.to_bytes(8, "big") + _MARK
        if uid is not None:
            body["uid"] = uid
        return masked(self._pack(["publish", body]))

    def pong(self) -> bytes:
        return self._pong

    def decode(self, data: bytes) -> Chunk:
        frames, consumed = split_frames(data)
        chunk = Chunk(consumed)
        for opcode, payload in frames:
            if opcode == 9:
                chunk.pings += 1
            elif opcode != 2:
                raise Mismatch(f"frame of opcode {opcode}: {payload[:80]!r}")
            else:
                unpacker = msgpack.Unpacker(None, raw=False)
                unpacker.feed(payload)
                for kind, body in unpacker:
                    _take(chunk, kind, body)
        return chunk


def _take(chunk: Chunk, kind: str, body: dict[str, Any]) -> None:
    if kind == "event":
        if body["data"][8:] != _MARK:
            raise Mismatch(f"data of event {body['offset']} is damaged")
        chunk.add_event(body["prev"], body["offset"])
    elif kind == "ok":
        chunk.oks.append(body["id"])
        if "position" in body:
            chunk.positions.append((body["position"]["epoch"], body["position"]["offset"]))
    elif kind == "subscribed":
        position = body.get("position", {"epoch": "", "offset": 0})
        chunk.subscribed[body["channel"]] = position["offset"]
        chunk.epochs[body["channel"]] = position["epoch"]
    elif kind == "welcome":
        chunk.is_welcome = True
    elif kind == "ping":
        chunk.pings += 1
    elif kind == "outcome" and body["status"] == "ok":
        chunk.oks.append(body["mid"])
    elif kind in {"error", "outcome", "out_of_order", "bye", "lagged", "unsubscribed", "reset"}:
        raise Mismatch(f"{kind}: {body}")


class RawDialect:
    """Frames whose payload is an eight-byte number and padding up to `payload_bytes`.

    Over WebSocket (rivals: paths `/sub` and `/pub`) or, for floors, over bare TCP after one line `role channel` and a `+`.
    """

    has_ok = False

    def __init__(self, payload_bytes: int, *, is_websocket: bool) -> None:
        self.is_websocket = is_websocket
        self._pad = bytes(payload_bytes - 8)
        self._next: dict[str, int] = {}

    def request_head(self, role: str) -> bytes:
        return _upgrade(f"/{role}", None) if self.is_websocket else f"{role} ".encode()

    def greeting(self, channel: str | None) -> bytes:
        return b"" if self.is_websocket else f"{channel or '-'}\n".encode()

    def is_greeted(self, chunk: Chunk, channel: str | None) -> bool:
        return True

    def publish(self, channel: str, number: int, *, uid: str | None = None) -> bytes:
        """The next number of its channel, so that each channel is dense."""
        sequence = self._next.get(channel, 0) + 1
        self._next[channel] = sequence
        payload = sequence.to_bytes(8, "big") + self._pad
        if self.is_websocket:
            return masked(payload)
        return int(channel.rpartition(":")[2]).to_bytes(4, "big") + payload[:8]

    def pong(self) -> bytes:
        return masked(b"", opcode=10)

    def decode(self, data: bytes) -> Chunk:
        frames, consumed = split_frames(data)
        chunk = Chunk(consumed)
        for opcode, payload in frames:
            if opcode == 2:
                number = int.from_bytes(payload[:8], "big")
                chunk.add_event(number - 1, number)
            else:
                chunk.pings += opcode == 9
        return chunk
