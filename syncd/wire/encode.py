"""Encoders for everything the server says. Pure; each returns one encoded message `[type, body]`.

Event bodies are spliced from parts that are encoded once: a channel's prefix, two integers, and the event's *record* (name,
data, key, by, at_ms). A record is what the log stores: its first byte counts its pairs, the rest are the pairs, so that an
event is delivered live, recovered and read from history without ever being decoded again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from syncd.errors import RebuildRunning, SyncdError
from syncd.ids import ChannelName, Epoch

__all__ = [
    "EventPrefix",
    "array_header",
    "bye",
    "error",
    "event_body",
    "event_message",
    "event_record",
    "lagged",
    "mark",
    "message",
    "ok",
    "ok_events",
    "pack",
    "pack_uint",
    "subscribed",
]

_PACKER = msgpack.Packer(use_bin_type=True, strict_types=False, autoreset=True)
pack: Callable[[object], bytes] = _PACKER.pack
"""Encode one value. Not re-entrant, which a single-threaded loop does not need."""


MAX_RECORD_PAIRS = 5
"""name, data, key, by, at_ms."""


pack_uint: Callable[[int], bytes] = pack
"""Encode a non-negative integer in its shortest form."""


def message(kind: str, body: dict[str, Any]) -> bytes:
    """Encode any server message; the slow and plain way."""
    return pack([kind, body])


# ------------------------------------------------------------------------------------------------ events

_EVENT = b"\x92" + pack("event")
_POSITION_EPOCH = pack("position") + b"\x82" + pack("epoch")
_PREV = pack("prev")
_OFFSET = pack("offset")
_DATA = pack("data")
_NAME = pack("name")
_KEY = pack("key")
_BY_CLIENT = pack("by") + b"\x81" + pack("client")
_AT_MS = pack("at_ms")
_THREE_PAIRS = b"\x03" + _DATA


class EventPrefix:
    """The first pairs of every event body of one channel and epoch, encoded once."""

    __slots__ = ("heads", "last", "num_pairs", "packed_last", "pairs")

    def __init__(self, channel: ChannelName, epoch: Epoch | None, *, has_prev: bool = True) -> None:
        """Encode them; `has_prev` False leaves `prev` out, as on latest channels, where events may be skipped."""
        pairs = pack("channel") + pack(channel)
        if epoch is not None:
            pairs += pack("epoch") + pack(epoch) + (_PREV if has_prev else _OFFSET)
        self.num_pairs = 1 if epoch is None else 4 if has_prev else 3
        self.pairs = pairs
        self.heads = [
            _EVENT + bytes((0x80 | (self.num_pairs + num_pairs),)) + pairs
            for num_pairs in range(MAX_RECORD_PAIRS + 1)
        ]
        """Beginning of an event message, by the number of pairs in its record."""
        self.last = 0
        """Offset of the event encoded last: the next one's `prev`."""
        self.packed_last = pack(0)


_packed_time = (0, b"\x00")


def _pack_time(at_ms: int) -> bytes:
    """Encode a time; events of one tick share it."""
    global _packed_time  # noqa: PLW0603 - a cache of one
    if _packed_time[0] != at_ms:
        _packed_time = (at_ms, pack_uint(at_ms))
    return _packed_time[1]


def event_record(
    data: bytes, at_ms: int, *, name: str | None, key: str | None, client: str | None
) -> bytes:
    """Encode the part of an event that does not depend on its position; `data` is encoded already."""
    if name is None and key is None and client is not None:
        author = _BY_CLIENT + pack(client)
        return b"".join((_THREE_PAIRS, data, _AT_MS, _pack_time(at_ms), author))
    num_pairs = 2
    parts = [b"", _DATA, data, _AT_MS, _pack_time(at_ms)]
    if name is not None:
        num_pairs += 1
        parts += (_NAME, pack(name))
    if key is not None:
        num_pairs += 1
        parts += (_KEY, pack(key))
    if client is not None:
        num_pairs += 1
        parts += (_BY_CLIENT, pack(client))
    parts[0] = bytes((num_pairs,))
    return b"".join(parts)


def event_body(prefix: EventPrefix, offset: int, record: bytes) -> bytes:
    """Encode an event body; without an epoch in `prefix` the offset is left out."""
    header = bytes((0x80 | (prefix.num_pairs + record[0]),))
    if prefix.num_pairs == 1:
        return header + prefix.pairs + record[1:]
    if prefix.num_pairs == 3:
        return header + prefix.pairs + pack_uint(offset) + record[1:]
    return b"".join(
        (
            header,
            prefix.pairs,
            pack_uint(offset - 1),
            _OFFSET,
            pack_uint(offset),
            record[1:],
        )
    )


