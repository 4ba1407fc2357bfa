"""The body of a request, read from Quart: it must say that it is JSON."""

from __future__ import annotations

from typing import Any

from quart import request

from syncd.codes import ErrorCode
from syncd.http.failures import HttpError
from syncd.http.json_values import parse_object

__all__ = ["read_object"]


async def read_object() -> dict[str, Any]:
    """Return the request's body, which must say it is JSON: a form of a foreign page cannot, without asking first."""
    if request.mimetype != "application/json" or not _is_utf8(request.mimetype_params):
        text = "The body must be sent as application/json, in UTF-8."
        raise HttpError(415, ErrorCode.BAD_REQUEST, text)
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise HttpError(415, ErrorCode.BAD_REQUEST, "Compressed bodies are not read.")
    return parse_object(await request.get_data(cache=False, as_text=False, parse_form_data=False))


def _is_utf8(params: Any) -> bool:
    return str(params.get("charset", "utf-8")).lower() in ("utf-8", "utf8")
