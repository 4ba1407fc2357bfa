"""Bodies and queries about collections, checked and turned into what they ask for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from werkzeug.datastructures import MultiDict

from syncd.http.fields import only, optional_text, rejected, text, texts
from syncd.http.json_values import from_jsonable
from syncd.ids import Epoch, Position
from syncd.ports import Identity
from syncd.ports_log import IdempotencyKey
from syncd.state_calls import Mutation, request_hash
from syncd.wire.codec import check_value
from syncd.wire.encode import pack
from syncd.wire.messages import MAX_INTEGER

__all__ = [
    "ChangeSettings",
    "Entries",
    "Invalidate",
    "Warm",
    "parse_change_settings",
    "parse_clear",
    "parse_entries",
    "parse_invalidate",
    "parse_mutate",
    "parse_warm",
    "total_counts",
]

MAX_NAME_BYTES = 160
"""Of a mutator, as in `messages.toml`."""
MAX_COLLECTION_BYTES = 64
MAX_KEY_BYTES = 255
MAX_KEYS = 1000
"""Of one read or invalidation, as of a session's `read`."""
MAX_TAGS = 100
MAX_TAG_BYTES = 512
"""A tag is 128 characters."""
MAX_CAUSE_BYTES = 255
"""It goes into the log and to every watcher."""
MAX_UID_BYTES = 128
MAX_WARM = 10_000
"""As many as one warm-up brings."""
MAX_AFTER = 100


# ------------------------------------------------------------------------------------------------ mutate


def parse_mutate(body: object, *, service: str, idempotency_key: str | None = None) -> Mutation:
    """Read the body of `/api/mutate`; `idempotency_key` stands in for a missing `uid`."""
    fields = _object(body, "A mutate command")
    only(fields, "name", "args", "uid")
    name, args = text(fields, "name", MAX_NAME_BYTES), fields.get("args")
    uid = optional_text(fields, "uid", MAX_UID_BYTES)
    if uid == "":
        raise rejected("An idempotency key must not be empty.")
    try:
        check_value(args)
        args = from_jsonable(args)
        size_bytes = len(pack(args))
    except ValueError as failure:
        raise rejected(f"Field 'args': {failure}") from None
    if args is not None and type(args) not in (dict, list):
        raise rejected("Field 'args' must be an object by name, a list by position, or left out.")
    key = idempotency_key if uid is None else uid
    idempotency = None
    if key is not None:
        digest = request_hash(name, args)
        idempotency = IdempotencyKey(f"service:{service}", "mutate", key, digest)
    return Mutation(name, args, Identity(service=service), idempotency, size_bytes)


def _object(body: object, what: str) -> dict[str, Any]:
    if type(body) is not dict:
        raise rejected(f"{what} must be an object.")
    return body


# ------------------------------------------------------------------------------------------------ invalidate


@attrs.frozen
class Invalidate:
    """Entries may have changed at their source: these keys, these tags, or with neither all of the collection."""

    collection: str
    keys: list[str]
    tags: list[str]
    cause: str | None
    is_empty: bool = False
    """A list without anything in it was given: there is nothing to do."""


def parse_invalidate(body: object) -> Invalidate:
    """Read the body of `/api/invalidate`."""
    fields = _object(body, "An invalidate command")
    only(fields, "collection", "keys", "tags", "all", "cause")
    collection = _collection(fields)
    keys = texts(fields, "keys", MAX_KEYS, MAX_KEY_BYTES)
    tags = texts(fields, "tags", MAX_TAGS, MAX_TAG_BYTES)
    is_all = fields.get("all")
    if is_all is not None and is_all is not True:
        raise rejected("Field 'all' must be true, or left out.")
    if [keys, tags, is_all].count(None) != 2:
        raise rejected("Give exactly one of 'keys', 'tags' and 'all': true.")
    cause = optional_text(fields, "cause", MAX_CAUSE_BYTES)
    is_empty = not (keys or tags or is_all)
    return Invalidate(collection, keys or [], tags or [], cause, is_empty)