def event_message(prefix: EventPrefix, offset: int, record: bytes) -> bytes:
    """Encode an `event` message."""
    head = prefix.heads[record[0]]
    if prefix.num_pairs == 4:
        prev = prefix.packed_last if prefix.last == offset - 1 else pack(offset - 1)
        prefix.last, prefix.packed_last = offset, pack(offset)
        return b"".join((head, prev, _OFFSET, prefix.packed_last, record[1:]))
    if prefix.num_pairs == 1:
        return head + record[1:]
    return head + pack_uint(offset) + record[1:]


# ------------------------------------------------------------------------------------------------ replies

_OK_1 = b"\x92" + pack("ok") + b"\x81" + pack("id")
_OK_2 = b"\x92" + pack("ok") + b"\x82" + pack("id")
_OK_3 = b"\x92" + pack("ok") + b"\x83" + pack("id")
_EVENTS = pack("events")


@functools.lru_cache(maxsize=1024)
def _position_head(epoch: Epoch) -> bytes:
    return _POSITION_EPOCH + pack(epoch) + _OFFSET


def _position(epoch: Epoch, offset: int) -> bytes:
    return _position_head(epoch) + pack(offset)


def array_header(length: int) -> bytes:
    """Encode the head of an array."""
    if length < 16:
        return bytes((0x90 | length,))
    if length < 0x10000:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")


def ok(request_id: int, epoch: Epoch | None = None, offset: int = 0) -> bytes:
    """Encode `ok {id, position?}`."""
    if epoch is None:
        return _OK_1 + pack_uint(request_id)
    return b"".join((_OK_2, pack(request_id), _position_head(epoch), pack(offset)))


def ok_events(request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]) -> bytes:
    """Encode `ok {id, position, events}` from encoded event bodies."""
    return b"".join(
        (
            _OK_3,
            pack_uint(request_id),
            _position(epoch, offset),
            _EVENTS,
            array_header(len(bodies)),
            *bodies,
        )
    )


def error(request_id: int | None, failure: SyncdError) -> bytes:
    """Encode `error`."""
    body: dict[str, Any] = {} if request_id is None else {"id": request_id}
    body["code"] = failure.code.value
    body["message"] = failure.message
    body["retryable"] = failure.retryable
    if failure.after_ms is not None:
        body["after_ms"] = failure.after_ms
    if isinstance(failure, RebuildRunning):
        body["job"] = failure.job
    return message("error", body)


_SUBSCRIBED = b"\x92" + pack("subscribed")
_CHANNEL = pack("channel")
_WAS_RECOVERING = pack("was_recovering")
_RECOVERED = pack("recovered")
_BOOL = (b"\xc2", b"\xc3")


def subscribed(
    request_id: int | None,
    channel: ChannelName,
    epoch: Epoch | None,
    offset: int,
    *,
    was_recovering: bool,
    recovered: bool,
    bodies: Sequence[bytes] = (),
) -> bytes:
    """Encode `subscribed` from encoded event bodies."""
    num_pairs = 4 + (request_id is not None) + (epoch is not None)
    parts = [_SUBSCRIBED, bytes((0x80 | num_pairs,))]
    if request_id is not None:
        parts += (pack("id"), pack_uint(request_id))
    parts += (_CHANNEL, pack(channel))
    if epoch is not None:
        parts.append(_position(epoch, offset))
    parts += (_WAS_RECOVERING, _BOOL[was_recovering], _RECOVERED, _BOOL[recovered])
    parts += (_EVENTS, array_header(len(bodies)), *bodies)
    return b"".join(parts)


def mark(channel: ChannelName, epoch: Epoch, offset: int) -> bytes:
    """Encode `mark`."""
    return message("mark", {"channel": channel, "position": {"epoch": epoch, "offset": offset}})


def lagged(channel: ChannelName, epoch: Epoch | None, offset: int) -> bytes:
    """Encode `lagged`."""
    body: dict[str, Any] = {"channel": channel}
    if epoch is not None:
        body["position"] = {"epoch": epoch, "offset": offset}
    return message("lagged", body)


def bye(code: int, reason: str, *, reconnect: bool, after_ms: int = 0) -> bytes:
    """Encode `bye`."""
    return message(
        "bye",
        {"code": code, "reason": reason, "reconnect": reconnect, "after_ms": after_ms},
    )
