"""Encoders for what a collection's channel tells: records of changed entries and of invalidations.

An entry event is an event with a `key`, without a name; its offset is the entry's new version. `data` is one of
`{"value": any}`, `{"patch": map, "base": uint}` (a merge patch on the value of version `base`) and `{"deleted": true}`.
An invalidation is an event named `invalidate` with data `{"keys": [...]}`, `{"tags": [...]}` or `{"all": true}`, each with
an optional `cause`.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.wire.encode import event_record, pack, pack_uint

__all__ = ["INVALIDATE", "entry_record", "invalidation_record"]

INVALIDATE = "invalidate"
"""Name of the events that tell invalidations."""

_DATA = pack("data")
_VALUE = b"\x81" + pack("value")
_PATCH = b"\x82" + pack("patch")
_BASE = pack("base")
_DELETED = pack({"deleted": True})
_AT_MS = pack("at_ms")
_KEY = pack("key")
_BY = pack("by")
_CLIENT = pack("client")
_MID = pack("mid")
_SET = b"\x04" + _DATA + _VALUE
_BY_MUTATION = _BY + b"\x82" + _CLIENT
"""What the commonest record is made of: a client's mutation sets an entry."""


def entry_record(
    key: str,
    at_ms: int,
    *,
    value: bytes | None,
    patch: bytes | None = None,
    base: int = 0,
    client: str | None = None,
    mid: int | None = None,
) -> bytes:
    """Encode the record of a changed entry.

    Args:
        value: Encoded; None: the entry was deleted.
        patch: Encoded merge patch, told instead of `value`.
        base: Version of the entry that `patch` applies to.
        client: Who did it; None for backends.
        mid: The client's mutation.
    """
    if patch is None and value is not None and client is not None and mid is not None:
        at, by, number = pack_uint(at_ms), pack(client), pack_uint(mid)
        parts = (_SET, value, _AT_MS, at, _KEY, pack(key), _BY_MUTATION, by, _MID, number)
        return b"".join(parts)
    return _any_record(key, at_ms, value, patch, base, client, mid)


def _any_record(
    key: str,
    at_ms: int,
    value: bytes | None,
    patch: bytes | None,
    base: int,
    client: str | None,
    mid: int | None,
) -> bytes:
    """Encode the record of any change, field by field."""
    parts = [b"\x03" if client is None else b"\x04", _DATA]
    if value is None:
        parts.append(_DELETED)
    elif patch is None:
        parts += (_VALUE, value)
    else:
        parts += (_PATCH, patch, _BASE, pack_uint(base))
    parts += (_AT_MS, pack_uint(at_ms), _KEY, pack(key))
    if client is not None:
        parts += (_BY, b"\x81" if mid is None else b"\x82", _CLIENT, pack(client))
        if mid is not None:
            parts += (_MID, pack_uint(mid))
    return b"".join(parts)


def invalidation_record(
    at_ms: int,
    *,
    keys: Sequence[str] = (),
    tags: Sequence[str] = (),
    cause: str | None = None,
) -> bytes:
    """Encode the record of an invalidation of some keys, of some tags, or, with neither, of all that the channel has."""
    data: dict[str, object] = {}
    if keys:
        data["keys"] = list(keys)
    if tags:
        data["tags"] = list(tags)
    if not data:
        data["all"] = True
    if cause is not None:
        data["cause"] = cause
    return event_record(pack(data), at_ms, name=INVALIDATE, key=None, client=None)
