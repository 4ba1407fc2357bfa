"""Encoders for what the server says about state: entries, snapshots, invalidations, and mutations that were not decided.

Values of entries are spliced as they are kept. Events of collections are in `encode_entries`, outcomes in `encode_outcomes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.wire.encode import array_header, message, pack, pack_uint

__all__ = [
    "entry",
    "invalidate",
    "ok_entries",
    "out_of_order",
    "snapshot",
    "undecided",
    "watched",
]

_KEY = b"\x83" + pack("key")
_VERSION = pack("version")
_VALUE = pack("value")
_DELETED = pack("deleted") + b"\xc3"


def entry(key: str, version: int, value: bytes | None) -> bytes:
    """Encode an `entry`; without a value it is told as deleted."""
    if value is None:
        return b"".join((_KEY, pack(key), _VERSION, pack_uint(version), _DELETED))
    return b"".join((_KEY, pack(key), _VERSION, pack_uint(version), _VALUE, value))


_WATCHED = (
    b"\x92" + pack("watched") + b"\x87" + pack("id"),
    b"\x92" + pack("watched") + b"\x88" + pack("id"),
)
"""Heads without and with `decided`."""
_SNAPSHOT = (
    b"\x92" + pack("snapshot") + b"\x85" + pack("id"),
    b"\x92" + pack("snapshot") + b"\x86" + pack("id"),
)
_CHANNEL = pack("channel")
_POSITION = pack("position")
_RECOVERED = pack("recovered")
_ENTRIES = pack("entries")
_UNCHANGED = pack("unchanged")
_MORE = pack("more")
_DECIDED = pack("decided")
_BOOL = (b"\xc2", b"\xc3")


def watched(
    request_id: int,
    channel: ChannelName,
    position: Position,
    entries: Sequence[bytes],
    *,
    unchanged: Sequence[str] = (),
    recovered: bool = False,
    more: bool = False,
    decided: Mapping[str, int] | None = None,
) -> bytes:
    """Encode `watched`; `entries` are encoded, `decided` is as in `snapshot`."""
    return b"".join(
        (
            _WATCHED[bool(decided)],
            pack_uint(request_id),
            _CHANNEL,
            pack(channel),
            _POSITION,
            _position(position),
            _RECOVERED,
            _BOOL[recovered],
            *_page(entries, unchanged, decided, more=more),
        )
    )


def snapshot(
    request_id: int,
    channel: ChannelName,
    entries: Sequence[bytes],
    *,
    unchanged: Sequence[str] = (),
    more: bool,
    decided: Mapping[str, int] | None = None,
) -> bytes:
    """Encode a further page of a snapshot; `entries` are encoded.

    Args:
        decided: By client of the session, the last mutation that these entries hold what became of.
    """
    return b"".join(
        (
            _SNAPSHOT[bool(decided)],
            pack_uint(request_id),
            _CHANNEL,
            pack(channel),
            *_page(entries, unchanged, decided, more=more),
        )
    )


def _page(
    entries: Sequence[bytes],
    unchanged: Sequence[str],
    decided: Mapping[str, int] | None,
    *,
    more: bool,
) -> Iterable[bytes]:
    head = (_ENTRIES, array_header(len(entries)))
    tail = (_DECIDED, pack(dict(decided))) if decided else ()
    return (*head, *entries, _UNCHANGED, pack(list(unchanged)), _MORE, _BOOL[more], *tail)


def _position(position: Position) -> bytes:
    return pack({"epoch": position.epoch, "offset": position.offset})


_OK_3 = b"\x92" + pack("ok") + b"\x83" + pack("id")


def ok_entries(request_id: int, position: Position, entries: Sequence[bytes]) -> bytes:
    """Encode `ok {id, position, entries}`, the answer to `read`; `entries` are encoded."""
    return b"".join(
        (
            _OK_3,
            pack_uint(request_id),
            _POSITION,
            _position(position),
            _ENTRIES,
            array_header(len(entries)),
            *entries,
        )
    )


def invalidate(channel: ChannelName, epoch: Epoch, offset: int, record: bytes) -> bytes:
    """Encode `invalidate` from the record of its event (`encode_entries.invalidation_record`)."""
    event = msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
    place = {"channel": channel, "epoch": epoch, "offset": offset}
    return message("invalidate", {**place, **event["data"], "at_ms": event["at_ms"]})


def out_of_order(client: str, expect: int) -> bytes:
    """Encode `out_of_order`."""
    return message("out_of_order", {"client": client, "expect": expect})


def undecided(client: str, mid: int, failure: SyncdError) -> bytes:
    """Encode the `error` of a mutation that was not decided."""
    body: dict[str, Any] = {"client": client, "mid": mid}
    body["code"] = failure.code.value
    body["message"] = failure.message
    body["retryable"] = failure.retryable
    if failure.after_ms is not None:
        body["after_ms"] = failure.after_ms
    return message("error", body)
