"""The routes of `/openapi.json` about collections. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_parts import KEY_HEADER, answer_of, body_of, operation, query_field
from syncd.http.openapi_schemas import Schema

__all__ = ["STATE_PATHS"]

_POSITIONS = {"orders": {"epoch": "4f2a9c01d7be6a53", "offset": 42}}
_SETTINGS = {"max_entries": 100_000, "max_bytes": 268_435_456, "ttl_s": 600.0, "stale_s": 60.0}
_COUNTS = {"num_entries": 3, "num_bytes": 1200, "hits": 97, "misses": 3, "hit_rate": 0.97}
_ONE_COLLECTION = query_field("collection", "Only this one.", {"type": "string"})

_AFTER = {
    "name": "Syncd-After",
    "in": "header",
    "required": False,
    "description": (
        "Read your writes: `<channel>=<epoch>:<offset>`, several with commas between, as a mutation's `positions` had them. The "
        "answer is at least as new; a node that is behind answers 503 `behind` after 2 s. The query field `after` means the same."
    ),
    "schema": {"type": "string"},
    "example": "orders=4f2a9c01d7be6a53:42",
}


def _post(
    name: str, summary: str, answer: Schema, body: str, example: Any, *failures: str, **more: Any
) -> Schema:
    return operation(
        summary,
        answer,
        "413",
        "415",
        *failures,
        operationId=name,
        tags=["collections"],
        requestBody=body_of(body, example),
        **more,
    )


STATE_PATHS: dict[str, Schema] = {
    "/api/mutate": {
        "post": _post(
            "mutate",
            "Run a mutator, once.",
            answer_of(
                "Decided and durable: `ok`, or `rejected` for good.",
                "Outcome",
                {"status": "ok", "value": {"eta_days": 2}, "positions": _POSITIONS},
            ),
            "Mutate",
            {"name": "orders.ship", "args": {"order_id": "o1", "carrier": "ACME"}},
            "422",
            "503",
            "504",
            description=(
                "A service may call every mutator. A rejection is an answer (200), kept under its idempotency key like any other; an "
                "error means that nothing was decided."
            ),
            parameters=[KEY_HEADER],
        )
    },
    "/api/invalidate": {
        "post": _post(
            "invalidate",
            "Say that entries may have changed at their source.",
            answer_of(
                "Expired and told to watchers; what is watched is being loaded anew.",
                "Invalidated",
                {"positions": {"prices": {"epoch": "4f2a9c01d7be6a53", "offset": 7}}},
            ),
            "Invalidate",
            {"collection": "prices", "tags": ["fruit"], "cause": "price list of May"},
            "403",
            "503",
            "504",
        )
    },
    "/api/entries": {
        "get": operation(
            "Read entries.",
            answer_of(
                "Entries as of one position; those not in memory were loaded.",
                "Entries",
                {
                    "channel": "orders",
                    "position": _POSITIONS["orders"],
                    "entries": [
                        {"key": "o1", "version": 42, "value": {"status": "shipped"}},
                        {"key": "o2", "version": 42, "deleted": True},
                    ],
                },
            ),
            "403",
            "502",
            "503",
            "504",
            operationId="entries",
            tags=["collections"],
            parameters=[
                query_field("collection", "Which collection.", {"type": "string"}, required=True),
                query_field(
                    "key",
                    "Which entry; up to 1,000 times, in one partition.",
                    {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    required=True,
                ),
                query_field("after", "As the header `Syncd-After`.", {"type": "string"}),
                _AFTER,
            ],
        )
    },
    "/api/cache/stats": {
        "get": operation(
            "Count what collections hold in memory and what became of lookups, loads and mutations.",
            answer_of(
                "Counts since the node started.",
                "CacheStats",
                {"collections": {"prices": _COUNTS}, "total": _COUNTS},
            ),
            "403",
            operationId="cacheStats",
            tags=["cache"],
            parameters=[_ONE_COLLECTION],
        )
    },
    "/api/cache/config": {
        "get": operation(
            "Tell the limits of collections in memory.",
            answer_of("Limits in force.", "CacheConfig", {"collections": {"prices": _SETTINGS}}),
            "403",
            operationId="cacheConfig",
            tags=["cache"],
            parameters=[_ONE_COLLECTION],
        ),
        "post": _post(
            "changeCacheConfig",
            "Change limits while the node runs.",
            answer_of(
                "In force at once, until the node stops.",
                "CacheConfig",
                {"collections": {"prices": _SETTINGS}},
            ),
            "ChangeCacheConfig",
            {"collection": "prices", "max_entries": 50_000, "ttl_s": 300},
            "403",
        ),
    },
    "/api/cache/clear": {
        "post": _post(
            "clearCache",
            "Forget what is in memory. Nothing is invalidated, nothing lost.",
            answer_of(
                "How many entries were forgotten.",
                "CacheCounts",
                {"collections": {"prices": 3}, "total": 3},
            ),
            "ClearCache",
            {"collection": "prices"},
            "403",
            "503",
            "504",
        )
    },
    "/api/cache/warm": {
        "post": _post(
            "warmCache",
            "Bring entries into memory.",
            answer_of(
                "How many of them there are.",
                "CacheCounts",
                {"collections": {"prices": 2}, "total": 2},
            ),
            "WarmCache",
            {"collection": "prices", "keys": ["apple", "pear"]},
            "403",
            "503",
            "504",
        )
    },
}
