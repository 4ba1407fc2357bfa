"""What operators do to live sessions: disconnect, unsubscribe, revoke, count. Implements `ports.GatewayPort`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from syncd.codes import CloseCode, Reason
from syncd.gateway.connection import Connection
from syncd.gateway.hub import Hub
from syncd.gateway.sessions import Sessions
from syncd.ids import ChannelName
from syncd.ports import Identity, Subscription
from syncd.ports_operators import GatewayStatistics, SessionInfo, Target
from syncd.ports_presence import Announce, PresenceCommand, WatchPresence
from syncd.wire.session import Phase

__all__ = ["GatewayAdmin"]

REVOKED_FOR_S = 86_400.0


class GatewayAdmin:
    """Operations on the sessions of this node; each is effective when it returns."""

    def __init__(self, hub: Hub, sessions: Sessions, wall_s: Callable[[], float]) -> None:
        self._hub = hub
        self._sessions = sessions
        self._wall_s = wall_s

    def _matching(self, target: Target) -> list[Connection]:
        candidates: Iterable[Connection]
        if target.client is not None:
            found = self._sessions.by_client.get(target.client)
            candidates = () if found is None else (found,)
        elif target.user is not None:
            candidates = self._sessions.by_user.get(target.user, ())
        else:
            candidates = self._hub.connections
        return [connection for connection in candidates if _matches(connection, target)]

    def disconnect(self, target: Target, *, reconnect: bool, reason: str) -> int:
        """Close matching sessions with 4503, or 4007 when they should reconnect."""
        code = CloseCode.RECONNECT if reconnect else CloseCode.DISCONNECTED
        matching = self._matching(target)
        for connection in matching:
            self._hub.close(connection, code, reason)
        self._end_turn()
        return len(matching)

    def unsubscribe(self, target: Target, channel: ChannelName) -> int:
        """End matching sessions' subscription to a channel."""
        count = 0
        for connection in self._matching(target):
            subscription = connection.subscription(channel)
            if subscription is not None:
                self._sessions.end_subscription(
                    connection, subscription, Reason.UNSUBSCRIBED, "ended by the server"
                )
                count += 1
        self._end_turn()
        return count

    def revoke(self, target: Target, *, until_s: float | None) -> int:
        """Refuse the user or token id from now on and close its sessions with 4401."""
        now_s = self._wall_s()
        until = now_s + REVOKED_FOR_S if until_s is None else until_s
        revocations = self._sessions.revocations
        if target.token_id is not None:
            revocations.revoke_token(target.token_id, until, now_s)
        elif target.user is not None:
            revocations.revoke_user(target.user, until, now_s)
        matching = self._matching(target)
        for connection in matching:
            self._hub.close(connection, CloseCode.UNAUTHORIZED, "the token was revoked")
        self._end_turn()
        return len(matching)

    def identify(self, token: str) -> Identity | None:
        """Return whom a token speaks for, as `hello` would."""
        return self._sessions.greetings.identify(token)

    def _end_turn(self) -> None:
        self._hub.hand_over()
        self._hub.writer.flush()

    def statistics(self) -> GatewayStatistics:
        """Return counts."""
        hub = self._hub
        sessions = [c for c in hub.connections if c.phase is Phase.OPEN]
        return GatewayStatistics(
            num_connections=len(hub.connections),
            num_sessions=len(sessions),
            num_subscriptions=sum(len(c.subscriptions or ()) for c in sessions),
            num_accepted=hub.num_accepted,
            num_refused=hub.num_refused,
            num_messages_in=hub.num_messages_in,
            num_deliveries=hub.writer.num_deliveries,
            num_bytes_out=hub.writer.num_bytes,
            num_conflated=hub.writer.num_conflated,
            num_lagged=hub.writer.num_lagged,
            closes=dict(hub.closes),
            errors=dict(hub.errors),
            num_mutations=hub.num_mutations,
            num_reads=hub.num_reads,
            num_watches=hub.num_watches,
            num_messages_out=hub.writer.num_deliveries + hub.writer.num_queued,
            applied_ages=self._sessions.applied_ages.counts(),
        )

    def counters(self) -> dict[str, int]:
        """See `GatewayPort.counters`."""
        hub, writer = self._hub, self._hub.writer
        return {
            "messages_in": hub.num_messages_in,
            "messages_out": writer.num_deliveries + writer.num_queued,
            "deliveries": writer.num_deliveries,
            "bytes_out": writer.num_bytes,
            "accepted": hub.num_accepted,
            "disconnects": sum(hub.closes.values()),
            "errors": sum(hub.errors.values()),
            "lagged": writer.num_lagged,
            "conflated": writer.num_conflated,
            "mutations": hub.num_mutations,
            "reads": hub.num_reads,
        }

    def gauges(self) -> dict[str, int]:
        """See `GatewayPort.gauges`."""
        return {"connections": len(self._hub.connections), "sessions": self._sessions.num_open}

    def sessions(self, channel: ChannelName | None = None) -> Iterator[SessionInfo]:
        """See `GatewayPort.sessions`."""
        now = self._hub.clock()
        for connection in list(self._hub.connections):
            if connection.phase is Phase.OPEN and (
                channel is None or connection.subscription(channel) is not None
            ):
                yield _session_info(connection, now, self._hub.config.limits.outbox_bytes)

    def channels_of(self, session: str) -> list[ChannelName] | None:
        """See `GatewayPort.channels_of`."""
        for connection in self._hub.connections:
            if connection.id == session and connection.phase is Phase.OPEN:
                return sorted(connection.subscriptions or ())
        return None

    # ---------------------------------------------------------------- healing (DESIGN 5.12)

    def open_subscriptions(self) -> list[Subscription]:
        """Every open subscription, with the last position queued to it, for a broadcaster that starts anew."""
        return [
            subscription
            for connection in self._hub.connections
            for subscription in (connection.subscriptions or {}).values()
        ]

    def open_watches(self) -> list[Subscription]:
        """Every watch, for a cache-owner that starts anew."""
        return [each for each in self.open_subscriptions() if each.watch is not None]

    def presence_commands(self) -> list[PresenceCommand]:
        """Every announced state and every watcher, for a presence actor that starts anew."""
        commands: list[PresenceCommand] = []
        for connection in self._hub.connections:
            commands += [
                Announce(connection, None, channel, client, state)
                for (channel, client), state in (connection.announced or {}).items()
            ]
            commands += [WatchPresence(connection, name) for name in connection.watched or ()]
        return commands


def _session_info(connection: Connection, now: float, budget_bytes: int) -> SessionInfo:
    outbox = connection.outbox
    return SessionInfo(
        session=connection.id,
        user=connection.identity.user,
        clients=connection.clients,
        peer=connection.peer,
        num_subscriptions=len(connection.subscriptions or ()),
        outbox_bytes=0 if outbox is None else outbox.size_bytes,
        outbox_budget_bytes=budget_bytes,
        behind_s=max(now - connection.drained_at, 0.0) if outbox else 0.0,
        silent_s=max(now - connection.last_seen, 0.0),
        is_paused=connection.is_paused,
    )


def _matches(connection: Connection, target: Target) -> bool:
    identity = connection.identity
    return (
        connection.phase is Phase.OPEN
        and target.user in (None, identity.user)
        and target.session in (None, connection.id)
        and (target.client is None or target.client in connection.clients)
        and target.token_id in (None, identity.token_id)
    )
