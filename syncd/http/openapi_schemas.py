"""The shapes of `/openapi.json`: JSON Schema 2020-12, as OpenAPI 3.1 wants it. Data only."""

from __future__ import annotations

from typing import Any

from syncd.codes import ErrorCode

__all__ = ["SCHEMAS", "obj", "ref"]

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Return a reference to a shape of this file."""
    return {"$ref": f"#/components/schemas/{name}"}


def obj(properties: dict[str, Schema], *required: str, closed: bool = False) -> Schema:
    """Return an object shape; `closed` refuses other fields, as the server does in requests."""
    schema: Schema = {"type": "object", "properties": properties, "required": list(required)}
    if closed:
        schema["additionalProperties"] = False
    return schema


def _text(doc: str, max_length: int | None = None) -> Schema:
    schema: Schema = {"type": "string", "description": doc}
    return schema if max_length is None else {**schema, "maxLength": max_length}


def _uint(doc: str) -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "description": doc}


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


_CHANNEL: Schema = {
    "type": "string",
    "maxLength": 255,
    "pattern": "^[a-z0-9][a-z0-9_-]{0,63}:.+$",
    "description": "`namespace:name`; the namespace must be configured.",
    "example": "demo:lobby",
}

_WHO = {
    "user": _text("User id (the token's subject).", 255),
    "session": _text("Session id, as told in `welcome`.", 255),
    "client": _text("Client id.", 255),
    "token_id": _text("The token's `jti`.", 255),
}

_ONE_OF_WHO = [{"required": [field]} for field in _WHO]

_PUBLISH_FIELDS: dict[str, Schema] = {
    "channel": ref("Channel"),
    "data": {
        "description": "Any JSON value, null included; integers within ±(2^53-1), 30 containers deep at most."
    },
    "data_base64": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "Instead of `data`: binary data in standard base64. Subscribers get a msgpack bin.",
    },
    "name": _text("What kind of event this is.", 128),
    "key": _text("Conflation and latest-value key.", 255),
    "uid": _text(
        "Idempotency key, kept 24 h per API key; the `Idempotency-Key` header is the same.", 128
    ),
}

SCHEMAS: dict[str, Schema] = {
    "Channel": _CHANNEL,
    "Position": obj(
        {
            "epoch": _text("Incarnation of the channel's log; compare for equality only."),
            "offset": _uint("Everything up to and with this offset."),
        },
        "epoch",
        "offset",
    ),
    "Error": obj(
        {
            "code": {"type": "string", "enum": [code.value for code in ErrorCode]},
            "message": _text("For people; may change."),
            "retryable": {
                "type": "boolean",
                "description": "The same request may succeed later, unchanged.",
            },
            "after_ms": _uint("Wait at least this long before trying again."),
        },
        "code",
        "message",
        "retryable",
    ),
    "Failure": obj({"error": ref("Error")}, "error"),
    "Publish": {
        **obj(_PUBLISH_FIELDS, "channel", closed=True),
        "oneOf": [{"required": ["data"]}, {"required": ["data_base64"]}],
    },
    "Published": obj(
        {
            "position": {
                **_or_null(ref("Position")),
                "description": "Where the event stands; null on ephemeral channels.",
            }
        },
        "position",
    ),
    "Batch": obj(
        {
            "commands": _list(
                obj({"publish": ref("Publish")}, "publish", closed=True), maxItems=1000
            )
        },
        "commands",
        closed=True,
    ),
    "BatchResults": obj(
        {
            "results": {
                **_list(
                    {
                        "oneOf": [
                            obj({"ok": ref("Published")}, "ok", closed=True),
                            obj({"error": ref("Error")}, "error", closed=True),
                        ]
                    }
                ),
                "description": "One per command, in their order.",
            }
        },
        "results",
    ),
    "Disconnect": {
        **obj(
            {
                **_WHO,
                "reconnect": {
                    "type": "boolean",
                    "default": False,
                    "description": "Close with 4007 (come back) instead of 4503 (stop).",
                },
                "reason": _text("Told in the close frame.", 120),
            },
            closed=True,
        ),
        "anyOf": _ONE_OF_WHO,
    },
    "Unsubscribe": {
        **obj({**_WHO, "channel": ref("Channel")}, "channel", closed=True),
        "anyOf": _ONE_OF_WHO,
    },
    "Revoke": {
        **obj(
            {
                "user": _WHO["user"],
                "token_id": _WHO["token_id"],
                "until_ms": _uint(
                    "Refuse until this wall-clock time, ms since 1970; default 24 h."
                ),
            },
            closed=True,
        ),
        "anyOf": [{"required": ["user"]}, {"required": ["token_id"]}],
    },
    "Sessions": obj(
        {"num_sessions": _uint("Sessions of this node that were touched.")}, "num_sessions"
    ),
    "ChannelList": obj(
        {
            "channels": _list(
                obj(
                    {
                        "channel": ref("Channel"),
                        "num_subscribers": _uint("Subscriptions on this node."),
                        "position": _or_null(ref("Position")),
                    },
                    "channel",
                    "num_subscribers",
                    "position",
                )
            ),
            "is_complete": {
                "type": "boolean",
                "description": "False: there are more than `limit`.",
            },
        },
        "channels",
        "is_complete",
    ),
    "Event": obj(
        {
            "channel": ref("Channel"),
            "epoch": _text("Incarnation of the channel's log."),
            "prev": _uint("Offset of the event before it."),
            "offset": _uint("Its place in the channel."),
            "name": _text("What kind of event."),
            "data": {"description": 'What was published; binary data as `{"$base64": "..."}`.'},
            "key": _text("Conflation and latest-value key."),
            "by": obj({"client": _text("Client that published; absent for backends.")}, "client"),
            "at_ms": _uint("Server wall clock at acceptance, ms since 1970."),
        },
        "channel",
        "data",
        "at_ms",
    ),
    "History": obj(
        {
            "channel": ref("Channel"),
            "position": {**ref("Position"), "description": "The channel's newest position."},
            "events": _list(ref("Event")),
        },
        "channel",
        "position",
        "events",
    ),
    "PresenceList": obj(
        {
            "channel": ref("Channel"),
            "num_members": _uint("All members, listed or not."),
            "members": _list(
                obj(
                    {
                        "member": _text("User id, or client id for anonymous clients."),
                        "user": _or_null(_text("User id.")),
                        "states": _list(
                            obj({"client": _text("Client id."), "state": {}}, "client", "state")
                        ),
                    },
                    "member",
                    "states",
                )
            ),
        },
        "channel",
        "num_members",
        "members",
    ),
    "Actor": obj(
        {
            "name": _text("Which actor."),
            "state": {
                "type": "string",
                "enum": ["starting", "ok", "restarting", "failed", "stopped"],
            },
            "num_restarts": _uint("Since the node started."),
            "last_error": _or_null(_text("Type of the last exception that ended it.")),
        },
        "name",
        "state",
        "num_restarts",
        "last_error",
    ),
    "Info": obj(
        {
            "version": _text("Of the server."),
            "started_at_ms": _uint("Wall clock, ms since 1970."),
            "uptime_s": {"type": "number"},
            "loop_lag_ms": {
                "type": "number",
                "description": "How late the event loop woke lately.",
            },
            "not_ready": _list({"type": "string"}),
            "actors": _list(ref("Actor")),
            "gateway": {"type": "object", "description": "Counts since the start."},
            "namespaces": {"type": "object", "description": "Options of each namespace."},
        },
        "version",
        "started_at_ms",
        "uptime_s",
        "loop_lag_ms",
        "not_ready",
        "actors",
        "gateway",
        "namespaces",
    ),
    "Live": obj({"status": {"const": "ok"}}, "status"),
    "Ready": obj(
        {
            "status": {"type": "string", "enum": ["ready", "not_ready"]},
            "reasons": _list({"type": "string"}),
            "actors": _list(ref("Actor")),
        },
        "status",
        "reasons",
        "actors",
    ),
}
