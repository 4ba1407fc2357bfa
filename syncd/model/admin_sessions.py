"""Tokens that this node signs itself, so that an operator's browser keeps neither an API key nor a token of the issuer.

Owned by nobody: the signing key is derived from the node's secret and its API keys, so one outlives a restart and a changed API key ends
all of them. They are tokens like any other to `hello` and to the operators' routes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Mapping
from typing import Protocol

import jwt

from syncd.config import AuthSettings
from syncd.model.reserved import ADMIN_ROLE
from syncd.model.tokens import TokenRefused, TokenVerifier
from syncd.ports import Identity

__all__ = ["LOGIN_S", "SESSION_S", "AdminSessions", "NodeTokens", "Verifier"]

SESSION_S = 3600.0
"""Life of one token; a page renews it long before."""
LOGIN_S = 12 * 3600.0
"""How long tokens may be renewed with tokens; then the API key has to be shown again."""

_ISSUER = "syncd:admin"
_PURPOSE = b"syncd admin session\0"


class Verifier(Protocol):
    """Tells whom a token speaks for."""

    def verify(self, token: str, now_s: float) -> Identity:
        """Return whom it speaks for; `now_s` is the wall clock. Raises `TokenRefused`."""


class AdminSessions:
    """Signs and checks them. Immutable."""

    def __init__(self, node_secret: bytes, api_keys: Mapping[str, str]) -> None:
        keys = hashlib.sha256(repr(sorted(api_keys.items())).encode()).digest()
        signing = hmac.digest(node_secret, _PURPOSE + keys, "sha256")
        self._secret = base64.b64encode(signing).decode()
        self._verifier = TokenVerifier(
            AuthSettings(algorithms=("HS256",), hmac_secret=self._secret, issuer=_ISSUER)
        )

    def issue(self, operator: Identity, now_s: float) -> tuple[str, int]:
        """Return a token and when it ends, in milliseconds since 1970.

        It speaks for a user with the name of the API key, or for the user of the token shown, and never outlives that token. Renewed
        with one of its own kind it ends `LOGIN_S` after the API key was shown.

        Raises:
            TokenRefused: the operator's own time is over.
        """
        until_s = self._login_ends_at(operator, now_s)
        expires_s = math.floor(min(now_s + SESSION_S, until_s))
        if expires_s <= now_s:
            raise TokenRefused("login_over")
        body = {
            "sub": operator.service or operator.user,
            "iat": math.floor(now_s),
            "exp": expires_s,
            "iss": _ISSUER,
            "roles": [ADMIN_ROLE],
            "until": until_s,
        }
        return jwt.encode(body, self._secret, algorithm="HS256"), expires_s * 1000

    @staticmethod
    def _login_ends_at(operator: Identity, now_s: float) -> float:
        if operator.service is not None:
            return now_s + LOGIN_S
        claims = operator.claims
        return float(claims["until"] if claims.get("iss") == _ISSUER else claims["exp"])

    def verify(self, token: str, now_s: float) -> Identity:
        """See `Verifier.verify`."""
        return self._verifier.verify(token, now_s)


class NodeTokens:
    """Every token that a node takes: the configured issuer's and its own. Implements `Verifier`."""

    def __init__(self, configured: Verifier, sessions: AdminSessions) -> None:
        self._configured = configured
        self._sessions = sessions

    def verify(self, token: str, now_s: float) -> Identity:
        """See `Verifier.verify`."""
        try:
            return self._configured.verify(token, now_s)
        except TokenRefused:
            return self._sessions.verify(token, now_s)
