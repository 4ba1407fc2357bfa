"""`/openapi.json`: every route, its bodies, answers and examples. Data only; a test compares it with the application."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_dashboard import DASHBOARD_PATHS, DASHBOARD_SCHEMAS
from syncd.http.openapi_operators import OPERATOR_PATHS, OPERATOR_SCHEMAS
from syncd.http.openapi_parts import (
    CHANNEL_QUERY,
    KEY_HEADER,
    answer_of,
    body_of,
    failure,
    limit,
    operation,
    query_field,
)
from syncd.http.openapi_rebuild import REBUILD_PATHS, REBUILD_SCHEMAS
from syncd.http.openapi_schemas import SCHEMAS, Schema
from syncd.http.openapi_state import STATE_PATHS
from syncd.http.openapi_state_schemas import STATE_SCHEMAS

__all__ = ["openapi_document"]

_INTRO = """\
Publish to channels, change and read collections, and act on live sessions. Every error is `{"error": {code, message, retryable, after_ms?}}`; \
codes are the contract, texts may change. Bodies are JSON in UTF-8 of at most 1 MiB and 50,000 values. Binary data is sent as \
`data_base64` and read as `{"$base64": "..."}`; an object that only looks like that is read as `{"$escape": {...}}`, and a \
float that JSON cannot hold as `{"$float": "NaN"}`."""

_POSITION = {"epoch": "4f2a9c01d7be6a53", "offset": 42}
_ACTORS = [{"name": "broadcaster", "state": "ok", "num_restarts": 0, "last_error": None}]


def openapi_document(version: str) -> dict[str, Any]:
    """Return the API's description as an OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "syncd",
            "version": version,
            "description": _INTRO,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {
            **_PUBLISHING,
            **STATE_PATHS,
            **REBUILD_PATHS,
            **OPERATOR_PATHS,
            **_READS,
            **_OPERATING,
            **DASHBOARD_PATHS,
            **_OPEN,
        },
        "components": {
            "schemas": {
                **SCHEMAS,
                **STATE_SCHEMAS,
                **REBUILD_SCHEMAS,
                **OPERATOR_SCHEMAS,
                **DASHBOARD_SCHEMAS,
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key of `api_keys`. Where operators ask, a token with the role `admin` does as well; other client "
                    "tokens (JWT) are not accepted anywhere.",
                }
            },
        },
    }


# ------------------------------------------------------------------------------------------------ routes

_PUBLISHING: dict[str, Schema] = {
    "/api/publish": {
        "post": operation(
            "Publish one event.",
            answer_of(
                "Published (durable channels: committed).", "Published", {"position": _POSITION}
            ),
            "403",
            "413",
            "415",
            "422",
            "503",
            "504",
            operationId="publish",
            tags=["publish"],
            parameters=[KEY_HEADER],
            requestBody=body_of(
                "Publish", {"channel": "demo:lobby", "name": "greeting", "data": {"text": "hello"}}
            ),
        )
    },
    "/api/batch": {
        "post": operation(
            "Carry out up to 1,000 commands, in order, answered one by one.",
            answer_of(
                "One result per command, in order. A refused command does not stop the others; a mutation or invalidation that may "
                "succeed later does, and they are answered alike.",
                "BatchResults",
                {
                    "results": [
                        {"ok": {"position": _POSITION}},
                        {
                            "error": {
                                "code": "bad_channel",
                                "message": "The channel name is not of the form namespace:name.",
                                "retryable": False,
                            }
                        },
                    ]
                },
            ),
            "413",
            "415",
            operationId="batch",
            tags=["publish"],
            parameters=[KEY_HEADER],
            requestBody=body_of(
                "Batch",
                {
                    "commands": [
                        {"publish": {"channel": "demo:lobby", "data": 1}},
                        {"publish": {"channel": "demo:lobby", "data_base64": "AAEC"}},
                        {"mutate": {"name": "orders.ship", "args": ["o1", "ACME"]}},
                    ]
                },
            ),
        )
    },
}


