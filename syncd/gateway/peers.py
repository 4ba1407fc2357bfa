"""What sessions of other nodes mean for those of this one: clients that went elsewhere, newer terms, revocations. Implements `SessionsPort`.

Owner of nothing: clients and groups stand in `greetings`, revocations in the table of the sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from syncd.errors import RequestRejected
from syncd.gateway.admin import GatewayAdmin
from syncd.gateway.hub import Hub
from syncd.gateway.sessions import Sessions
from syncd.ports_cluster import Revoked
from syncd.ports_operators import Target
from syncd.ports_presence import ReleaseClient

__all__ = ["PeerSessions"]

_log = structlog.get_logger("syncd.gateway")


class PeerSessions:
    """Acts on the sessions of this node for the others."""

    def __init__(
        self, hub: Hub, sessions: Sessions, admin: GatewayAdmin, wall_s: Callable[[], float]
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._admin = admin
        self._wall_s = wall_s
        self.disconnect = admin.disconnect
        self.unsubscribe = admin.unsubscribe
        self.revoke = admin.revoke

    def take_away(self, client: str, stamp: int) -> int | None:
        """See `SessionsPort.take_away`."""
        greetings = self._sessions.greetings
        later = greetings.taken_at.get(client, 0)
        if later >= stamp:
            return later
        older = greetings.by_client.get(client)
        if older is not None:
            if older.announced:
                self._hub.to_presence.append(ReleaseClient(older, client))
            greetings.give_up(client, older)
            self._hub.finish_soon()
        return None

    def raise_term(self, user: str | None, group: str, term: int) -> int:
        """See `SessionsPort.raise_term`."""
        return self._sessions.greetings.groups.raise_term(user, group, term)

    def terms(self) -> Iterable[tuple[str | None, str, int]]:
        """See `SessionsPort.terms`."""
        return self._sessions.greetings.groups.terms()

    def revoked(self) -> Iterable[Revoked]:
        """See `SessionsPort.revoked`."""
        return self._sessions.revocations.standing(self._wall_s())

    def add_revoked(self, revoked: Iterable[Revoked]) -> int:
        """See `SessionsPort.add_revoked`. Where too many stand already the rest is refused, and the log says so."""
        known, now_s, count = self._sessions.revocations, self._wall_s(), 0
        for each in revoked:
            if each.until_s <= now_s or known.has(each):
                continue
            target = Target(user=each.user, token_id=each.token_id)
            try:
                count += self._admin.revoke(target, until_s=each.until_s)
            except RequestRejected as error:
                _log.error("revocations_of_peer_refused", code=error.code.value)
                break
        return count
