"""Errors as HTTP answers: one table from code to status, one shape of body.

The body is `{"error": {code, message, retryable, after_ms?}}` whatever went wrong, framework errors included.
"""

from __future__ import annotations

import json
import math
from typing import Any

from quart import Response, g
from werkzeug.exceptions import HTTPException

from syncd.codes import ErrorCode
from syncd.errors import NoAnswer, RebuildRunning, RequestRejected, SyncdError, internal_error
from syncd.state_calls import MAY_HAPPEN

__all__ = [
    "STATUS",
    "HttpError",
    "error_body",
    "error_response",
    "http_error",
    "json_response",
    "no_answer",
]

STATUS: dict[ErrorCode, int] = {
    ErrorCode.BAD_MESSAGE: 400,
    ErrorCode.UNKNOWN_TYPE: 400,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.BAD_CHANNEL: 400,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.CLIENT_DENIED: 403,
    ErrorCode.ALREADY_SUBSCRIBED: 409,
    ErrorCode.NOT_SUBSCRIBED: 409,
    ErrorCode.NOT_SUPPORTED: 400,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.LIMIT_EXCEEDED: 400,
    ErrorCode.IDEMPOTENCY_MISMATCH: 422,
    ErrorCode.BAD_KEY: 400,
    ErrorCode.NOT_WATCHED: 409,
    ErrorCode.STALE_TERM: 409,
    ErrorCode.LOAD_FAILED: 502,
    ErrorCode.LOAD_TIMEOUT: 504,
    ErrorCode.BAD_SOURCE: 502,
    ErrorCode.BEHIND: 503,
    ErrorCode.REBUILD_RUNNING: 409,
    ErrorCode.UNRECOVERABLE_POSITION: 410,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.STORE_UNAVAILABLE: 503,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.SHUTTING_DOWN: 503,
}
"""HTTP status of each code, where nothing more exact is known."""


class HttpError(SyncdError):
    """A refusal with an HTTP status more exact than its code's."""

    def __init__(
        self, status: int, code: ErrorCode, message: str = "", *, after_ms: int | None = None
    ) -> None:
        super().__init__(code, message, after_ms=after_ms)
        self.status = status


def no_answer() -> NoAnswer:
    """Return the error told when the node did not answer within the request's time."""
    return NoAnswer(MAY_HAPPEN)


def error_body(error: SyncdError) -> dict[str, Any]:
    """Return what stands under `error` in the answer to this request, and note its code for the counts."""
    g.setdefault("error_codes", []).append(error.code)
    body: dict[str, Any] = {
        "code": error.code.value,
        "message": error.message,
        "retryable": error.retryable,
    }
    if error.after_ms is not None:
        body["after_ms"] = error.after_ms
    if isinstance(error, RebuildRunning):
        body["job"] = error.job
    return body


def error_response(error: SyncdError) -> Response:
    """Return an error as an HTTP answer."""
    status = _status_of(error)
    response = json_response({"error": error_body(error)}, status)
    if error.after_ms is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.after_ms / 1000)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _status_of(error: SyncdError) -> int:
    if isinstance(error, HttpError):
        return error.status
    return 504 if isinstance(error, NoAnswer) else STATUS[error.code]


def json_response(payload: object, status: int = 200) -> Response:
    """Return a JSON answer; ASCII only, so that no reader has to guess an encoding."""
    text = json.dumps(payload, separators=(",", ":"), allow_nan=False)
    return Response(text, status, content_type="application/json")


_FRAMEWORK_ERRORS: dict[int, tuple[ErrorCode, str]] = {
    400: (ErrorCode.BAD_REQUEST, "The request is not well-formed."),
    404: (ErrorCode.BAD_REQUEST, "There is nothing here; /docs lists what there is."),
    405: (ErrorCode.BAD_REQUEST, "This path does not know that method; /docs lists those it does."),
    408: (ErrorCode.BAD_REQUEST, "The body did not arrive in time."),
    413: (ErrorCode.TOO_LARGE, "The body is larger than 1 MiB."),
}


def http_error(error: HTTPException) -> SyncdError:
    """Translate what the framework raises; its own texts are not told."""
    status = error.code or 500
    code, text = _FRAMEWORK_ERRORS.get(status, (ErrorCode.BAD_REQUEST, ""))
    if status >= 500:
        return internal_error()
    if not text:
        return RequestRejected(code)
    return HttpError(status, code, text)
