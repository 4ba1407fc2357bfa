"""The Quart-Trio application: which path is answered by whom, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog
from quart import Response, g, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

from syncd.config import Config
from syncd.errors import SyncdError, internal_error
from syncd.http.api import Api
from syncd.http.batch import Batches
from syncd.http.callers import Callers
from syncd.http.commands import Channels
from syncd.http.dashboard_api import DashboardApi
from syncd.http.failures import error_response, http_error
from syncd.http.guard import HostRule, secure
from syncd.http.json_values import MAX_BODY_BYTES
from syncd.http.metrics import Metrics
from syncd.http.operator_api import Operating, OperatorApi
from syncd.http.pages import Pages
from syncd.http.ports import NodeInfo
from syncd.http.rebuild_api import RebuildApi
from syncd.http.state_api import StateApi
from syncd.http.static_files import load_static_files
from syncd.logs import begin_request
from syncd.model.definitions import AppDefinition
from syncd.model.permissions import Permissions
from syncd.ports import BroadcasterHandle, Identity
from syncd.ports_collections import CacheOwnerHandle
from syncd.ports_operators import GatewayPort
from syncd.ports_presence import PresenceHandle

__all__ = ["STATIC_FOLDER", "create_app"]

STATIC_FOLDER = Path(__file__).parent / "static"
"""Where the demo page lies in the package."""

REQUEST_ID = "X-Request-Id"
"""Told with every answer, and in every line logged about the request; one that the caller sends is kept."""

_log = structlog.get_logger("syncd.http")

C = TypeVar("C")
"""Who asks: a service by the name of its key, or an operator."""


def create_app(
    config: Config,
    *,
    broadcaster: BroadcasterHandle,
    presence: PresenceHandle,
    gateway: GatewayPort,
    node: NodeInfo,
    cache_owner: CacheOwnerHandle,
    operating: Operating,
    definition: AppDefinition,
    static_folder: Path | None = STATIC_FOLDER,
) -> QuartTrio:
    """Build the application. It starts nothing and reads no file later than now.

    Args:
        config: Keys, hosts, namespaces, timing.
        broadcaster: Asked for publications, history and channels.
        presence: Asked for members.
        gateway: Acts on live sessions.
        node: Tells health and version.
        cache_owner: Asked for mutations, entries and the cache.
        operating: Rebuilds, the audit log, and the tokens of operators' pages.
        definition: What the application has defined, to be listed.
        static_folder: The demo page's files; None serves none.
    """
    app = _bare_app(config)
    channels = Channels(Permissions(config.namespaces))
    api = Api(config, broadcaster, presence, gateway, node, definition, channels)
    state = StateApi(config, cache_owner, operating.audit)
    batches = Batches(config, broadcaster, channels, state)
    rebuild = RebuildApi(operating.rebuilds)
    metrics = Metrics(node, gateway)
    if node.siblings is not None:
        node.siblings.tell = metrics.text
    files = load_static_files(static_folder)
    pages = Pages(config, node, files, metrics, is_demo=definition.is_demo)
    callers = Callers(config, gateway)
    operators = OperatorApi(gateway, node, channels, operating)
    _add_api(app, _service_routes(api, state, batches), callers.service)
    _add_api(app, _operator_routes(api, state, rebuild, operators), callers.operator)
    _add(app, "/metrics", _asked_by(callers.service, pages.tell_metrics), "GET")
    dashboard = DashboardApi(node.stats, broadcaster, gateway)
    _add_api(app, _dashboard_routes(dashboard), callers.operator)
    _add_pages(app, pages)
    _add_rules(app, HostRule(config), metrics)
    return app


def _bare_app(config: Config) -> QuartTrio:
    app = QuartTrio("syncd.http", static_folder=None, template_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        BODY_TIMEOUT=config.timing.http_request_s,
        RESPONSE_TIMEOUT=config.timing.http_request_s,
        PROPAGATE_EXCEPTIONS=False,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    return app


def _service_routes(
    api: Api, state: StateApi, batches: Batches
) -> dict[tuple[str, str], Callable[[str], Awaitable[Response]]]:
    """Return what backends do, with an API key alone."""
    return {
        ("POST", "publish"): api.publish,
        ("POST", "batch"): batches.answer,
        ("POST", "mutate"): state.mutate,
        ("GET", "history"): api.history,
        ("GET", "entries"): state.entries,
    }


def _operator_routes(
    api: Api, state: StateApi, rebuild: RebuildApi, operators: OperatorApi
) -> dict[tuple[str, str], Callable[[Identity], Awaitable[Response]]]:
    """Return what operators do, with an API key or with a token of the admin role."""
    return {
        ("POST", "admin/session"): operators.session,
        ("GET", "audit"): operators.actions,
        ("GET", "nodes"): operators.nodes,
        ("POST", "backup"): operators.backup,
        ("POST", "disconnect"): operators.disconnect,
        ("POST", "unsubscribe"): operators.unsubscribe,
        ("POST", "revoke"): operators.revoke,
        ("GET", "channels"): api.list_channels,
        ("GET", "presence"): api.list_presence,
        ("GET", "info"): api.info,
        ("POST", "invalidate"): state.invalidate,
        ("GET", "cache/stats"): state.cache_stats,
        ("GET", "cache/config"): state.cache_config,
        ("POST", "cache/config"): state.change_cache_config,
        ("POST", "cache/clear"): state.cache_clear,
        ("POST", "cache/warm"): state.cache_warm,
        ("POST", "rebuild"): rebuild.start,
        ("GET", "rebuild"): rebuild.jobs,
        ("GET", "rebuild/<job>"): rebuild.job,
        ("DELETE", "rebuild/<job>"): rebuild.cancel,
    }


def _dashboard_routes(
    dashboard: DashboardApi,
) -> dict[tuple[str, str], Callable[[Identity], Awaitable[Response]]]:
    return {
        ("GET", "admin/stats"): dashboard.stats,
        ("GET", "admin/channels"): dashboard.channels,
        ("GET", "admin/sessions"): dashboard.sessions,
        ("GET", "admin/sessions/<session>"): dashboard.session,
        ("GET", "admin/errors"): dashboard.errors,
    }


def _add_api(
    app: QuartTrio,
    routes: dict[tuple[str, str], Callable[[C], Awaitable[Response]]],
    caller: Callable[[], C],
) -> None:
    for (method, name), handler in routes.items():
        _add(app, f"/api/{name}", _asked_by(caller, handler), method)


def _asked_by(
    caller: Callable[[], C], handler: Callable[[C], Awaitable[Response]]
) -> Callable[..., Awaitable[Response]]:
    """Return the handler behind the question who asks, which comes before anything of the request is looked at."""

    async def answer(**_place: str) -> Response:
        return await handler(caller())

    return answer


def _add(app: QuartTrio, rule: str, handler: Callable[..., Any], method: str) -> None:
    app.add_url_rule(
        rule,
        endpoint=f"{method} {rule}",
        view_func=handler,
        methods=[method],
        provide_automatic_options=False,
    )


def _add_pages(app: QuartTrio, pages: Pages) -> None:
    _add(app, "/", pages.index, "GET")
    _add(app, "/channels", pages.channels, "GET")
    _add(app, "/admin", pages.admin, "GET")
    _add(app, "/static/<path:name>", pages.static, "GET")
    _add(app, "/health/live", pages.live, "GET")
    _add(app, "/health/ready", pages.ready, "GET")
    _add(app, "/openapi.json", pages.openapi, "GET")
    _add(app, "/docs", pages.docs, "GET")


def _add_rules(app: QuartTrio, hosts: HostRule, metrics: Metrics) -> None:
    async def check_host() -> None:
        g.request_id = begin_request(request.headers.get(REQUEST_ID))
        hosts.check(request.headers.get("Host"))

    async def add_headers(response: Response) -> Response:
        metrics.note_answer(
            request.url_rule.rule if request.url_rule else "none",
            response.status_code,
            g.get("error_codes", ()),
        )
        response.headers[REQUEST_ID] = g.request_id
        return secure(response)

    app.before_request(check_host)
    app.after_request(add_headers)
    app.register_error_handler(SyncdError, _tell_refusal)
    app.register_error_handler(HTTPException, _tell_framework_error)
    app.register_error_handler(Exception, _tell_crash)


async def _tell_refusal(error: Exception) -> Response:
    assert isinstance(error, SyncdError)
    return error_response(error)


async def _tell_framework_error(error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(http_error(error))
    if error.code == 405:
        response.headers.extend(
            [(name, value) for name, value in error.get_headers() if name == "Allow"]
        )
    return response


async def _tell_crash(error: Exception) -> Response:
    """Answer a fault of ours: the log has the story, the caller a code."""
    rule = request.url_rule.rule if request.url_rule else None
    _log.error("http_handler_failed", route=rule, exc_info=error)
    return error_response(internal_error())