_READS: dict[str, Schema] = {
    "/api/channels": {
        "get": operation(
            "List channels with subscribers or state in memory.",
            answer_of(
                "Channels of this node.",
                "ChannelList",
                {
                    "channels": [
                        {"channel": "demo:lobby", "num_subscribers": 2, "position": _POSITION}
                    ],
                    "is_complete": True,
                },
            ),
            "403",
            operationId="channels",
            tags=["read"],
            parameters=[
                query_field("prefix", "Names that start so.", {"type": "string"}),
                limit(1000, 100),
            ],
        )
    },
    "/api/presence": {
        "get": operation(
            "List who is present in a channel.",
            answer_of(
                "Members.",
                "PresenceList",
                {
                    "channel": "demo:lobby",
                    "num_members": 1,
                    "members": [
                        {
                            "member": "ada",
                            "user": "ada",
                            "states": [{"client": "c1", "state": {"typing": True}}],
                        }
                    ],
                },
            ),
            "403",
            "503",
            "504",
            operationId="presence",
            tags=["read"],
            parameters=[CHANNEL_QUERY, limit(10_000, 1000)],
        )
    },
    "/api/history": {
        "get": operation(
            "Read events of the past.",
            answer_of(
                "Events, oldest first, or newest first with `reverse`.",
                "History",
                {
                    "channel": "demo:lobby",
                    "position": _POSITION,
                    "events": [
                        {
                            "channel": "demo:lobby",
                            "epoch": "4f2a9c01d7be6a53",
                            "prev": 41,
                            "offset": 42,
                            "name": "greeting",
                            "data": {"text": "hello"},
                            "at_ms": 1767225600000,
                        }
                    ],
                },
            ),
            "403",
            "410",
            "503",
            "504",
            operationId="history",
            tags=["read"],
            parameters=[
                CHANNEL_QUERY,
                limit(1000, 100),
                query_field("since_epoch", "With `since_offset`: start there.", {"type": "string"}),
                query_field(
                    "since_offset",
                    "Events after it (with `reverse`: before it).",
                    {"type": "integer", "minimum": 0},
                ),
                query_field("reverse", "Newest first.", {"type": "boolean", "default": False}),
            ],
        )
    },
    "/api/info": {
        "get": operation(
            "Tell how this node is.",
            answer_of(
                "Version, health, counts, namespaces, collections.",
                "Info",
                {
                    "version": "0.1.0",
                    "started_at_ms": 1767225600000,
                    "uptime_s": 12.5,
                    "loop_lag_ms": 0.2,
                    "not_ready": [],
                    "actors": _ACTORS,
                    "gateway": {"num_connections": 2, "num_sessions": 2},
                    "namespaces": {"demo": {"mode": "stream", "history": "durable"}},
                    "collections": {"orders": {"volatile": False, "max_entries": 100_000}},
                },
            ),
            "403",
            operationId="info",
            tags=["read"],
        )
    },
}


def _open(summary: str, name: str, answers: dict[str, Schema], *parameters: Schema) -> Schema:
    """Return a GET route that needs no key."""
    described = {
        "summary": summary,
        "operationId": name,
        "tags": ["open"],
        "security": [],
        "responses": answers,
    }
    return {"get": {**described, "parameters": list(parameters)} if parameters else described}


def _text_answer(doc: str, kind: str) -> Schema:
    return {"description": doc, "content": {kind: {"schema": {"type": "string"}}}}


_NOT_FOUND = failure("No such file.", "bad_request", "There is no such file.")
_READY = {"status": "ready", "reasons": [], "actors": _ACTORS}
_NOT_READY = {"status": "not_ready", "reasons": ["store: restarting"], "actors": _ACTORS}

_BACKUP_EXAMPLE = {
    "path": "/var/backups/syncd.db",
    "size_bytes": 4096,
    "num_channels": 1,
    "positions": {"demo:lobby": _POSITION},
}

_OPERATING: dict[str, Schema] = {
    "/api/backup": {
        "post": operation(
            "Copy the store to a new file, while it is used.",
            answer_of("Done, and durable.", "BackupReport", _BACKUP_EXAMPLE),
            "403",
            "413",
            "415",
            "503",
            operationId="backup",
            tags=["read"],
            requestBody=body_of("Backup", {"path": "/var/backups/syncd.db"}),
        )
    },
    "/metrics": {
        "get": operation(
            "Counts for Prometheus.",
            _text_answer("Text format 0.0.4.", "text/plain; version=0.0.4; charset=utf-8"),
            operationId="metrics",
            tags=["read"],
        )
    },
}

_OPEN: dict[str, Schema] = {
    "/health/live": _open(
        "Tell that the process answers.",
        "live",
        {"200": answer_of("It does.", "Live", {"status": "ok"})},
    ),
    "/health/ready": _open(
        "Tell whether to send traffic here.",
        "ready",
        {
            "200": answer_of("Ready.", "Ready", _READY),
            "503": answer_of("Not ready, and why.", "Ready", _NOT_READY),
        },
    ),
    "/openapi.json": _open(
        "This description.",
        "openapi",
        {
            "200": {
                "description": "OpenAPI 3.1.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    ),
    "/docs": _open(
        "This description for people.", "docs", {"200": _text_answer("A page.", "text/html")}
    ),
    "/": _open(
        "The order board of `syncd serve --demo`, else the channel viewer.",
        "index",
        {"200": _text_answer("A page.", "text/html"), "404": _NOT_FOUND},
    ),
    "/channels": _open(
        "The channel viewer.",
        "channels_page",
        {"200": _text_answer("A page.", "text/html"), "404": _NOT_FOUND},
    ),
    "/admin": _open(
        "The dashboard for operators; what it shows it asks for with their token.",
        "admin_page",
        {"200": _text_answer("A page.", "text/html"), "404": _NOT_FOUND},
    ),
    "/static/{name}": _open(
        "Files of the pages.",
        "static",
        {"200": _text_answer("The file.", "*/*"), "404": _NOT_FOUND},
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
    ),
}
