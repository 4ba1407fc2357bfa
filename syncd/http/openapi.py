"""`/openapi.json`: every route, its bodies, answers and examples. Data only; a test compares it with the application."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_schemas import SCHEMAS, Schema, ref

__all__ = ["openapi_document"]

_INTRO = """\
Publish to channels, read them, and act on live sessions. Every error is `{"error": {code, message, retryable, after_ms?}}`; \
codes are the contract, texts may change. Bodies are JSON in UTF-8 of at most 1 MiB and 50,000 values. Binary data is sent as \
`data_base64` and read as `{"$base64": "..."}`; an object that only looks like that is read as `{"$escape": {...}}`, and a \
float that JSON cannot hold as `{"$float": "NaN"}`."""

_POSITION = {"epoch": "4f2a9c01d7be6a53", "offset": 42}
_WHO_EXAMPLE = {"user": "ada"}
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
        "paths": {**_PUBLISHING, **_SESSIONS, **_READS, **_OPEN},
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key of `api_keys`. Client tokens (JWT) are not accepted.",
                }
            },
        },
    }


# ------------------------------------------------------------------------------------------------ parts


def _json(schema: str, example: object) -> Schema:
    return {"application/json": {"schema": ref(schema), "example": example}}


def _failure(doc: str, code: str, message: str, *, retryable: bool = False) -> Schema:
    example = {"error": {"code": code, "message": message, "retryable": retryable}}
    return {"description": doc, "content": _json("Failure", example)}


_UNAUTHORIZED = _failure(
    "Key missing or wrong.", "unauthorized", "The token or key is missing or not accepted."
)
_BAD = _failure("The request is wrong.", "bad_request", "Field 'channel' must be a string.")
_DENIED = _failure(
    "No such namespace.",
    "permission_denied",
    "The channel does not exist or this identity may not do that on it.",
)
_LIMITED = _failure(
    "Too many wrong keys.",
    "rate_limited",
    "Too many wrong keys from this address.",
    retryable=True,
)
_BUSY = _failure(
    "Overloaded, stopping, or the store is away.",
    "overloaded",
    "The server has too much to do; try again after after_ms.",
    retryable=True,
)
_TIMEOUT = _failure(
    "No answer in time; a command may still take effect.",
    "store_unavailable",
    "No answer in time: it may still happen. Repeat the request with the same Idempotency-Key.",
    retryable=True,
)
_TOO_LARGE = _failure("Body or data too large.", "too_large", "The body is larger than 1 MiB.")
_MEDIA = _failure(
    "Not JSON.", "bad_request", "The body must be sent as application/json, in UTF-8."
)
_MISMATCH = _failure(
    "The idempotency key was used for another request.",
    "idempotency_mismatch",
    "This idempotency key was used for a different request.",
)


def _operation(summary: str, answer: Schema, *failures: str, **more: Any) -> Schema:
    """Return one operation; `failures` are statuses besides those of every keyed route."""
    known = {
        "403": _DENIED,
        "413": _TOO_LARGE,
        "415": _MEDIA,
        "422": _MISMATCH,
        "503": _BUSY,
        "504": _TIMEOUT,
    }
    answers = {"200": answer, "400": _BAD, "401": _UNAUTHORIZED, "429": _LIMITED}
    answers.update({status: known[status] for status in failures})
    return {"summary": summary, "responses": answers, **more}


def _answer(doc: str, schema: str, example: object) -> Schema:
    return {"description": doc, "content": _json(schema, example)}


def _body(schema: str, example: object) -> Schema:
    return {"required": True, "content": _json(schema, example)}


def _query(name: str, doc: str, schema: Schema, *, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "required": required, "description": doc, "schema": schema}


def _limit(maximum: int, default: int) -> Schema:
    schema = {"type": "integer", "minimum": 0, "maximum": maximum, "default": default}
    return _query("limit", "List this many at most.", schema)


_CHANNEL_QUERY = _query("channel", "Which channel.", ref("Channel"), required=True)

_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Repeating a request with the same key within 24 h has no second effect and gets the first answer. 1 to 128 "
        "printable ASCII characters (a batch: 120; its n-th command, from 0, gets `<key>/n`)."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}

# ------------------------------------------------------------------------------------------------ routes

_PUBLISHING: dict[str, Schema] = {
    "/api/publish": {
        "post": _operation(
            "Publish one event.",
            _answer(
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
            parameters=[_KEY_HEADER],
            requestBody=_body(
                "Publish", {"channel": "demo:lobby", "name": "greeting", "data": {"text": "hello"}}
            ),
        )
    },
    "/api/batch": {
        "post": _operation(
            "Publish up to 1,000 events, answered one by one.",
            _answer(
                "One result per command, in order; a refused command does not stop the others.",
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
            parameters=[_KEY_HEADER],
            requestBody=_body(
                "Batch",
                {
                    "commands": [
                        {"publish": {"channel": "demo:lobby", "data": 1}},
                        {"publish": {"channel": "demo:lobby", "data_base64": "AAEC"}},
                    ]
                },
            ),
        )
    },
}


def _session_route(
    name: str, summary: str, doc: str, example: dict[str, Any], *failures: str
) -> Schema:
    return {
        "post": _operation(
            summary,
            _answer("Done on this node when answered.", "Sessions", {"num_sessions": 1}),
            "413",
            "415",
            *failures,
            operationId=name,
            tags=["sessions"],
            description=doc,
            requestBody=_body(name.capitalize(), example),
        )
    }


_SESSIONS: dict[str, Schema] = {
    "/api/disconnect": _session_route(
        "disconnect",
        "Close sessions.",
        "All fields given must match. Close code 4503, or 4007 with `reconnect`.",
        {**_WHO_EXAMPLE, "reconnect": True, "reason": "new permissions"},
    ),
    "/api/unsubscribe": _session_route(
        "unsubscribe",
        "End subscriptions to a channel.",
        "Queued events of the channel are dropped and `unsubscribed` is told.",
        {**_WHO_EXAMPLE, "channel": "demo:lobby"},
        "403",
    ),
    "/api/revoke": _session_route(
        "revoke",
        "Refuse a user or a token from now on.",
        "Its sessions are closed with 4401. A token that has expired anyway needs no longer entry.",
        {"token_id": "7c9e", "until_ms": 1767225600000},
    ),
}

_READS: dict[str, Schema] = {
    "/api/channels": {
        "get": _operation(
            "List channels with subscribers or state in memory.",
            _answer(
                "Channels of this node.",
                "ChannelList",
                {
                    "channels": [
                        {"channel": "demo:lobby", "num_subscribers": 2, "position": _POSITION}
                    ],
                    "is_complete": True,
                },
            ),
            operationId="channels",
            tags=["read"],
            parameters=[
                _query("prefix", "Names that start so.", {"type": "string"}),
                _limit(1000, 100),
            ],
        )
    },
    "/api/presence": {
        "get": _operation(
            "List who is present in a channel.",
            _answer(
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
            parameters=[_CHANNEL_QUERY, _limit(10_000, 1000)],
        )
    },
    "/api/history": {
        "get": _operation(
            "Read events of the past.",
            _answer(
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
            "503",
            "504",
            operationId="history",
            tags=["read"],
            parameters=[
                _CHANNEL_QUERY,
                _limit(1000, 100),
                _query("since_epoch", "With `since_offset`: start there.", {"type": "string"}),
                _query(
                    "since_offset",
                    "Events after it (with `reverse`: before it).",
                    {"type": "integer", "minimum": 0},
                ),
                _query("reverse", "Newest first.", {"type": "boolean", "default": False}),
            ],
        )
    },
    "/api/info": {
        "get": _operation(
            "Tell how this node is.",
            _answer(
                "Version, health, counts, namespaces.",
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
                },
            ),
            operationId="info",
            tags=["read"],
        )
    },
}


def _open(summary: str, name: str, answers: dict[str, Schema], *parameters: Schema) -> Schema:
    """Return a GET route that needs no key."""
    operation = {
        "summary": summary,
        "operationId": name,
        "tags": ["open"],
        "security": [],
        "responses": answers,
    }
    return {"get": {**operation, "parameters": list(parameters)} if parameters else operation}


def _text_answer(doc: str, kind: str) -> Schema:
    return {"description": doc, "content": {kind: {"schema": {"type": "string"}}}}


_NOT_FOUND = _failure("No such file.", "bad_request", "There is no such file.")
_READY = {"status": "ready", "reasons": [], "actors": _ACTORS}
_NOT_READY = {"status": "not_ready", "reasons": ["store: restarting"], "actors": _ACTORS}

_OPEN: dict[str, Schema] = {
    "/health/live": _open(
        "Tell that the process answers.",
        "live",
        {"200": _answer("It does.", "Live", {"status": "ok"})},
    ),
    "/health/ready": _open(
        "Tell whether to send traffic here.",
        "ready",
        {
            "200": _answer("Ready.", "Ready", _READY),
            "503": _answer("Not ready, and why.", "Ready", _NOT_READY),
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
        "The demo page.",
        "index",
        {"200": _text_answer("A page.", "text/html"), "404": _NOT_FOUND},
    ),
    "/static/{name}": _open(
        "Files of the demo page.",
        "static",
        {"200": _text_answer("The file.", "*/*"), "404": _NOT_FOUND},
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
    ),
}
