"""JSON in and out, within bounds: what a body may hold, and how msgpack values look in JSON.

Everything outside JSON's plain subset is refused, so that what one service publishes reads the same in every client: duplicate
keys, NaN and Infinity, lone surrogates, other encodings than UTF-8. Values are bounded by `wire.codec.check_value`.

Out: binary data is `{"$base64": "..."}`, a float that JSON cannot hold is `{"$float": "NaN"}`, and a map that happens to
look like one of these is wrapped as `{"$escape": {...}}`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import msgpack
import trio

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.wire.codec import check_value
from syncd.wire.encode import pack

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_VALUES",
    "encode_data",
    "from_jsonable",
    "json_from_bodies",
    "jsonable",
    "pack_base64",
    "parse_object",
]

MAX_BODY_BYTES = 1_048_576
"""Of one request. A batch of a thousand small events fits; more belongs in several."""

MAX_VALUES = 50_000
"""In one body: about 20 ms to read on the loop. One event's data is held to `wire.codec.MAX_ITEMS`."""

SLICE_BYTES = 65_536
"""Converted between two checkpoints: about 1 ms."""

_SEPARATORS = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{,])', re.DOTALL)
"""Strings are skipped whole, whatever is in them; every alternative matches in one way only."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_object(raw: bytes) -> dict[str, Any]:
    """Decode a body that is one JSON object.

    Raises:
        RequestRejected: `bad_request`, saying what is wrong.
    """
    try:
        text = raw.decode()
        _check_size(text)
        value = json.loads(text, object_pairs_hook=_unique_pairs, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as failure:
        raise _bad_json(failure) from None
    if type(value) is not dict:
        raise _rejected("The body must be a JSON object.")
    return value


def _check_size(text: str) -> None:
    if text.count(",") + text.count("[") + text.count("{") <= MAX_VALUES:
        return
    num_separators = 0
    for match in _SEPARATORS.finditer(text):
        num_separators += match.lastindex is not None
        if num_separators > MAX_VALUES:
            raise _rejected(f"A body may hold {MAX_VALUES} values at most.")


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _rejected("An object in the body has the same key twice.")
    return value


def _no_constant(_text: str) -> None:
    raise _rejected("NaN and Infinity are not JSON.")


def _bad_json(failure: Exception) -> RequestRejected:
    if isinstance(failure, json.JSONDecodeError):
        return _rejected(f"The body is not JSON: {failure.msg} at character {failure.pos}.")
    if isinstance(failure, RecursionError):
        return _rejected("The body is nested too deep.")
    return _rejected("The body is not JSON in UTF-8.")


def _rejected(text: str) -> RequestRejected:
    return RequestRejected(ErrorCode.BAD_REQUEST, text)


# ------------------------------------------------------------------------------------------------ data


def encode_data(value: object) -> bytes:
    """Encode a decoded JSON value as msgpack, within the bounds of the wire."""
    try:
        check_value(value)
        return pack(value)
    except ValueError as failure:
        raise _rejected(f"Field 'data': {failure}") from None


def pack_base64(text: object) -> bytes:
    """Encode binary data given as standard base64 (RFC 4648, padded) as a msgpack bin."""
    if type(text) is not str:
        raise _rejected("Field 'data_base64' must be a string.")
    try:
        return pack(base64.b64decode(text.encode("ascii"), validate=True))
    except ValueError:
        raise _rejected("Field 'data_base64' must be standard base64 with padding.") from None


_TAGS = frozenset({"$base64", "$float", "$escape"})
_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def jsonable(value: Any) -> Any:
    """Return a decoded msgpack value with everything JSON cannot hold replaced as the module says."""
    kind = type(value)
    if kind is dict:
        converted = {str(key): jsonable(item) for key, item in value.items()}
        is_ambiguous = len(converted) == 1 and not _TAGS.isdisjoint(converted)
        return {"$escape": converted} if is_ambiguous else converted
    if kind is list:
        return [jsonable(item) for item in value]
    if kind is bytes:
        return {"$base64": base64.b64encode(value).decode()}
    if kind is float and not math.isfinite(value):
        return {"$float": {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")}
    return value


def from_jsonable(value: Any) -> Any:
    """Undo `jsonable`, for requests that carry what was read here. The value is bounded already.

    Raises:
        RequestRejected: `bad_request` for an object that looks like one of ours and is not.
    """
    kind = type(value)
    if kind is list:
        return [from_jsonable(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1 and not _TAGS.isdisjoint(value):
        return _untagged(*next(iter(value.items())))
    return {key: from_jsonable(item) for key, item in value.items()}


def _untagged(tag: str, value: Any) -> Any:
    if tag == "$escape" and type(value) is dict:
        return {key: from_jsonable(item) for key, item in value.items()}
    if tag == "$float" and type(value) is str and value in _FLOATS:
        return _FLOATS[value]
    if tag == "$base64" and type(value) is str:
        with contextlib.suppress(ValueError):
            return base64.b64decode(value.encode("ascii"), validate=True)
    raise _rejected(
        f'{{"{tag}": ...}} does not hold what it should; a map of that key is {{"$escape": {{...}}}}.'
    )


async def json_from_bodies(bodies: Sequence[bytes]) -> list[str]:
    """Convert encoded msgpack values to JSON texts, in slices so that a long answer stalls nobody."""
    texts: list[str] = []
    size_bytes = 0
    for body in bodies:
        value = msgpack.unpackb(body, raw=False, strict_map_key=False)
        texts.append(json.dumps(jsonable(value), separators=(",", ":")))
        size_bytes += len(body)
        if size_bytes >= SLICE_BYTES:
            size_bytes = 0
            await trio.lowlevel.checkpoint()
    return texts
