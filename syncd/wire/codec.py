"""Bytes of one binary frame to client messages, within every bound of SPEC section "Encoding".

A frame is one or more msgpack messages `[type, body]`, concatenated. What is wrong with one message is told about that message;
what is wrong with the bytes ends the frame, after the messages that came before. No input raises anything here.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import msgpack
import msgspec

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, SyncdError
from syncd.wire.encode import pack
from syncd.wire.messages import CLIENT_MESSAGES, MAX_INTEGER, ClientMessage, EncodedPublish

__all__ = ["MAX_DEPTH", "MAX_ITEMS", "BadMessage", "check_value", "decode"]

MAX_DEPTH = 32
"""Containers within containers, the message itself included."""

MAX_ITEMS = 10_000
"""Values in one frame, containers included: 64 KiB of empty maps would cost ten milliseconds."""

_COUNTING_BYTES = 4096
"""From this size on maps are counted while they are decoded, not only after."""

_BIN_8, _BIN_16 = 0xC4, 0xC5
_BIN_16_FROM = 3 + 0xFF
"""Shorter bytes have a shorter header."""


@attrs.define
class BadMessage:
    """A message that could not be read, and what to answer."""

    error: SyncdError
    request_id: int | None = None
    """The `id` of its body, if that much could be read."""


class _Malformed(ValueError):
    """The bytes are not what SPEC allows; the text says why."""


_PUBLISH = b"\x92\xa7publish"
_AT_BODY = len(_PUBLISH)
_read_publish = msgspec.msgpack.Decoder(EncodedPublish).decode
_LANE_FAILURES = (msgspec.MsgspecError, ValueError, RecursionError)


def _publish_lane(payload: bytes) -> EncodedPublish | None:
    """Read a frame that is one short `publish` and nothing unusual; None leaves it to the long way, which judges it.

    Every field once and no other: as many pairs as fields that are not nil. `data` is kept as it is when it is bytes, or when packing
    what it says gives it again: so no key is there twice.
    """
    try:
        message = _read_publish(payload[_AT_BODY:])
        data = bytes(message.data)
        num_pairs = 3
        if message.name is not None or message.key is not None or message.uid is not None:
            fields = (message.name, message.key, message.uid)
            num_pairs += sum(field is not None for field in fields)
        if payload[_AT_BODY] != 0x80 | num_pairs:
            return None
        kind = data[0]
        if kind != _BIN_8 and not (kind == _BIN_16 and len(data) > _BIN_16_FROM):
            value = msgpack.unpackb(data, raw=False, strict_map_key=True, max_ext_len=0)
            if pack(value) != data:
                return None
            _check(value, 3, _Budget(num_pairs + 1))
    except _LANE_FAILURES:
        return None
    return message


def decode(payload: bytes) -> list[ClientMessage | EncodedPublish | BadMessage]:
    """Decode all messages of one frame, in order.

    Args:
        payload: One whole binary message, of at most the gateway's frame limit.

    Returns:
        At least one item. A `BadMessage(bad_message)` ends the list: nothing behind it was read.
    """
    if payload[:_AT_BODY] == _PUBLISH and len(payload) < _COUNTING_BYTES:
        publication = _publish_lane(payload)
        if publication is not None:
            return [publication]
    try:
        value = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_hook_for(payload),
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except msgpack.ExtraData:
        return _decode_many(payload)
    except _FAILURES as failure:
        return [_bad_message(failure)]
    budget = _Budget()
    try:
        return [_message(value, budget)]
    except _Malformed as failure:
        return [_bad_message(failure)]


def _decode_many(payload: bytes) -> list[ClientMessage | EncodedPublish | BadMessage]:
    unpacker = msgpack.Unpacker(
        None,
        raw=False,
        strict_map_key=True,
        object_pairs_hook=_hook_for(payload),
        max_buffer_size=max(len(payload), 1),
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
        max_ext_len=0,
    )
    unpacker.feed(payload)
    budget = _Budget()
    decoded: list[ClientMessage | EncodedPublish | BadMessage] = []
    try:
        while unpacker.tell() < len(payload):
            decoded.append(_message(unpacker.unpack(), budget))
    except _FAILURES as failure:
        decoded.append(_bad_message(failure))
    return decoded


class _Budget:
    """How many values may still come in this frame."""

    __slots__ = ("left",)

    def __init__(self, spent: int = 0) -> None:
        self.left = MAX_ITEMS - spent


def _message(value: object, budget: _Budget) -> ClientMessage | BadMessage:
    if type(value) is not list or len(value) != 2:
        raise _Malformed("A message is an array of two: [type, body].")
    kind, body = value
    if type(kind) is not str or type(body) is not dict:
        raise _Malformed("A message is [type, body]: a string and a map.")
    _check(body, 2, budget)
    parse = CLIENT_MESSAGES.get(kind)
    try:
        if parse is None:
            raise RequestRejected(ErrorCode.UNKNOWN_TYPE)
        return parse(body)
    except RequestRejected as error:
        return BadMessage(error, _request_id(body))


def _request_id(body: dict[str, Any]) -> int | None:
    value = body.get("id")
    return value if type(value) is int and 0 <= value <= MAX_INTEGER else None


def check_value(value: object) -> None:
    """Check a decoded value that came another way (JSON) against the bounds of the wire.

    Raises:
        ValueError: too deep, too many items, an integer or float JavaScript cannot hold, a key that is no string, or a
            type msgpack without extensions does not have.
    """
    _check(value, 3, _Budget())


def _check(value: object, depth: int, budget: _Budget) -> None:
    """Check one value and everything in it. Scalars of the commonest types cost one comparison."""
    kind = type(value)
    if kind is dict:
        items = value.values()  # type: ignore[attr-defined]
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str:
                raise _Malformed("Map keys must be strings.")
    elif kind is list:
        items = value
    else:
        _check_scalar(value, kind)
        return
    budget.left -= len(value) + 1  # type: ignore[arg-type]
    if budget.left < 0:
        raise _Malformed(f"A frame may hold {MAX_ITEMS} values at most.")
    if depth > MAX_DEPTH:
        raise _Malformed(f"Values may be nested {MAX_DEPTH} deep at most.")
    for item in items:
        kind = type(item)
        if kind is str or (kind is int and -MAX_INTEGER <= item <= MAX_INTEGER):
            continue
        if kind is dict or kind is list:
            _check(item, depth + 1, budget)
        else:
            _check_scalar(item, kind)


def _check_scalar(value: Any, kind: type) -> None:
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise _Malformed("Integers must lie within +-(2^53 - 1).")
    elif kind is float:
        if not math.isfinite(value):
            raise _Malformed("NaN and Infinity are not allowed.")
    elif value is not None and kind not in (str, bool, bytes):
        raise _Malformed("Extension types are not allowed.")


def _hook_for(payload: bytes) -> Any:
    return _unique_pairs if len(payload) < _COUNTING_BYTES else _counted_pairs()


def _unique_pairs(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise _Malformed("A map has the same key twice.")
    return body


def _counted_pairs() -> Any:
    left = MAX_ITEMS

    def pairs_hook(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise _Malformed(f"A frame may hold {MAX_ITEMS} values at most.")
        return _unique_pairs(pairs)

    return pairs_hook


_FAILURES = (
    ValueError,  # _Malformed, StackError, FormatError, UnicodeDecodeError, every *_len limit, ExtraData
    TypeError,
    OverflowError,
    RecursionError,
    msgpack.UnpackException,  # OutOfData, BufferFull
)
"""All that msgpack raises on bytes it does not like (fuzzed in tests/wire)."""


def _bad_message(failure: BaseException) -> BadMessage:
    text = str(failure) if isinstance(failure, _Malformed) else ""
    return BadMessage(RequestRejected(ErrorCode.BAD_MESSAGE, text))
