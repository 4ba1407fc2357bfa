"""Frames made to hurt: each is `bad_message`, without an id, and the connection lives."""

from __future__ import annotations

import struct
from typing import Any

from scripts.vectors.case import Case, pack, runs

__all__ = ["CASES"]

_PROBE = pack(["probe", {"nonce": 7}])
_GOOD: list[Any] = ["probe", {"nonce": 7}]

_PUBLISH = (
    b"\x92"
    + pack("publish")
    + b"\x83"
    + pack("id")
    + b"\x01"
    + pack("channel")
    + pack("demo:room")
    + pack("data")
)
"""Everything of a publication but its data."""


def _data(name: str, data: bytes) -> Case:
    return Case(name, _PUBLISH + data, error="bad_message")


def _whole(name: str, frame: bytes) -> Case:
    return Case(name, frame, error="bad_message")


def _long(name: str, *parts: tuple[bytes, int]) -> Case:
    return Case(name, runs(*parts), error="bad_message")


def _behind(name: str, rest: bytes) -> Case:
    return Case(name, _PROBE + rest, [_GOOD], error="bad_message")


_DEEP = [
    _data("arrays 33 deep", b"\x91" * 31 + b"\xc0"),
    _data("maps 33 deep", b"\x81\xa1a" * 31 + b"\xc0"),
    _data("arrays 1,100 deep", b"\x91" * 1100 + b"\xc0"),
    _data("maps 1,100 deep", b"\x81\xa1a" * 1100 + b"\xc0"),
    _long("arrays 60,000 deep", (_PUBLISH, 1), (b"\x91", 60_000), (b"\xc0", 1)),
    _long("maps 20,000 deep", (_PUBLISH, 1), (b"\x81\xa1a", 20_000), (b"\xc0", 1)),
    _long("arrays 60,000 deep and never closed", (b"\x91", 60_000)),
]

_DECLARED = [
    _data("array32 of 2^32-1", b"\xdd\xff\xff\xff\xff"),
    _data("map32 of 2^32-1", b"\xdf\xff\xff\xff\xff"),
    _data("str32 of 2^32-1", b"\xdb\xff\xff\xff\xff"),
    _data("bin32 of 2^32-1", b"\xc6\xff\xff\xff\xff"),
    _data("ext32 of 2^32-1", b"\xc9\xff\xff\xff\xff\x05"),
    _data("array16 of 65,535 with one item", b"\xdc\xff\xff\xc0"),
    _whole("message as array32 of 2^32-1", b"\xdd\xff\xff\xff\xff"),
    _data("9,996 items, 10,001 values in all", b"\xdc" + struct.pack(">H", 9996) + b"\x00" * 9996),
    _long("60,000 empty maps", (_PUBLISH, 1), (b"\xdc\xea\x60", 1), (b"\x80", 60_000)),
    _long(
        "6,000 empty maps in six arrays",
        (_PUBLISH + b"\x96", 1),
        *[(b"\xdc\x03\xe8", 1), (b"\x80", 1000)] * 6,
    ),
    _long("60,000 empty maps, each a message", (b"\x80", 60_000)),
]

_EXT = [
    _data("ext 8 of no bytes", b"\xc7\x00\x05"),
    _data("ext 8", b"\xc7\x03\x05abc"),
    _data("ext 16", b"\xc8\x00\x01\x05a"),
    _data("ext 32", b"\xc9\x00\x00\x00\x01\x05a"),
    _data("fixext 1", b"\xd4\x01a"),
    _data("fixext 2", b"\xd5\x01ab"),
    _data("fixext 16", b"\xd8\x01" + b"a" * 16),
    _data("timestamp 32", b"\xd6\xff\x00\x00\x00\x00"),
    _data("timestamp 64", b"\xd7\xff" + struct.pack(">Q", 5)),
    _data("timestamp 64, nanoseconds too many", b"\xd7\xff" + struct.pack(">Q", 10**9 << 34)),
    _data("timestamp 96", b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 0)),
    _data("timestamp 96, nanoseconds too many", b"\xc7\x0c\xff" + struct.pack(">Iq", 2**32 - 1, 0)),
    _data("timestamp 96, year 10^11", b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 2**62)),
    _data("timestamp of a wrong length", b"\xc7\x05\xff" + b"\x00" * 5),
    _data("timestamp of no bytes", b"\xc7\x00\xff"),
    _whole("message is an ext", b"\xd4\x01a"),
]

