"""What every answer carries and every request must pass, whatever its path: Host names and security headers.

The shared port's gateway has checked the Host before; with `--api-listen` nobody else does, so it is checked here as well.
"""

from __future__ import annotations

import ipaddress

from quart import Response

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.http.failures import HttpError

__all__ = ["HostRule", "page_policy", "secure"]

_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost"})


class HostRule:
    """Which `Host` headers are answered; the defence against DNS rebinding."""

    def __init__(self, config: Config) -> None:
        listen = config.api_listen or config.listen
        self._hosts = frozenset(host.lower() for host in config.hosts)
        is_local = listen.path is not None or _is_loopback(listen.host)
        self._admits_all = "*" in self._hosts or not (self._hosts or is_local)

    def check(self, host: str | None) -> None:
        """Raise a refusal with status 421 unless `host` is one of ours.

        A request without Host (HTTP/1.0 health checks) passes: a browser, which rebinding needs, always sends one.
        """
        if not host or self._admits_all:
            return
        name = _host_name(host)
        if _is_loopback(name) or name in self._hosts:
            return
        text = "This host name is not served here; add it to `hosts`."
        raise HttpError(421, ErrorCode.PERMISSION_DENIED, text)


def _host_name(host: str) -> str:
    """Return the name without port, brackets and final dot, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].removesuffix(".").lower()


def _is_loopback(name: str) -> bool:
    if name in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


_API_POLICY = "default-src 'none'; frame-ancestors 'none'"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""No CORS header is ever sent: browsers of other origins may not read anything here."""


def secure(response: Response) -> Response:
    """Add the security headers; pages bring a policy of their own."""
    headers = response.headers
    for name, value in _HEADERS.items():
        headers[name] = value
    headers.setdefault("Content-Security-Policy", _API_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    return response


def page_policy(*, style: str = "'self'", connect: str = "'self'") -> str:
    """Return a Content-Security-Policy for our own pages: own scripts and styles, nothing inline, nothing foreign."""
    return (
        f"default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
