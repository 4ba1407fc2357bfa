"""The client's side of the wire: requests into frames, frames into messages. Pure.

What the server sends is trusted to be well meant but not to be right: everything that does not fit raises `BadServerMessage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from syncd.client.errors import BadServerMessage
from syncd.client.facts import Event, Member, MemberState
from syncd.client.facts_state import EntryRead
from syncd.ids import ChannelName, ClientId, Epoch, Position
from syncd.wire.codec import MAX_DEPTH, MAX_ITEMS

__all__ = [
    "Body",
    "decode_frame",
    "encode",
    "entry_from_body",
    "event_from_body",
    "members_from_list",
    "pack_frames",
    "position_from_body",
    "position_to_wire",
]

Body = dict[str, Any]

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Largest frame taken from a server: `subscribed` carries up to 256 KiB, history replies a few MiB."""

SURE_BYTES = 5_000
"""A frame this short holds at most the 10,000 values that a server takes of one (SPEC section 2), whatever they are: an empty
container has one byte and counts twice."""


def encode(kind: str, body: Body) -> bytes:
    """Encode one message; fields that are None are left out, except `data` and `state`.

    Raises:
        TypeError, ValueError, OverflowError: the application's data has no msgpack form, or more values than a server reads of a
            message, or deeper ones. It would end the connection for that, each time it is sent.
    """
    kept = {k: v for k, v in body.items() if v is not None or k in ("data", "state")}
    packed: bytes = msgpack.packb([kind, kept], use_bin_type=True)
    if len(packed) > MAX_DEPTH:
        _check_shape(kept)
    return packed


def _check_shape(body: Body) -> None:
    """Refuse what has too many values, or is nested too deeply, as a server counts both (SPEC section 2)."""
    left = MAX_ITEMS
    waiting: list[tuple[Any, int]] = [(body, 2)]
    while waiting:
        value, depth = waiting.pop()
        items = value.values() if isinstance(value, dict) else value
        left -= len(value) + 1
        if left < 0:
            msg = f"A message may hold {MAX_ITEMS} values at most."
            raise ValueError(msg)
        if depth > MAX_DEPTH:
            msg = f"Values may be nested {MAX_DEPTH} deep at most."
            raise ValueError(msg)
        waiting += [(item, depth + 1) for item in items if isinstance(item, dict | list | tuple)]


def pack_frames(messages: Sequence[bytes], max_bytes: float) -> list[bytes]:
    """Concatenate messages, in order, into frames that a server reads to the end.

    What lies behind the last value that counts would be lost, and never answered: so only short messages share a frame.
    """
    frames: list[bytes] = []
    parts: list[bytes] = []
    size = 0
    for message in messages:
        if parts and size + len(message) > min(max_bytes, SURE_BYTES):
            frames.append(b"".join(parts))
            parts, size = [], 0
        parts.append(message)
        size += len(message)
    if parts:
        frames.append(b"".join(parts))
    return frames


def decode_frame(data: bytes) -> list[tuple[str, Body]]:
    """Split a frame into its messages.

    Raises:
        BadServerMessage: it is not a sequence of `[type, body]`.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_FRAME_BYTES, raw=False)
    messages: list[tuple[str, Body]] = []
    try:
        unpacker.feed(data)
        end = 0
        for item in unpacker:
            messages.append(_message(item))
            end = unpacker.tell()
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        msg = "A frame is not msgpack."
        raise BadServerMessage(msg) from error
    if end != len(data):
        msg = "A frame ends inside a message."
        raise BadServerMessage(msg)
    return messages


def _message(item: object) -> tuple[str, Body]:
    match item:
        case [str() as kind, dict() as body]:
            return kind, body
        case _:
            msg = "A message is not [type, body]."
            raise BadServerMessage(msg)


def position_to_wire(position: Position | None) -> Body | None:
    """Build the map that stands for a position."""
    return None if position is None else {"epoch": position.epoch, "offset": position.offset}


def position_from_body(body: Body, field: str = "position") -> Position | None:
    """Read an optional position.

    Raises:
        BadServerMessage: it is there and malformed.
    """
    match body.get(field):
        case None:
            return None
        case {"epoch": str() as epoch, "offset": int() as offset}:
            return Position(Epoch(epoch), offset)
        case _:
            msg = f"Field {field} is not a position."
            raise BadServerMessage(msg)


def event_from_body(body: Body) -> Event:
    """Build an event from its body.

    Raises:
        BadServerMessage: a field is missing or of the wrong type.
    """
    position = None
    if body.get("offset") is not None:
        position = position_from_body({"position": body})
    by = body.get("by")
    try:
        return Event(
            channel=ChannelName(body["channel"]),
            data=body["data"],
            name=body.get("name"),
            key=body.get("key"),
            position=position,
            by=ClientId(by["client"]) if by is not None else None,
            at_ms=body["at_ms"],
        )
    except (KeyError, TypeError) as error:
        msg = "An event misses a field."
        raise BadServerMessage(msg) from error


def entry_from_body(body: Body) -> EntryRead:
    """Build one entry of an answer to `read`.

    Raises:
        BadServerMessage: a field is missing.
    """
    try:
        is_deleted = bool(body.get("deleted"))
        return EntryRead(body["key"], body["version"], body.get("value"), is_deleted)
    except (KeyError, TypeError, AttributeError) as error:
        msg = "An entry misses a field."
        raise BadServerMessage(msg) from error


def members_from_list(items: Sequence[Body]) -> list[Member]:
    """Build members from a list of their maps.

    Raises:
        BadServerMessage: one is malformed.
    """
    try:
        return [_member(item) for item in items]
    except (KeyError, TypeError, AttributeError) as error:
        msg = "A presence member is malformed."
        raise BadServerMessage(msg) from error


def _member(item: Body) -> Member:
    states = tuple(MemberState(ClientId(s["client"]), s.get("state")) for s in item["states"])
    return Member(item["member"], item.get("user"), states)
