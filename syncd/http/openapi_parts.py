"""Pieces that the operations of `/openapi.json` are put together from. Data only."""

from __future__ import annotations

from typing import Any

from syncd.http.openapi_schemas import Schema, ref

__all__ = [
    "CHANNEL_QUERY",
    "KEY_HEADER",
    "answer_of",
    "body_of",
    "failure",
    "limit",
    "operation",
    "query_field",
]


def json_content(schema: str, example: object) -> Schema:
    return {"application/json": {"schema": ref(schema), "example": example}}


def failure(doc: str, code: str, message: str, *, retryable: bool = False) -> Schema:
    """Return an answer that is an error."""
    example = {"error": {"code": code, "message": message, "retryable": retryable}}
    return {"description": doc, "content": json_content("Failure", example)}


UNAUTHORIZED = failure(
    "Key missing or wrong.", "unauthorized", "The token or key is missing or not accepted."
)
BAD = failure("The request is wrong.", "bad_request", "Field 'channel' must be a string.")
DENIED = failure(
    "No such namespace or collection; where operators ask, a token without the role `admin`.",
    "permission_denied",
    "The channel or collection does not exist or this identity may not do that on it.",
)
GONE = failure(
    "The position is of another epoch or no longer kept.",
    "unrecoverable_position",
    "The position is of another epoch or older than what is kept.",
)
LIMITED = failure(
    "Too many wrong keys.",
    "rate_limited",
    "Too many wrong keys from this address.",
    retryable=True,
)
BUSY = failure(
    "Overloaded, stopping, or the store is away.",
    "overloaded",
    "The server has too much to do; try again after after_ms.",
    retryable=True,
)
TIMEOUT = failure(
    "No answer in time; a command may still take effect.",
    "store_unavailable",
    "No answer in time: it may still happen. Repeat the request with the same Idempotency-Key.",
    retryable=True,
)
SOURCE = failure(
    "The collection's source did not deliver, or nothing that can be kept.",
    "load_failed",
    "The source of this collection did not deliver.",
    retryable=True,
)
TOO_LARGE = failure("Body or data too large.", "too_large", "The body is larger than 1 MiB.")
MEDIA = failure("Not JSON.", "bad_request", "The body must be sent as application/json, in UTF-8.")
RUNNING = failure(
    "A rebuild of this collection is under way; the message names its job.",
    "rebuild_running",
    "The job 4f2a9c01d7be6a53 rebuilds this collection; wait for it, join it or cancel it.",
)
MISMATCH = failure(
    "The idempotency key was used for another request.",
    "idempotency_mismatch",
    "This idempotency key was used for a different request.",
)
OTHER = failure(
    "What can befall any request: a body that comes too slowly (408), a Host that is not served here (421), a fault of the node (500).",
    "internal_error",
    "The server failed to handle this request; others are unaffected.",
    retryable=True,
)


def operation(summary: str, answer: Schema, *failures: str, **more: Any) -> Schema:
    """Return one operation; `failures` are statuses besides those of every keyed route."""
    known = {
        "403": DENIED,
        "409": RUNNING,
        "410": GONE,
        "413": TOO_LARGE,
        "415": MEDIA,
        "422": MISMATCH,
        "502": SOURCE,
        "503": BUSY,
        "504": TIMEOUT,
    }
    answers = {"200": answer, "400": BAD, "401": UNAUTHORIZED, "429": LIMITED}
    answers.update({status: known[status] for status in failures})
    answers["default"] = OTHER
    return {"summary": summary, "responses": answers, **more}


def answer_of(doc: str, schema: str, example: object) -> Schema:
    """Return an answer of a shape, with an example."""
    return {"description": doc, "content": json_content(schema, example)}


def body_of(schema: str, example: object) -> Schema:
    """Return a request body of a shape, with an example."""
    return {"required": True, "content": json_content(schema, example)}


def query_field(name: str, doc: str, schema: Schema, *, required: bool = False) -> Schema:
    """Return one field of the query string."""
    return {"name": name, "in": "query", "required": required, "description": doc, "schema": schema}


def limit(maximum: int, default: int) -> Schema:
    """Return the `limit` field of a list."""
    schema = {"type": "integer", "minimum": 0, "maximum": maximum, "default": default}
    return query_field("limit", "List this many at most.", schema)


CHANNEL_QUERY = query_field("channel", "Which channel.", ref("Channel"), required=True)

KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": (
        "Repeating a request with the same key within 24 h has no second effect and gets the first answer. 1 to 128 "
        "printable ASCII characters (a batch: 120; its n-th command, from 0, gets `<key>/n`)."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
