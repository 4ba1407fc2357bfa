"""Everything besides the API proper: health, metrics, the API's description, and the demo page."""

from __future__ import annotations

import base64
import hashlib
import json

import attrs
from quart import Response, request

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.http.api import actors_json
from syncd.http.docs_page import STYLE, render_docs
from syncd.http.failures import HttpError, json_response
from syncd.http.guard import page_policy
from syncd.http.metrics import CONTENT_TYPE_PLAIN_0_0_4, Metrics
from syncd.http.openapi import openapi_document
from syncd.http.ports import NodeInfo
from syncd.http.static_files import StaticFile

__all__ = ["Pages"]

VIEWER = "index.html"
BOARD = "board/index.html"
ADMIN = "admin/index.html"


@attrs.define(eq=False)
class Pages:
    """The handlers. All routes but metrics are open."""

    config: Config
    node: NodeInfo
    files: dict[str, StaticFile]
    metrics: Metrics
    is_demo: bool = False
    _openapi: StaticFile = attrs.field(init=False)
    _docs: StaticFile = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        document = openapi_document(self.node.version)
        self._openapi = _page(json.dumps(document, indent=1), "application/json")
        self._docs = _page(render_docs(document), "text/html; charset=utf-8")

    async def live(self) -> Response:
        """Answer `GET /health/live`: the loop runs."""
        return json_response({"status": "ok"})

    async def ready(self) -> Response:
        """Answer `GET /health/ready`: whether to send traffic here, and why not."""
        await self.node.check_store()
        reasons = list(self.node.reasons_not_ready())
        payload = {
            "status": "not_ready" if reasons else "ready",
            "reasons": reasons,
            "actors": actors_json(self.node),
        }
        return json_response(payload, 503 if reasons else 200)

    async def tell_metrics(self, _service: str) -> Response:
        """Answer `GET /metrics`. With a key: counts tell much of a business, and the port may be public."""
        return Response(self.metrics.text(), content_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def index(self) -> Response:
        """Answer `GET /`: the order board of the demo, else the channel viewer."""
        return self._answer(BOARD if self.is_demo else VIEWER)

    async def channels(self) -> Response:
        """Answer `GET /channels`: the channel viewer."""
        return self._answer(VIEWER)

    async def admin(self) -> Response:
        """Answer `GET /admin`: the dashboard. The page is open and knows nothing; what it asks for wants a token."""
        return self._answer(ADMIN)

    async def static(self, name: str) -> Response:
        """Answer `GET /static/...`."""
        return self._answer(name)

    async def openapi(self) -> Response:
        """Answer `GET /openapi.json`."""
        return _answer_file(self._openapi, page_policy())

    async def docs(self) -> Response:
        """Answer `GET /docs`."""
        digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
        return _answer_file(self._docs, page_policy(style=f"'sha256-{digest}'"))

    def _answer(self, name: str) -> Response:
        file = self.files.get(name)
        if file is None:
            raise HttpError(404, ErrorCode.BAD_REQUEST, "There is no such file.")
        return _answer_file(file, self._demo_policy())

    def _demo_policy(self) -> str:
        """Let the page reach a WebSocket on another port only when the API has a port of its own."""
        return page_policy(
            connect="'self'" if self.config.api_listen is None else "'self' ws: wss:"
        )


def _page(text: str, content_type: str) -> StaticFile:
    content = text.encode()
    return StaticFile(content, content_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _answer_file(file: StaticFile, policy: str) -> Response:
    """Answer 304 when the caller has it already; `no-cache` means ask each time."""
    is_known = request.if_none_match.contains_weak(file.etag.strip('"'))
    response = Response(
        b"" if is_known else file.content,
        304 if is_known else 200,
        content_type=file.content_type,
    )
    response.headers["ETag"] = file.etag
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Content-Security-Policy"] = policy
    return response