def _collection(fields: Mapping[str, Any]) -> str:
    collection = text(fields, "collection", MAX_COLLECTION_BYTES)
    if not collection:
        raise rejected("Field 'collection' must not be empty.")
    return collection


# ------------------------------------------------------------------------------------------------ entries


@attrs.frozen
class Entries:
    """Read these keys, at least as new as `after` says."""

    collection: str
    keys: list[str]
    after: dict[str, Position]


def parse_entries(query: MultiDict[str, str], headers: Iterable[str]) -> Entries:
    """Read the query of `/api/entries` and its `Syncd-After` headers; `after` in the query means the same."""
    only(query, "collection", "key", "after")
    keys = query.getlist("key")
    if not 0 < len(keys) <= MAX_KEYS:
        raise rejected(f"Give 'key' 1 to {MAX_KEYS} times.")
    after = ",".join([*headers, *query.getlist("after")])
    return Entries(_collection(query), keys, _positions(after))


_AFTER = re.compile(
    r"\s*([\w.:@#=+~,/-]{1,255}?)=([0-9A-Za-z]{1,64}):([0-9]{1,16})\s*(?:,|\Z)", re.ASCII
)
"""Names of partitions may hold commas and equals signs: a place ends where something like a position does."""


def _positions(listed: str) -> dict[str, Position]:
    """Read `channel=epoch:offset, ...`; of several for one channel the last one counts."""
    found: dict[str, Position] = {}
    start = 0
    while start < len(listed):
        match = _AFTER.match(listed, start)
        if match is None or int(match[3]) > MAX_INTEGER or len(found) >= MAX_AFTER:
            raise rejected(
                f"Syncd-After must be channel=epoch:offset, at most {MAX_AFTER} of them with commas between."
            )
        found[match[1]] = Position(Epoch(match[2]), int(match[3]))
        start = match.end()
    return found


# ------------------------------------------------------------------------------------------------ the cache


@attrs.frozen
class Warm:
    """Bring entries into memory; without keys those that were used most."""

    collection: str | None
    keys: list[str] | None


@attrs.frozen
class ChangeSettings:
    """Change limits of a collection."""

    collection: str
    changes: dict[str, Any]


def parse_clear(body: dict[str, Any]) -> str | None:
    """Read the body of `/api/cache/clear`: a collection, or None for all."""
    only(body, "collection")
    return None if body.get("collection") is None else _collection(body)


def parse_warm(body: dict[str, Any]) -> Warm:
    """Read the body of `/api/cache/warm`."""
    only(body, "collection", "keys")
    collection = None if body.get("collection") is None else _collection(body)
    keys = texts(body, "keys", MAX_WARM, MAX_KEY_BYTES)
    if keys is not None and collection is None:
        raise rejected("Field 'keys' needs a 'collection'.")
    return Warm(collection, keys)


def parse_change_settings(body: dict[str, Any]) -> ChangeSettings:
    """Read the body of `POST /api/cache/config`. What a setting may be, the cache-owner checks."""
    only(body, "collection", "max_entries", "max_bytes", "ttl_s", "stale_s")
    changes = {name: value for name, value in body.items() if name != "collection"}
    if not changes:
        raise rejected("Name a setting to change: max_entries, max_bytes, ttl_s or stale_s.")
    for name, value in changes.items():
        # Before anything is entered in the audit, whose rows have the integers of the protocol.
        if value is not None and (type(value) not in (int, float) or not abs(value) <= MAX_INTEGER):
            raise rejected(f"Field {name!r} must be a number of at most 2^53 - 1.")
    return ChangeSettings(_collection(body), changes)


def total_counts(by_collection: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of all collections together: sums, and for rates, means and maxima what those words mean."""
    rows = [*by_collection.values()]
    total: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            total[name] = total.get(name, 0) + value
    if not rows:
        return total
    total["load_ms_max"] = max(row["load_ms_max"] for row in rows)
    loads, lookups = total["loads"], total["lookups"]
    load_ms = sum(row["load_ms_mean"] * row["loads"] for row in rows)
    total["load_ms_mean"] = load_ms / loads if loads else 0.0
    total["hit_rate"] = (total["hits"] + total["stale_hits"]) / lookups if lookups else 0.0
    return total
