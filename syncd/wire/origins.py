"""Who may ask: the `Origin` a browser names and the `Host` it believes to talk to. Pure rules of DESIGN section 7.

The gateway checks both before anything of a request is acted on: `Origin` keeps other sites' pages from using a
visitor's browser, `Host` keeps names that an attacker points at our address (DNS rebinding) from becoming same-origin.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from syncd.errors import ConfigError
from syncd.wire.head import Head, HeadRejected

__all__ = ["HostPolicy", "OriginPolicy", "check_host", "check_origin"]

_NAME = r"[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*\.?|\[[0-9a-f:.]+\]"
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://({_NAME})(?::([0-9]{{1,5}}))?")
_HOST_PATTERN = re.compile(rf"(?:\*\.)?(?:{_NAME})(?::[0-9]{{1,5}})?")
_LOOPBACK = re.compile(r"(?:.+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None
    """None for schemes without a default port."""


def _origin(text: str) -> _Origin | None:
    match = _ORIGIN.fullmatch(text)
    if match is None:
        return None
    scheme, host, port = match.groups()
    return _Origin(scheme, host, int(port) if port else _DEFAULT_PORTS.get(scheme))


def _is_below(host: str, parent: str) -> bool:
    """Whether `host` is `parent` with one or more labels before it."""
    return host.endswith("." + parent)


class OriginPolicy:
    """The origins browsers may come from besides the server's own.

    Origins on the wire are compared as browsers write them, which is lower case (RFC 6454 section 6.2); configured
    ones may be written in any case.

    Args:
        origins: `scheme://host[:port]`, `scheme://*.host[:port]` for every name below `host`, or `*` for all.

    Raises:
        ConfigError: An entry is none of these.
    """

    __slots__ = ("_admits_all", "_exact", "_parents")

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._admits_all = "*" in origins
        self._exact: set[_Origin] = set()
        self._parents: set[_Origin] = set()
        for text in origins:
            if text != "*":
                self._add(text)

    def _add(self, text: str) -> None:
        scheme, separator, rest = text.lower().partition("://")
        is_pattern = rest.startswith("*.")
        origin = _origin(scheme + separator + (rest[2:] if is_pattern else rest))
        if origin is None:
            raise ConfigError(
                f"origins: {text!r} is not of the form https://host, https://host:port, "
                "https://*.host or *, without a path"
            )
        (self._parents if is_pattern else self._exact).add(origin)

    def check(self, head: Head) -> None:
        """Let `head` pass if its origin may connect; without an Origin it comes from no browser.

        Raises:
            HeadRejected: 403.
        """
        values = head.get_all(b"origin")
        if not values or self._admits_all:
            return
        origin = _origin(values[0].decode("latin-1")) if len(values) == 1 else None
        if origin is None or not (_is_same_host(origin, head) or self._admits(origin)):
            raise HeadRejected(403, "This Origin is not allowed; see the setting `origins`.")

    def _admits(self, origin: _Origin) -> bool:
        if origin in self._exact:
            return True
        return any(
            origin.scheme == parent.scheme
            and origin.port == parent.port
            and _is_below(origin.host, parent.host)
            for parent in self._parents
        )


def _host_and_port(head: Head) -> tuple[str, str]:
    """Split the one valid Host header that every Head has."""
    authority = (head.get(b"host") or b"").decode("ascii").lower()
    if authority.endswith("]"):
        return authority, ""
    host, _, port = authority.rpartition(":")
    return (host, port) if host else (authority, "")


def _is_same_host(origin: _Origin, head: Head) -> bool:
    """Whether the page came from the very host and port that this request names."""
    default = _DEFAULT_PORTS.get(origin.scheme)
    host, port = _host_and_port(head)
    return (
        default is not None
        and origin.host == host
        and origin.port == (int(port) if port else default)
    )


class HostPolicy:
    """The names under which the server answers.

    Loopback names (localhost, *.localhost, 127.0.0.0/8, [::1]) are always answered.

    Args:
        hosts: `host`, `host:port`, `*.host`, or `*` for all.
        loopback_only: The listener is bound to a loopback address; then no hosts means loopback names only, else
            no hosts means all.

    Raises:
        ConfigError: An entry is none of these.
    """

    __slots__ = ("_admits_all", "_exact", "_parents")

    def __init__(self, hosts: tuple[str, ...], *, loopback_only: bool) -> None:
        self._admits_all = "*" in hosts or not (hosts or loopback_only)
        names = [text.lower() for text in hosts if text != "*"]
        for name in names:
            if not _HOST_PATTERN.fullmatch(name):
                raise ConfigError(f"hosts: {name!r} is not a host name, host:port, *.host or *")
        self._exact = frozenset(name for name in names if not name.startswith("*."))
        self._parents = tuple(name[2:] for name in names if name.startswith("*."))

    def check(self, head: Head) -> None:
        """Let `head` pass if its Host is one of ours.

        Raises:
            HeadRejected: 403.
        """
        if self._admits_all:
            return
        host, port = _host_and_port(head)
        host = host.removesuffix(".")
        if not (_LOOPBACK.fullmatch(host) or self._admits(host, port)):
            raise HeadRejected(403, "This Host is not served here; see the setting `hosts`.")

    def _admits(self, host: str, port: str) -> bool:
        with_port = f"{host}:{port}"
        return (
            host in self._exact
            or with_port in self._exact
            or any(_is_below(host, name) or _is_below(with_port, name) for name in self._parents)
        )


@functools.lru_cache(maxsize=16)
def _origin_policy(origins: tuple[str, ...]) -> OriginPolicy:
    return OriginPolicy(origins)


@functools.lru_cache(maxsize=16)
def _host_policy(hosts: tuple[str, ...], loopback_only: bool) -> HostPolicy:  # noqa: FBT001
    return HostPolicy(hosts, loopback_only=loopback_only)


def check_origin(head: Head, origins: tuple[str, ...]) -> None:
    """Check `head` against an `OriginPolicy` of `origins`, built once."""
    _origin_policy(origins).check(head)


def check_host(head: Head, hosts: tuple[str, ...], *, loopback_only: bool) -> None:
    """Check `head` against a `HostPolicy` of `hosts`, built once."""
    _host_policy(hosts, loopback_only).check(head)
