"""The routes and shapes of `/openapi.json` that the dashboard has. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_parts import answer_of, operation, query_field
from syncd.http.openapi_schemas import Schema, list_of, obj, or_null, ref, text, uint

__all__ = ["DASHBOARD_PATHS", "DASHBOARD_SCHEMAS"]

_SAMPLE = {"at_ms": 1_700_000_001_000, "connections": 4, "messages_in_per_s": 120.0}
_NOW = {
    "sample": _SAMPLE,
    "version": "0.1.0",
    "uptime_s": 12.5,
    "not_ready": [],
    "actors": [
        {
            "name": "broadcaster",
            "state": "ok",
            "num_restarts": 0,
            "last_error": None,
            "queue": {"waiting": 0, "bytes": 0, "peak": 12, "refused": 0},
        }
    ],
    "collections": {"orders": {"num_entries": 100, "hits": 90, "misses": 10}},
}
_CHANNEL = {
    "channel": "demo:lobby",
    "num_subscribers": 3,
    "rate_per_s": 1.5,
    "epoch": "4f2a9c01d7be6a53",
    "offset": 42,
}
_SESSION = {
    "session": "4f2a9c-1",
    "user": "ada",
    "clients": ["c-7c9e"],
    "peer": "127.0.0.1",
    "num_subscriptions": 2,
    "outbox_bytes": 65_536,
    "outbox_budget_bytes": 1_048_576,
    "behind_s": 1.5,
    "silent_s": 3.0,
    "is_paused": False,
}
_ERROR = {
    "timestamp": "2026-11-29T12:00:00.000000Z",
    "level": "warning",
    "event": "news_refused",
    "code": "store_unavailable",
}


def _page(orders: list[str], default: str) -> list[Schema]:
    order = {"type": "string", "enum": orders, "default": default}
    return [
        query_field("order", "Sort by this; equal rows by their name.", order),
        query_field("descending", "The largest first.", {"type": "boolean", "default": False}),
        query_field("contains", "Only rows with this text in a name.", {"type": "string"}),
        query_field(
            "limit",
            "List this many at most.",
            {"type": "integer", "minimum": 0, "maximum": 500, "default": 100},
        ),
        query_field(
            "skip",
            "Leave out so many of the first.",
            {"type": "integer", "minimum": 0, "maximum": 20_000, "default": 0},
        ),
    ]


def _get(path: str, doc: str, answer: Schema, *parameters: Schema) -> Schema:
    return {
        "get": operation(
            doc,
            answer,
            "403",
            operationId=path,
            tags=["operating"],
            parameters=list(parameters),
        )
    }


_BY_ID: dict[str, Any] = {
    "name": "session",
    "in": "path",
    "required": True,
    "description": "Id of a session.",
    "schema": {"type": "string"},
    "example": _SESSION["session"],
}
_CHANNEL_ORDERS = ["channel", "num_subscribers", "rate_per_s", "offset"]
_SESSION_ORDERS = [
    "outbox_bytes",
    "behind_s",
    "silent_s",
    "num_subscriptions",
    "session",
    "user",
]

DASHBOARD_PATHS: dict[str, Schema] = {
    "/api/admin/stats": _get(
        "nodeStats",
        "Tell how the node stands and the last ten minutes, a sample a second. The same `now` is published on `$node:stats` while "
        "somebody is subscribed.",
        answer_of(
            "Columns are of one length, oldest first.",
            "NodeStats",
            {"now": _NOW, "columns": {name: [value] for name, value in _SAMPLE.items()}},
        ),
    ),
    "/api/admin/channels": _get(
        "channelTable",
        "List channels with subscribers or state in memory, as of about a second ago.",
        answer_of(
            "A page of them.",
            "ChannelTable",
            {"channels": [_CHANNEL], "num_found": 1, "is_complete": True},
        ),
        *_page(_CHANNEL_ORDERS, "num_subscribers"),
    ),
    "/api/admin/sessions": _get(
        "sessionTable",
        "List sessions, those with the fullest outboxes if `descending`.",
        answer_of(
            "A page of them.",
            "SessionTable",
            {"sessions": [_SESSION], "num_found": 1, "is_complete": True},
        ),
        *_page(_SESSION_ORDERS, "outbox_bytes"),
        query_field("channel", "Only sessions in this channel or collection.", {"type": "string"}),
    ),
    "/api/admin/sessions/{session}": _get(
        "sessionChannels",
        "Tell which channels a session is in.",
        answer_of(
            "Subscriptions and watches, by name.",
            "SessionChannels",
            {"session": _SESSION["session"], "channels": ["demo:lobby"]},
        ),
        _BY_ID,
    ),
    "/api/admin/errors": _get(
        "recentErrors",
        "Tell the newest warnings and errors of the log, the newest first.",
        answer_of("At most 200 are remembered.", "RecentErrors", {"errors": [_ERROR]}),
        query_field(
            "limit",
            "List this many at most.",
            {"type": "integer", "minimum": 0, "maximum": 500, "default": 100},
        ),
    ),
}

_number: Schema = {"type": "number"}
_CHANNEL_FIELDS: dict[str, Schema] = {
    "channel": text("Its name.", 255),
    "num_subscribers": uint("Sessions in it."),
    "rate_per_s": or_null(
        {"type": "number", "description": "Events a second, lately; null until it was seen twice."}
    ),
    "epoch": or_null({"type": "string"}),
    "offset": or_null(uint("Of its newest event; null where there are no positions.")),
}
_SESSION_FIELDS: dict[str, Schema] = {
    "session": text("Its id.", 64),
    "user": or_null({"type": "string"}),
    "clients": list_of({"type": "string"}),
    "peer": {"type": "string", "description": "Address of its connection."},
    "num_subscriptions": uint("Subscriptions and watches."),
    "outbox_bytes": uint("What waits because its socket takes no more."),
    "outbox_budget_bytes": uint("How much may wait."),
    "behind_s": {"type": "number", "description": "How long its socket has taken nothing of that."},
    "silent_s": {"type": "number", "description": "Since anything was heard of it."},
    "is_paused": {"type": "boolean", "description": "Nothing is read of it for now."},
}
_TABLE: dict[str, Schema] = {
    "num_found": uint("Rows there are, on all pages."),
    "is_complete": {
        "type": "boolean",
        "description": "False: only the first 20,000 were looked at.",
    },
}

DASHBOARD_SCHEMAS: dict[str, Schema] = {
    "NodeStats": obj(
        {
            "now": {"type": "object"},
            "columns": {
                "type": "object",
                "additionalProperties": list_of(or_null(_number)),
            },
        },
        "now",
        "columns",
    ),
    "ChannelRow": obj(_CHANNEL_FIELDS, *_CHANNEL_FIELDS),
    "ChannelTable": obj({"channels": list_of(ref("ChannelRow")), **_TABLE}, "channels", *_TABLE),
    "SessionRow": obj(_SESSION_FIELDS, *_SESSION_FIELDS),
    "SessionTable": obj({"sessions": list_of(ref("SessionRow")), **_TABLE}, "sessions", *_TABLE),
    "SessionChannels": obj(
        {"session": text("Its id.", 64), "channels": list_of({"type": "string"})},
        "session",
        "channels",
    ),
    "RecentErrors": obj({"errors": list_of({"type": "object"})}, "errors"),
}
