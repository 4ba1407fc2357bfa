"""Users and tokens that are refused until a time, although their signature is good.

Owned by the gateway, asked at every `hello` and `auth`. Lives in memory, in a cluster in that of every node: a revocation that must
outlive all of them is the issuer's to enforce, by short tokens.
"""

from __future__ import annotations

import attrs

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ports import Identity
from syncd.ports_cluster import Revoked

__all__ = ["DEFAULT_REVOCATION_S", "MAX_REVOCATIONS", "Revocations"]

DEFAULT_REVOCATION_S = 86_400.0
"""How long a revocation stands when nobody says; longer than tokens should live."""

MAX_REVOCATIONS = 100_000
"""About 20 MB. Full: a new one is refused, because forgetting an old one would let somebody in."""


@attrs.define
class Revocations:
    """Who is refused until when (wall clock, seconds). Policy when full: refuse the new one aloud."""

    capacity: int = MAX_REVOCATIONS
    _users: dict[str, float] = attrs.field(factory=dict, init=False)
    _tokens: dict[str, float] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def revoke_user(self, user: str, until_s: float, now_s: float) -> None:
        """Refuse a user's tokens until `until_s`; an earlier revocation is never shortened.

        Raises:
            RequestRejected: `limit_exceeded`, when too many stand already.
        """
        self._add(self._users, user, until_s, now_s)

    def revoke_token(self, token_id: str, until_s: float, now_s: float) -> None:
        """Refuse one token (`jti`) until `until_s`; raises as `revoke_user`."""
        self._add(self._tokens, token_id, until_s, now_s)

    def is_revoked(self, identity: Identity, now_s: float) -> bool:
        """Tell whether this identity's user or token is refused now."""
        if identity.user is not None and self._users.get(identity.user, 0.0) > now_s:
            return True
        return identity.token_id is not None and self._tokens.get(identity.token_id, 0.0) > now_s

    def has(self, revoked: Revoked) -> bool:
        """Tell whether this is known, for as long or longer."""
        users, tokens = self._users, self._tokens
        if revoked.user is not None:
            return users.get(revoked.user, 0.0) >= revoked.until_s
        return revoked.token_id is None or tokens.get(revoked.token_id, 0.0) >= revoked.until_s

    def standing(self, now_s: float) -> list[Revoked]:
        """Return all whose time is not over."""
        users = [Revoked(until, user=name) for name, until in self._users.items() if until > now_s]
        tokens = [
            Revoked(until, token_id=name) for name, until in self._tokens.items() if until > now_s
        ]
        return users + tokens

    def prune(self, now_s: float) -> None:
        """Forget those whose time is over. Linear; for a coarse timer."""
        for table in (self._users, self._tokens):
            for name in [name for name, until_s in table.items() if until_s <= now_s]:
                del table[name]

    def _add(self, table: dict[str, float], name: str, until_s: float, now_s: float) -> None:
        if name not in table and len(self) >= self.capacity:
            self.prune(now_s)
            if len(self) >= self.capacity:
                raise RequestRejected(
                    ErrorCode.LIMIT_EXCEEDED, f"{self.capacity} revocations stand already."
                )
        table[name] = max(until_s, table.get(name, 0.0))
