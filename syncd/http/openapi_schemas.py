"""The shapes of `/openapi.json`: JSON Schema 2020-12, as OpenAPI 3.1 wants it. Data only."""

from __future__ import annotations

from typing import Any

from syncd.codes import ErrorCode

__all__ = ["SCHEMAS", "Schema", "list_of", "obj", "or_null", "ref", "text", "uint"]

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


def text(doc: str, max_length: int | None = None) -> Schema:
    """Return a string."""
    schema: Schema = {"type": "string", "description": doc}
    return schema if max_length is None else {**schema, "maxLength": max_length}


def uint(doc: str) -> Schema:
    """Return a non-negative integer that JavaScript can hold."""
    return {"type": "integer", "minimum": 0, "maximum": 2**53 - 1, "description": doc}


def list_of(items: Schema, **more: Any) -> Schema:
    """Return a list of a shape."""
    return {"type": "array", "items": items, **more}


def or_null(schema: Schema) -> Schema:
    """Return a shape or null."""
    return {"anyOf": [schema, {"type": "null"}]}


_CHANNEL: Schema = {
    "type": "string",
    "maxLength": 255,
    "pattern": "^[a-z0-9][a-z0-9_-]{0,63}:.+$",
    "description": "`namespace:name`; the namespace must be configured.",
    "example": "demo:lobby",
}

_WHO = {
    "user": text("User id (the token's subject).", 255),
    "session": text("Session id, as told in `welcome`.", 255),
    "client": text("Client id.", 255),
    "token_id": text("The token's `jti`.", 255),
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
    "name": text("What kind of event this is.", 128),
    "key": text("Conflation and latest-value key.", 255),
    "uid": text(
        "Idempotency key, kept 24 h per API key; the `Idempotency-Key` header is the same.", 128
    ),
}

SCHEMAS: dict[str, Schema] = {
    "Channel": _CHANNEL,
    "Position": obj(
        {
            "epoch": text("Incarnation of the channel's log; compare for equality only."),
            "offset": uint("Everything up to and with this offset."),
        },
        "epoch",
        "offset",
    ),
    "Error": obj(
        {
            "code": {"type": "string", "enum": [code.value for code in ErrorCode]},
            "message": text("For people; may change."),
            "retryable": {
                "type": "boolean",
                "description": "The same request may succeed later, unchanged.",
            },
            "after_ms": uint("Wait at least this long before trying again."),
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
                **or_null(ref("Position")),
                "description": "Where the event stands; null on ephemeral channels.",
            }
        },
        "position",
    ),
    "Batch": obj(
        {
            "commands": list_of(
                {
                    "oneOf": [
                        obj({"publish": ref("Publish")}, "publish", closed=True),
                        obj({"mutate": ref("Mutate")}, "mutate", closed=True),
                        obj({"invalidate": ref("Invalidate")}, "invalidate", closed=True),
                    ]
                },
                maxItems=1000,
            )
        },
        "commands",
        closed=True,
    ),
    "BatchResults": obj(
        {
            "results": {
                **list_of(
                    {
                        "oneOf": [
                            obj(
                                {
                                    "ok": {
                                        "anyOf": [
                                            ref("Published"),
                                            ref("Outcome"),
                                            ref("Invalidated"),
                                        ]
                                    }
                                },
                                "ok",
                                closed=True,
                            ),
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
                "reason": text("Told in the close frame.", 120),
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
                "until_ms": uint("Refuse until this wall-clock time, ms since 1970; default 24 h."),
            },
            closed=True,
        ),
        "anyOf": [{"required": ["user"]}, {"required": ["token_id"]}],
    },
    "Backup": obj(
        {"path": {"type": "string", "description": "Absolute, on the node's machine; a new file."}},
        "path",
        closed=True,
    ),
    "BackupReport": obj(
        {
            "path": {"type": "string"},
            "size_bytes": uint("Of the file."),
            "num_channels": uint("Channels in it."),
            "positions": {
                "type": "object",
                "description": "By channel, the first 1,000: what is in the copy ends there.",
                "additionalProperties": ref("Position"),
            },
        },
        *("path", "size_bytes", "num_channels", "positions"),
    ),
    "Sessions": obj(
        {
            "num_sessions": uint("Sessions that were touched, on all nodes that answered."),
            "nodes_answered": uint("Nodes that did it and said so in time, this one included."),
            "nodes": uint("Nodes that were to do it, this one included."),
        },
        *("num_sessions", "nodes_answered", "nodes"),
    ),
    "ChannelList": obj(
        {
            "channels": list_of(
                obj(
                    {
                        "channel": ref("Channel"),
                        "num_subscribers": uint("Subscriptions on this node."),
                        "position": or_null(ref("Position")),
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
            "epoch": text("Incarnation of the channel's log."),
            "prev": uint("Offset of the event before it."),
            "offset": uint("Its place in the channel."),
            "name": text("What kind of event."),
            "data": {"description": 'What was published; binary data as `{"$base64": "..."}`.'},
            "key": text("Conflation and latest-value key."),
            "by": obj({"client": text("Client that published; absent for backends.")}, "client"),
            "at_ms": uint("Server wall clock at acceptance, ms since 1970."),
        },
        "channel",
        "data",
        "at_ms",
    ),
    "History": obj(
        {
            "channel": ref("Channel"),
            "position": {**ref("Position"), "description": "The channel's newest position."},
            "events": list_of(ref("Event")),
        },
        "channel",
        "position",
        "events",
    ),
    "PresenceList": obj(
        {
            "channel": ref("Channel"),
            "num_members": uint("All members, listed or not."),
            "members": list_of(
                obj(
                    {
                        "member": text("User id, or client id for anonymous clients."),
                        "user": or_null(text("User id.")),
                        "states": list_of(
                            obj({"client": text("Client id."), "state": {}}, "client", "state")
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
            "name": text("Which actor."),
            "state": {
                "type": "string",
                "enum": ["starting", "ok", "restarting", "failed", "stopped"],
            },
            "num_restarts": uint("Since the node started."),
            "last_error": or_null(text("Type of the last exception that ended it.")),
        },
        "name",
        "state",
        "num_restarts",
        "last_error",
    ),
    "Info": obj(
        {
            "version": text("Of the server."),
            "started_at_ms": uint("Wall clock, ms since 1970."),
            "uptime_s": {"type": "number"},
            "loop_lag_ms": {
                "type": "number",
                "description": "How late the event loop woke lately.",
            },
            "not_ready": list_of({"type": "string"}),
            "actors": list_of(ref("Actor")),
            "gateway": {"type": "object", "description": "Counts since the start."},
            "namespaces": {"type": "object", "description": "Options of each namespace."},
            "collections": {
                "type": "object",
                "description": "Options of each collection, as the node started with them.",
            },
        },
        "version",
        "started_at_ms",
        "uptime_s",
        "loop_lag_ms",
        "not_ready",
        "actors",
        "gateway",
        "namespaces",
        "collections",
    ),
    "Live": obj({"status": {"const": "ok"}}, "status"),
    "Ready": obj(
        {
            "status": {"type": "string", "enum": ["ready", "not_ready"]},
            "reasons": list_of({"type": "string"}),
            "actors": list_of(ref("Actor")),
        },
        "status",
        "reasons",
        "actors",
    ),
}
