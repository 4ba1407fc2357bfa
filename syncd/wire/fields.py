"""How fields of a decoded body are read. Each function returns the field, or raises `RequestRejected(bad_request)` naming it."""

from __future__ import annotations

from typing import Any

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import Epoch, Position

__all__ = [
    "MAX_INTEGER",
    "MAX_KEYS",
    "Body",
    "bad_keys",
    "optional_bool",
    "optional_keys",
    "optional_position",
    "optional_text",
    "optional_uint",
    "position",
    "positions_by_channel",
    "rejected",
    "text",
    "uint",
]

MAX_INTEGER = 2**53 - 1
"""Largest integer JavaScript reads exactly."""

MAX_AFTER = 64
"""Channels in one `after`; `messages.toml` says the same."""

MAX_KEYS = 1000
"""Keys in one request; `messages.toml` says the same."""

Body = dict[str, Any]


def rejected(field: str, want: str) -> RequestRejected:
    """Return the error of a field that is not what it must be."""
    return RequestRejected(ErrorCode.BAD_REQUEST, f"Field {field!r} must be {want}.")


def uint(body: Body, field: str, maximum: int = MAX_INTEGER) -> int:
    """Return a required integer from 0 to `maximum`."""
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= maximum:
        raise rejected(field, f"an integer from 0 to {maximum}")
    return value


def optional_uint(body: Body, field: str) -> int | None:
    """Return an integer from 0, or None."""
    return None if body.get(field) is None else uint(body, field)


def text(body: Body, field: str, max_bytes: int) -> str:
    """Return a required string of bounded length."""
    value = body.get(field)
    if type(value) is not str or _is_longer(value, max_bytes):
        raise rejected(field, f"a string of at most {max_bytes} bytes")
    return value


def optional_text(body: Body, field: str, max_bytes: int) -> str | None:
    """Return a string of bounded length, or None."""
    value = body.get(field)
    if value is None:
        return None
    if type(value) is not str or _is_longer(value, max_bytes):
        raise rejected(field, f"a string of at most {max_bytes} bytes or nil")
    return value


def _is_longer(value: str, max_bytes: int) -> bool:
    if len(value) * 4 <= max_bytes:
        return False
    return len(value) > max_bytes or (not value.isascii() and len(value.encode()) > max_bytes)


def optional_bool(body: Body, field: str) -> bool:
    """Return a bool; absent is False."""
    value = body.get(field)
    if value is None:
        return False
    if type(value) is not bool:
        raise rejected(field, "true, false or nil")
    return value


def optional_keys(body: Body, field: str) -> list[str] | None:
    """Return a list of keys, or None."""
    keys = body.get(field)
    if keys is None:
        return None
    if type(keys) is not list or len(keys) > MAX_KEYS or any(type(key) is not str for key in keys):
        raise bad_keys(field)
    return keys


def bad_keys(field: str) -> RequestRejected:
    """Return the error of a field that is no list of keys."""
    return rejected(field, f"a list of at most {MAX_KEYS} strings")


def position(value: object, field: str) -> Position:
    """Return a value as a position."""
    if type(value) is not dict:
        raise rejected(field, "a map {epoch, offset}")
    return Position(Epoch(text(value, "epoch", 64)), uint(value, "offset"))


def optional_position(body: Body, field: str) -> Position | None:
    """Return a field as a position, or None."""
    value = body.get(field)
    return None if value is None else position(value, field)


def positions_by_channel(body: Body, field: str) -> dict[str, Position]:
    """Return a map of channel to position; absent is empty."""
    value = body.get(field)
    if value is None:
        return {}
    if type(value) is not dict or len(value) > MAX_AFTER:
        raise rejected(field, f"a map of at most {MAX_AFTER} channels to positions")
    return {name: position(item, field) for name, item in value.items()}
