"""What must hold between settings, so that a node that starts can keep its promises.

Each problem names the settings it lies between and the way out. All are told at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from syncd.config import Action, Address, Config, HistoryKind, Limits, Mode, Namespace, Timing
from syncd.errors import ConfigError
from syncd.model.permissions import parse_rule
from syncd.model.tokens import TokenVerifier

__all__ = ["check_config", "check_rule", "is_loopback"]

MIN_API_KEY_CHARS = 16
"""For nodes that others can reach: guessing at network speed must be hopeless."""

MIN_FRAME_BYTES = 1024
"""Smaller ones leave no room for the longest channel name, key and uid of one request."""

MIN_TICK_S = 0.01
"""One coarse timer looks at every connection; faster ones burn an idle CPU."""

MAX_CONFIGURED = {
    "limits.frame_bytes": 16 * 2**20,
    "limits.outbox_bytes": 256 * 2**20,
    "limits.recovery_events": 1_000_000,
}
"""Above these one client could stall the loop for more than a tick."""

_ZERO_MEANS_NO_LIMIT = {
    "connections",
    "connections_per_address",
    "accept_per_s",
    "send_buffer_bytes",
}
_ZERO_MEANS_AT_ONCE = {"presence_grace_s", "presence_diff_s"}

_is_origin = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+").fullmatch
_is_key = re.compile(r"[!-~]+").fullmatch

_DRIVERS = ("auto", "epoll", "stream")
_LOG_FORMATS = ("console", "json")
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


def check_config(config: Config) -> None:
    """Raise `ConfigError` with every problem, one a line, or return."""
    problems = [
        *_server_problems(config),
        *_tls_problems(config),
        *_auth_problems(config),
        *_exposure_problems(config),
        *_limit_problems(config.limits),
        *_timing_problems(config.timing),
        *(text for ns in config.namespaces.values() for text in _namespace_problems(ns, config)),
        *_collection_problems(config),
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def check_rule(rule: str, where: str) -> None:
    """Raise `ConfigError` when there is no such permission rule."""
    try:
        parse_rule(rule)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def is_loopback(address: Address) -> bool:
    """Tell whether only this machine can reach an address."""
    if address.path is not None or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _server_problems(config: Config) -> Iterator[str]:
    for name, value, choices in (
        ("driver", config.driver, _DRIVERS),
        ("log_format", config.log_format, _LOG_FORMATS),
        ("log_level", config.log_level, _LOG_LEVELS),
    ):
        if value not in choices:
            yield f"server.{name} must be one of {', '.join(choices)}."
    if not config.db:
        yield "server.db must name a file, or :memory:."
    if config.api_listen == config.listen and config.listen.port != 0:
        yield "server.api_listen must differ from server.listen; leave it out to share one port."
    for origin in config.origins:
        if not _is_origin(origin):
            yield f"server.origins: {origin!r} must be * or like https://app.example.com, in lower case, without a path."
    for network in config.trusted_proxies:
        if not _is_network(network):
            yield f"server.trusted_proxies: {network!r} is no IP network such as 10.0.0.0/8."


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _tls_problems(config: Config) -> Iterator[str]:
    if (config.tls_cert is None) != (config.tls_key is None):
        yield "server.tls_cert and server.tls_key belong together; set both or none."
    for name, path in (("tls_cert", config.tls_cert), ("tls_key", config.tls_key)):
        if path is not None and not Path(path).is_file():
            yield f"server.{name}: there is no file {path}."
    if config.tls_cert is not None and config.driver == "epoll":
        yield "server.tls_cert needs server.driver stream or auto; epoll does not speak TLS."


def _auth_problems(config: Config) -> Iterator[str]:
    try:
        verifier = TokenVerifier(config.auth)
    except ConfigError as error:
        yield str(error)
        return
    if not config.auth.anonymous and not verifier.is_configured:
        yield (
            "auth.anonymous is false, but no key is configured, so nobody could connect; "
            "set auth.hmac_secret or auth.public_keys."
        )
    for name, key in config.api_keys.items():
        if not _is_key(key):
            yield f"server.api_keys.{name} must be printable ASCII without spaces."
    if len(set(config.api_keys.values())) < len(config.api_keys):
        yield "server.api_keys: two names have the same key; give each its own."


def _exposure_problems(config: Config) -> Iterator[str]:
    """Whoever opens a node to others has said who they are, or that they mean it."""
    addresses = [config.listen] if config.api_listen is None else [config.listen, config.api_listen]
    if config.insecure or all(map(is_loopback, addresses)):
        return
    for name, key in config.api_keys.items():
        if len(key) < MIN_API_KEY_CHARS:
            yield (
                f"server.api_keys.{name} (or SYNCD_API_KEY) has less than {MIN_API_KEY_CHARS} characters, "
                "too few for a node that others can reach."
            )
    if is_loopback(config.listen) or config.auth.algorithms:
        return
    if config.namespaces == Config().namespaces or not config.api_keys:
        yield (
            f"server.listen is {config.listen.host}, which others can reach, but no authentication is configured. "
            "Set auth.hmac_secret or auth.public_keys (or your own [namespaces] and SYNCD_API_KEY), "
            "listen on 127.0.0.1, or start with --insecure."
        )


def _limit_problems(limits: Limits) -> Iterator[str]:
    for field in attrs.fields(Limits):
        value = getattr(limits, field.name)
        if value <= 0 and not (value == 0 and field.name in _ZERO_MEANS_NO_LIMIT):
            yield f"limits.{field.name} must be above 0."
        largest = MAX_CONFIGURED.get(f"limits.{field.name}")
        if largest is not None and value > largest:
            yield f"limits.{field.name} must be at most {largest}."
    if limits.frame_bytes < MIN_FRAME_BYTES:
        yield f"limits.frame_bytes must be at least {MIN_FRAME_BYTES}."
    if limits.messages_burst < 1:
        yield "limits.messages_burst must be at least 1."
    for low, high in (
        ("hello_bytes", "frame_bytes"),
        ("presence_state_bytes", "frame_bytes"),
        ("recovery_bytes", "outbox_bytes"),
        ("frame_bytes", "outbox_bytes"),
    ):
        yield from _ordered(limits, "limits", low, high)


def _timing_problems(timing: Timing) -> Iterator[str]:
    for field in attrs.fields(Timing):
        if getattr(timing, field.name) <= 0 and field.name not in _ZERO_MEANS_AT_ONCE:
            yield f"timing.{field.name} must be above 0."
    if timing.tick_s < MIN_TICK_S:
        yield f"timing.tick_s must be at least {MIN_TICK_S:g}."
    if timing.node_dead_s < 2 * timing.node_beat_s:
        yield (
            f"timing.node_dead_s ({timing.node_dead_s:g}) must be at least twice "
            f"timing.node_beat_s ({timing.node_beat_s:g})."
        )
    if timing.ping_s <= timing.tick_s:
        yield f"timing.ping_s ({timing.ping_s:g}) must be above timing.tick_s ({timing.tick_s:g})."
    for low, high in (
        *(("tick_s", name) for name in ("handshake_s", "hello_s", "pong_slack_s", "slow_client_s")),
        ("tick_s", "close_s"),
        ("close_s", "stop_s"),
    ):
        yield from _ordered(timing, "timing", low, high)


def _ordered(section: object, name: str, low: str, high: str) -> Iterator[str]:
    less, more = getattr(section, low), getattr(section, high)
    if less > more:
        yield f"{name}.{low} ({_plain(less)}) must not be above {name}.{high} ({_plain(more)})."


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _namespace_problems(ns: Namespace, config: Config) -> Iterator[str]:
    where = f"namespaces.{ns.name}"
    if ns.max_data_bytes <= 0:
        yield f"{where}.max_data_bytes must be above 0."
    if ns.max_data_bytes > config.limits.outbox_bytes // 2:
        yield (
            f"{where}.max_data_bytes ({ns.max_data_bytes}) must be at most half of limits.outbox_bytes "
            f"({config.limits.outbox_bytes}), or no client could be sent two such events."
        )
    if ns.history is not HistoryKind.NONE and (ns.history_size <= 0 or ns.history_age_s <= 0):
        yield (
            f"{where}.history is {ns.history.value}, so history_size and history_age_s must be above 0; "
            'or set history = "none".'
        )
    if ns.mode is Mode.EPHEMERAL and ns.history is not HistoryKind.NONE:
        yield f'{where}.mode is ephemeral, so {where}.history must be "none".'
    if ns.mode is Mode.LATEST and ns.history is HistoryKind.NONE:
        yield f'{where}.mode is latest, so {where}.history must be "memory" or "durable".'
    yield from _rule_problems(ns, where)


def _rule_problems(ns: Namespace, where: str) -> Iterator[str]:
    for action, rules in ns.allow.items():
        for rule in rules:
            try:
                check_rule(rule, f"{where}.allow.{action.value}")
            except ConfigError as error:
                yield str(error)
    if ns.allow.get(Action.PRESENCE) and not ns.presence:
        yield f"{where}.allow.presence is set, but {where}.presence is false; set it to true."
    if ns.allow.get(Action.HISTORY) and ns.history is HistoryKind.NONE:
        yield f"{where}.allow.history is set, but {where}.history is none; nothing could be read."


def _collection_problems(config: Config) -> Iterator[str]:
    for name, settings in config.collections.items():
        where = f"collections.{name}"
        if name in config.namespaces:
            yield f"{where} has the name of namespaces.{name}; rename one of them."
        for key in ("max_entries", "max_bytes"):
            if getattr(settings, key) == 0:
                yield f"{where}.{key} must be above 0."
