"""The shapes of `/openapi.json` that collections have. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_schemas import Schema, list_of, obj, or_null, ref, text, uint

__all__ = ["STATE_SCHEMAS"]

_COLLECTION = text("Name of a collection of the application.", 64)
_KEY = {"type": "string", "minLength": 1, "maxLength": 255}


def _keys(doc: str, maximum: int) -> Schema:
    return {**list_of(_KEY, maxItems=maximum), "description": doc}


def _by_name(items: Any, doc: str) -> Schema:
    return {"type": "object", "additionalProperties": items, "description": doc}


_POSITIONS = _by_name(ref("Position"), "By channel: where the effect can be read.")
_SETTINGS: dict[str, Schema] = {
    "max_entries": uint("Entries in memory, of all partitions together; at least 1."),
    "max_bytes": uint("Their size; at least 1."),
    "ttl_s": or_null(
        {"type": "number", "description": "Entries are loaded anew after it; null: never."}
    ),
    "stale_s": {
        "type": "number",
        "minimum": 0,
        "description": "Served that much longer while they are loaded anew.",
    },
}
_NUMBERS: Schema = {"type": "object", "additionalProperties": {"type": "number"}}

STATE_SCHEMAS: dict[str, Schema] = {
    "Mutate": obj(
        {
            "name": text("Which mutator: `orders.ship`, or `ship` for one of no collection.", 160),
            "args": {
                "anyOf": [{"type": "object"}, {"type": "array", "items": {}}, {"type": "null"}],
                "description": (
                    'By name, by position, or none. Binary data as `{"$base64": "..."}`, as it is read.'
                ),
            },
            "uid": text(
                "Idempotency key, kept 24 h per API key; the `Idempotency-Key` header is the same.",
                128,
            ),
        },
        "name",
        closed=True,
    ),
    "Outcome": obj(
        {
            "status": {
                "type": "string",
                "enum": ["ok", "rejected", "unknown"],
                "description": "`unknown`: decided before, but what became of it is no longer kept.",
            },
            "value": {"description": "With `ok`: what the mutator returned, if it did."},
            "error": {
                **obj(
                    {
                        "code": text("One of syncd's or the application's own."),
                        "message": text("For people."),
                    },
                    "code",
                    "message",
                ),
                "description": "With `rejected`: why. The same request is rejected again under the same key.",
            },
            "positions": _POSITIONS,
        },
        "status",
        "positions",
    ),
    "Invalidate": {
        **obj(
            {
                "collection": _COLLECTION,
                "keys": _keys("Entries that may have changed at their source.", 1000),
                "tags": {
                    **list_of({"type": "string", "minLength": 1, "maxLength": 512}, maxItems=100),
                    "description": "Entries with any of these tags may have.",
                },
                "all": {"const": True, "description": "Any entry may have."},
                "cause": text("Told to watchers.", 255),
            },
            "collection",
            closed=True,
        ),
        "oneOf": [{"required": ["keys"]}, {"required": ["tags"]}, {"required": ["all"]}],
    },
    "Invalidated": obj({"positions": _POSITIONS}, "positions"),
    "Entries": obj(
        {
            "channel": text("The collection, or `collection/partition`."),
            "position": {**ref("Position"), "description": "What the entries are as of."},
            "entries": {
                **list_of(ref("Entry")),
                "description": "One for each key, in the order asked for.",
            },
        },
        "channel",
        "position",
        "entries",
    ),
    "Entry": {
        **obj(
            {
                "key": text("Of the entry."),
                "version": uint("Offset of its last change."),
                "value": {"description": 'What it is; binary data as `{"$base64": "..."}`.'},
                "deleted": {"const": True, "description": "There is no such entry."},
            },
            "key",
            "version",
        ),
        "oneOf": [{"required": ["value"]}, {"required": ["deleted"]}],
    },
    "CacheStats": obj(
        {
            "collections": _by_name(_NUMBERS, "Counts since the start, by collection."),
            "total": {
                **_NUMBERS,
                "description": "Sums; rates, means and maxima of all together.",
            },
        },
        "collections",
        "total",
    ),
    "CacheSettings": obj(_SETTINGS, *_SETTINGS),
    "CacheConfig": obj(
        {"collections": _by_name(ref("CacheSettings"), "Limits in force, by collection.")},
        "collections",
    ),
    "ChangeCacheConfig": {
        **obj({"collection": _COLLECTION, **_SETTINGS}, "collection", closed=True),
        "minProperties": 2,
    },
    "ClearCache": obj({"collection": or_null(_COLLECTION)}, closed=True),
    "WarmCache": obj(
        {
            "collection": or_null(_COLLECTION),
            "keys": _keys("Which entries; else those used most, if the store knows.", 10_000),
        },
        closed=True,
    ),
    "CacheCounts": obj(
        {
            "collections": _by_name({"type": "integer"}, "Entries, by collection."),
            "total": uint("Of all together."),
        },
        "collections",
        "total",
    ),
}