_KEYS = [
    _data("same key twice", b"\x82\xa1a\x01\xa1a\x02"),
    _data("same key twice, written differently", b"\x82\xa1a\x01\xd9\x01a\x02"),
    _whole("same key twice in the body", b"\x92\xa5probe\x82\xa5nonce\x07\xa5nonce\x07"),
    _data("key is bin", b"\x81\xc4\x01a\x01"),
    _data("key is an integer", b"\x81\x01\x01"),
    _data("key is nil", b"\x81\xc0\x01"),
    _data("key is true", b"\x81\xc3\x01"),
    _data("key is an array", b"\x81\x90\x01"),
    _data("key is a map", b"\x81\x80\x01"),
    _data("key is NaN", b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01"),
    _data("key is a timestamp", b"\x81\xd6\xff\x00\x00\x00\x00\x01"),
    _data("NaN as key twice", b"\x82" + b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01" * 2),
    _whole("body with an integer key", b"\x92\xa5probe\x81\x01\x07"),
]

_TEXT = [
    _data("UTF-8: lone continuation byte", b"\xa1\x80"),
    _data("UTF-8: byte 0xff", b"\xa1\xff"),
    _data("UTF-8: cut in the middle", b"\xa2\xe4\xb8"),
    _data("UTF-8: surrogate half", b"\xa3\xed\xa0\x80"),
    _data("UTF-8: surrogate pair (CESU-8)", b"\xa6\xed\xa0\xbd\xed\xb8\x80"),
    _data("UTF-8: overlong NUL", b"\xa2\xc0\x80"),
    _data("UTF-8: overlong slash", b"\xa3\xe0\x80\xaf"),
    _data("UTF-8: beyond U+10FFFF", b"\xa4\xf4\x90\x80\x80"),
    _data("UTF-8: bad in a key", b"\x81\xa1\xff\x01"),
    _whole("UTF-8: bad in the type", b"\x92\xa1\xff\x80"),
]

_NUMBERS = [
    _data("float 64 NaN", b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
    _data("float 64 Infinity", b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"),
    _data("float 64 -Infinity", b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"),
    _data("float 32 NaN", b"\xca\x7f\xc0\x00\x00"),
    _data("float 32 Infinity", b"\xca\x7f\x80\x00\x00"),
    _data("integer 2^53", b"\xcf" + struct.pack(">Q", 2**53)),
    _data("integer -(2^53)", b"\xd3" + struct.pack(">q", -(2**53))),
    _data("uint64 max", b"\xcf" + b"\xff" * 8),
    _data("int64 min", b"\xd3\x80" + b"\x00" * 7),
    _data("NaN deep inside", b"\x91\x81\xa1a\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
]

_SHAPE = [
    _whole("empty frame", b""),
    _whole("byte 0xc1", b"\xc1"),
    _data("byte 0xc1 as data", b"\xc1"),
    _whole("message is nil", b"\xc0"),
    _whole("message is a map", b"\x80"),
    _whole("message is a string", b"\xa5probe"),
    _whole("message is an empty array", b"\x90"),
    _whole("message of one", b"\x91\xa4pong"),
    _whole("message of three", b"\x93\xa4pong\x80\xc0"),
    _whole("type is an integer", b"\x92\x01\x80"),
    _whole("type is bin", b"\x92\xc4\x04pong\x80"),
    _whole("type is nil", b"\x92\xc0\x80"),
    _whole("body is nil", b"\x92\xa4pong\xc0"),
    _whole("body is an array", b"\x92\xa4pong\x90"),
    _behind("garbage behind a message", b"\xc1"),
    _behind("nil behind a message", b"\xc0"),
    _behind("half a message behind a message", _PROBE[:-1]),
    _behind("a message with a bad body behind a message", b"\x92\xa5probe\x81\x01\x07" + _PROBE),
    *(_whole(f"cut after byte {cut}", _PROBE[:cut]) for cut in range(1, len(_PROBE))),
]

CASES = [*_DEEP, *_DECLARED, *_EXT, *_KEYS, *_TEXT, *_NUMBERS, *_SHAPE]
