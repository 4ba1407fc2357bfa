"""The routes and shapes of `/openapi.json` that operators have: sessions, their own tokens, the audit log. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_parts import answer_of, body_of, limit, operation
from syncd.http.openapi_schemas import Schema, list_of, obj, ref, text, uint

__all__ = ["OPERATOR_PATHS", "OPERATOR_SCHEMAS"]

_WHO_EXAMPLE = {"user": "ada"}
_ACTION = {
    "at_ms": 1_700_000_000_000,
    "who": "service:default",
    "what": "disconnect",
    "outcome": "ok",
    "details": {"user": "ada", "num_sessions": 1},
}
_ACTION_FIELDS: dict[str, Schema] = {
    "at_ms": uint("When, milliseconds since 1970."),
    "who": text("`service:` and the name of the key, or `user:` and the user of the token."),
    "what": text("What was done."),
    "outcome": text("`ok`, the code of the error, or how a job ended."),
    "details": {"type": "object", "description": "Whom or what it was about."},
}

_NODE = {
    "node": "5f0c6e21d1b0a9e4",
    "is_self": True,
    "state": "alive",
    "heard_ago_s": 0.0,
    "num_members": 12,
    "version": "0.1.0",
    "address": "10.0.0.7:8400",
    "num_connections": 410,
    "num_sessions": 408,
    "loop_lag_ms": 0.4,
    "store_lag_ms": 0.9,
    "started_at_ms": 1_700_000_000_000,
}
_NOT_YET = "null: nothing heard of it yet"
_NODE_FIELDS: dict[str, Schema] = {
    "node": {"type": ["string", "null"], "description": "Its name; null without a cluster."},
    "is_self": {"type": "boolean"},
    "state": {
        "enum": ["alive", "silent"],
        "description": "silent: two signs of life are missing, or this node's own link is down.",
    },
    "heard_ago_s": {"type": "number", "minimum": 0, "description": "Since its last word."},
    "num_members": uint("Clients present there, counted once a channel."),
    "version": {"type": ["string", "null"], "description": f"{_NOT_YET}."},
    "address": {"type": ["string", "null"], "description": "Where it listens, as it sees it."},
    "num_connections": {"type": ["integer", "null"], "minimum": 0},
    "num_sessions": {"type": ["integer", "null"], "minimum": 0},
    "loop_lag_ms": {"type": ["number", "null"], "description": "How late its loop wakes sleepers."},
    "store_lag_ms": {"type": ["number", "null"], "description": "How long its store took lately."},
    "started_at_ms": {"type": ["integer", "null"], "description": "Milliseconds since 1970."},
}


def _session_route(name: str, summary: str, doc: str, example: dict[str, Any]) -> Schema:
    return {
        "post": operation(
            summary,
            answer_of(
                "Done on this node, and on the others of the cluster that answered within half a second.",
                "Sessions",
                {"num_sessions": 1, "nodes_answered": 3, "nodes": 3},
            ),
            "403",
            "413",
            "415",
            operationId=name,
            tags=["sessions"],
            description=doc,
            requestBody=body_of(name.capitalize(), example),
        )
    }


OPERATOR_PATHS: dict[str, Schema] = {
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
    ),
    "/api/revoke": _session_route(
        "revoke",
        "Refuse a user or a token from now on.",
        "Its sessions are closed with 4401. A token that has expired anyway needs no longer entry.",
        {"token_id": "7c9e", "until_ms": 1767225600000},
    ),
    "/api/admin/session": {
        "post": operation(
            "Get a token for an operator's page, or renew it.",
            answer_of(
                "It speaks for a user with the role `admin`: in `hello`, and here where operators ask.",
                "AdminSession",
                {"token": "eyJ...", "expires_at_ms": 1_767_225_600_000},
            ),
            "403",
            operationId="adminSession",
            tags=["sessions"],
            requestBody={**body_of("AdminSessionAsked", {}), "required": False},
            description="With an API key it lives an hour and can be renewed with itself for twelve; with a token of the issuer it lives "
            "no longer than that. A changed API key ends all of them.",
        )
    },
    "/api/audit": {
        "get": operation(
            "Tell what operators did.",
            answer_of("The newest first.", "AuditLog", {"entries": [_ACTION]}),
            "403",
            operationId="audit",
            tags=["sessions"],
            parameters=[limit(1000, 100)],
        )
    },
    "/api/nodes": {
        "get": operation(
            "List the nodes of the cluster.",
            answer_of("This node first.", "Nodes", {"nodes": [_NODE]}),
            "403",
            operationId="nodes",
            tags=["node"],
            description="As this node knows them: each says how it is every 5 s.",
        )
    },
}

OPERATOR_SCHEMAS: dict[str, Schema] = {
    "AdminSessionAsked": obj({}, closed=True),
    "AdminSession": obj(
        {"token": text("A JWT."), "expires_at_ms": uint("When it ends, milliseconds since 1970.")},
        "token",
        "expires_at_ms",
    ),
    "AuditEntry": obj(_ACTION_FIELDS, *_ACTION_FIELDS),
    "AuditLog": obj({"entries": list_of(ref("AuditEntry"))}, "entries"),
    "Node": obj(_NODE_FIELDS, *_NODE_FIELDS),
    "Nodes": obj({"nodes": list_of(ref("Node"))}, "nodes"),
}
