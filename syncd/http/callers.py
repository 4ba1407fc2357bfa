"""Who asks: a backend with an API key, on every route; an operator with a token, on those of operators."""

from __future__ import annotations

from typing import Any

from quart import request

from syncd.codes import ErrorCode
from syncd.config import Config
from syncd.errors import RequestRejected
from syncd.http.keys import ApiKeys
from syncd.model.proxy_networks import ProxyNetworks
from syncd.model.reserved import is_admin
from syncd.ports import Identity
from syncd.ports_operators import GatewayPort

__all__ = ["Callers"]


class Callers:
    """Looks at the request in hand."""

    def __init__(self, config: Config, gateway: GatewayPort) -> None:
        self._keys = ApiKeys(config.api_keys)
        self._networks = ProxyNetworks(config.trusted_proxies)
        self._gateway = gateway

    def service(self) -> str:
        """Return the name of the API key this request carries. Raises as `ApiKeys.admit`."""
        return self._keys.admit(request.headers.get("Authorization"), self._address())

    def operator(self) -> Identity:
        """Return who this request's API key or token speaks for.

        Raises:
            RequestRejected: permission_denied for a good token without the admin role; else as `ApiKeys.admit`, a bad token being a
                wrong key.
        """
        header = request.headers.get("Authorization")
        identity = self._keys.admit_or(header, self._address(), self._gateway.identify)
        if not is_admin(identity):
            raise RequestRejected(ErrorCode.PERMISSION_DENIED)
        return identity

    def _address(self) -> str:
        client: Any = request.scope.get("client")
        peer = client[0] if client else ""
        forwarded_for = ",".join(request.headers.getlist("X-Forwarded-For"))
        return self._networks.client_address(peer, forwarded_for)
