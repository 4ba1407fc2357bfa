"""What a session holds by a permission, looked at again when it has a newer token, and now and then if there is an authorizer.

The authorizer may have to be asked about each: all are asked at once, the session waits, and what is held goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from syncd.codes import ErrorCode, Reason
from syncd.errors import RequestRejected
from syncd.gateway import grants as g
from syncd.gateway.connection import Connection, unanswered
from syncd.gateway.holding import MustWait
from syncd.gateway.presences import Presences
from syncd.ports import Subscription

__all__ = ["Rechecks"]

_REASON = "not allowed any more"

Check = tuple[Callable[[], object], Callable[[RequestRejected], None]]
"""What raises unless it is still allowed, and what ends it then."""


class Rechecks:
    """Ends what a newer token does not allow."""

    def __init__(
        self,
        grants: g.Grants,
        end_subscription: Callable[[Connection, Subscription, Reason, str], None],
        presences: Presences,
    ) -> None:
        self._grants = grants
        self._end_subscription = end_subscription
        self._presences = presences

    def run(self, connection: Connection, request_id: int) -> None:
        """Check everything, then answer the request.

        Raises:
            MustWait: the authorizer is being asked.
        """
        held = connection.held
        if held is not None:
            held.forget_answers()  # they were about the identity before
        self._go_on(connection, request_id, self._checks(connection))

    def look(self, connection: Connection) -> None:
        """Ask the authorizer anew, and end what it does not allow any more.

        Where it raises, or does not answer in time, everything goes on as it is: an authorizer that cannot reach its database would
        end what everybody follows.
        """
        if connection.held is not None:
            return
        try:
            self._look_on(connection, self._checks(connection))
        except MustWait as wait:
            self._grants.holding.wait(connection, None, wait, [])

    def _look_on(self, connection: Connection, checks: list[Check]) -> None:
        undecided: list[Check] = []
        for check in checks:
            require, end = check
            self._grants.has_failed = False
            try:
                require()
            except MustWait:
                undecided.append(check)
            except RequestRejected as refusal:
                if refusal.code is not ErrorCode.OVERLOADED and not self._grants.has_failed:
                    end(refusal)
        if undecided:
            raise MustWait(again=partial(self._look_on, connection, undecided))

    def _go_on(self, connection: Connection, request_id: int, checks: list[Check]) -> None:
        undecided: list[Check] = []
        for check in checks:
            require, end = check
            try:
                require()
            except MustWait:
                undecided.append(check)
            except RequestRejected as refusal:
                end(refusal)
        if undecided:
            raise MustWait(again=partial(self._go_on, connection, request_id, undecided))
        connection.reply_ok(request_id)

    def _checks(self, connection: Connection) -> list[Check]:
        grants, presences = self._grants, self._presences
        checks: list[Check] = []
        for subscription in (connection.subscriptions or {}).values():
            end = partial(self._end, connection, subscription)
            if subscription.watch is None:
                require = partial(grants.require, connection, subscription.channel, g.SUBSCRIBE)
                checks.append((require, end))
            else:
                checks.append((partial(grants.require_read, connection, subscription.channel), end))
        for channel in connection.watched or ():
            require = partial(grants.require, connection, channel, g.PRESENCE)
            end_watch = partial(presences.end_watch, connection, channel)
            checks.append((require, lambda _refusal, end=end_watch: end()))  # type: ignore[misc]
        for channel, client in connection.announced or ():
            require = partial(grants.require, connection, channel, g.PRESENCE)
            leave = partial(presences.leave, connection, channel, client)
            checks.append((require, lambda _refusal, end=leave: end()))  # type: ignore[misc]
        return checks

    def _end(
        self, connection: Connection, subscription: Subscription, refusal: RequestRejected
    ) -> None:
        """Denied: it ends. Not decided in time: it ends too, but so that the client asks for it again."""
        if subscription.is_closed:
            return
        pending = unanswered(subscription)
        if refusal.code is not ErrorCode.OVERLOADED:
            self._end_subscription(connection, subscription, Reason.REVOKED, _REASON)
        elif pending:
            connection.end_subscription(subscription, refusal)
        else:
            connection.lag(subscription)
