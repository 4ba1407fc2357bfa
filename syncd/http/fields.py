"""Fields of bodies and queries, checked one by one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected

__all__ = ["only", "optional_text", "query_bool", "query_uint", "rejected", "text", "texts"]


def rejected(text: str) -> RequestRejected:
    """Return the refusal of a request that is wrong, saying how it should be."""
    return RequestRejected(ErrorCode.BAD_REQUEST, text)


def only(body: Mapping[str, Any], *allowed: str) -> None:
    """Refuse fields that nobody reads: a misspelt one would be lost."""
    for field in body:
        if field not in allowed:
            known = ", ".join(allowed)
            raise rejected(f"Unknown field {field[:64]!a}; known here: {known}.")


def text(body: Mapping[str, Any], field: str, max_bytes: int) -> str:
    """Return a field that must be a string."""
    value = body.get(field)
    if type(value) is not str or len(value.encode()) > max_bytes:
        raise rejected(f"Field {field!r} must be a string of at most {max_bytes} bytes.")
    return value


def optional_text(body: Mapping[str, Any], field: str, max_bytes: int) -> str | None:
    """Return a field that may be absent or null."""
    return None if body.get(field) is None else text(body, field, max_bytes)


def texts(body: Mapping[str, Any], field: str, max_count: int, max_bytes: int) -> list[str] | None:
    """Return a field that is a list of strings, none of them empty; None if it is absent."""
    values = body.get(field)
    if values is None:
        return None
    if type(values) is not list or len(values) > max_count:
        raise rejected(f"Field {field!r} must be a list of at most {max_count} strings.")
    for value in values:
        if type(value) is not str or not 0 < len(value.encode()) <= max_bytes:
            raise rejected(f"Field {field!r} must hold strings of 1 to {max_bytes} bytes.")
    return values


def query_uint(query: Mapping[str, str], field: str, *, default: int, maximum: int) -> int:
    """Return a query field as an integer from 0 to `maximum`."""
    text = query.get(field)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= maximum):
        raise rejected(f"Query field {field!r} must be an integer from 0 to {maximum}.")
    return int(text)


def query_bool(query: Mapping[str, str], field: str) -> bool:
    """Return a query field as a truth value; absent is False."""
    values = {"true": True, "1": True, "false": False, "0": False}
    text = query.get(field, "false")
    if text not in values:
        raise rejected(f"Query field {field!r} must be true or false.")
    return values[text]
