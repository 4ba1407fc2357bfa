"""What each client message does to its session and which command it becomes.

Owner of nothing: `gateway.greetings` has the indexes, the connections have the tables. A handler answers at once what it can, refuses by raising `RequestRejected`,
and appends to the hub's batches what an actor has to do. Permission is checked here, before anything leaves the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from syncd.codes import CloseCode, ErrorCode, Reason
from syncd.config import Config, HistoryKind, Mode
from syncd.errors import RequestRejected
from syncd.gateway import grants as g
from syncd.gateway.collections import Collections
from syncd.gateway.connection import Connection, unanswered
from syncd.gateway.greetings import UNAUTHORIZED, Greetings
from syncd.gateway.hub import Hub
from syncd.gateway.pages import PageAsker
from syncd.gateway.presences import Presences
from syncd.gateway.rebuilds import RebuildRequests
from syncd.gateway.rechecks import Rechecks
from syncd.ids import ChannelName
from syncd.model.admin_sessions import Verifier
from syncd.model.client_secrets import ClientSecrets
from syncd.model.histogram import Histogram
from syncd.model.revocations import Revocations
from syncd.ports import (
    PublishEvent,
    ReadHistory,
    SubscribeChannel,
    Subscription,
    UnsubscribeChannel,
)
from syncd.ports_log import IdempotencyKey
from syncd.ports_presence import WatchPresence
from syncd.wire import encode
from syncd.wire import messages as m
from syncd.wire.frames import BINARY, encode_frame
from syncd.wire.session import Phase

__all__ = ["Sessions"]

SECOND_LOOK = 0.1
"""Of `slow_client_s`: a client that missed its deadline is looked at once more after this, because a node that stood still itself
finds everybody late, before it has given anybody's socket a chance."""
_PING_FRAME = encode_frame(BINARY, encode.message("ping", {}))


APPLIED_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Sessions:
    """Handlers of client messages, and the index of sessions by user and client."""

    def __init__(
        self,
        hub: Hub,
        *,
        config: Config,
        grants: g.Grants,
        tokens: Verifier,
        secrets: ClientSecrets,
        revocations: Revocations,
        wall_s: Callable[[], float],
        node: str,
    ) -> None:
        self._hub = hub
        self._config = config
        self.num_open = 0
        """Sessions past hello that have not ended."""
        self.applied_ages = Histogram(APPLIED_BOUNDS_S)
        """Seconds, as clients say in their pongs: of an event of the last ping interval."""
        self.grants, grants.holding = grants, hub.holding
        self.presences = Presences(hub, config, grants)
        self.collections = Collections(hub, config, grants)
        self.rechecks = Rechecks(grants, self.end_subscription, self.presences)
        self.revocations = revocations
        self._wall_s = wall_s
        self.greetings = Greetings(
            hub,
            config=config,
            tokens=tokens,
            secrets=secrets,
            revocations=revocations,
            wall_s=wall_s,
            node=node,
            open_session=self._open,
            on_taken_over=self.presences.leave_all,
        )
        self.handlers = self._all_handlers(hub)

    def _all_handlers(self, hub: Hub) -> dict[type, Callable[[Connection, Any], None]]:
        return {
            m.Hello: self.greetings.hello,
            m.Auth: self.auth,
            m.Subscribe: self.subscribe,
            m.Unsubscribe: self.unsubscribe,
            m.Publish: self.publish,
            m.EncodedPublish: self.publish_encoded,
            m.Presence: self.presences.announce,
            m.History: self.history,
            m.Mutate: self.collections.mutate,
            m.MutateAck: self.collections.acknowledge,
            m.Watch: self.collections.watch,
            m.Unwatch: self.collections.unwatch,
            m.Read: self.collections.read,
            **RebuildRequests(hub).handlers,
            m.Probe: self.probe,
            m.Pong: self.heard,
        }

    # ---------------------------------------------------------------- sessions begin and end

    def _open(self, connection: Connection) -> None:
        """A session begins: the timer looks at it from now on."""
        hub = self._hub
        self.num_open += 1
        connection.looked_at = hub.now
        connection.ping_due = hub.now + self._config.timing.ping_s * (1 - hub.jitter() / 2)
        hub.wheel.schedule(connection, self.next_due(connection))

    def forget(self, connection: Connection) -> None:
        """The session ended: take it out of the indexes."""
        self.num_open -= connection.ping_due > 0  # one whose hello failed half-way never counted
        self.greetings.forget(connection)

    @property
    def by_user(self) -> dict[str, set[Connection]]:
        """Sessions by user."""
        return self.greetings.by_user

    @property
    def by_client(self) -> dict[str, Connection]:
        """Which session speaks for a client."""
        return self.greetings.by_client

    def auth(self, connection: Connection, message: m.Auth) -> None:
        """Replace the token in place: same user only; what the new one does not allow ends, then the answer comes."""
        identity = self.greetings.identify(message.token)
        if identity is None or identity.user != connection.identity.user:
            self._hub.close(connection, CloseCode.UNAUTHORIZED, UNAUTHORIZED)
            return
        connection.identity = identity
        connection.grants = connection.permits = None
        self._hub.wheel.schedule(connection, self.next_due(connection))
        self.rechecks.run(connection, message.id)

    # ---------------------------------------------------------------- channels

    def subscribe(self, connection: Connection, message: m.Subscribe) -> None:
        """Check, enter the subscription in the session's table and ask the broadcaster."""
        channel = message.channel
        namespace = self.grants.require(connection, channel, g.SUBSCRIBE)
        if message.presence:
            if not namespace.presence:
                raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This namespace has no presence.")
            self.grants.require(connection, channel, g.PRESENCE)
        if connection.subscription(channel) is not None:
            raise RequestRejected(ErrorCode.ALREADY_SUBSCRIBED)
        subscription = Subscription(
            connection, channel, pending_id=message.id, since=message.position
        )
        connection.enter(subscription, self._config.limits.subscriptions)
        self._hub.to_broadcaster.append(SubscribeChannel(subscription))
        if message.presence:
            if connection.watched is None:
                connection.watched = set()
            connection.watched.add(channel)
            self._hub.to_presence.append(WatchPresence(connection, channel))

    def unsubscribe(self, connection: Connection, message: m.Unsubscribe) -> None:
        """Take the subscription out; nothing of the channel follows the ok."""
        subscription = connection.subscription(message.channel)
        if subscription is None or subscription.watch is not None:
            raise RequestRejected(ErrorCode.NOT_SUBSCRIBED)
        self._release(connection, subscription)
        connection.reply_ok(message.id)

    def end_subscription(
        self, connection: Connection, subscription: Subscription, code: Reason, reason: str
    ) -> None:
        """The server ends a subscription: queued frames of the channel are dropped, the client is told."""
        pending = unanswered(subscription)
        self._release(connection, subscription)
        if connection.outbox is not None:
            connection.outbox.drop_channel(subscription.channel)
        if not pending:
            connection.send_unsubscribed(subscription.channel, code, reason)
        refusal = RequestRejected(ErrorCode.PERMISSION_DENIED, reason)
        for request_id in pending:
            connection.reply_error(request_id, refusal)

    def _release(self, connection: Connection, subscription: Subscription) -> None:
        connection.release(subscription)
        self._hub.to_broadcaster.append(UnsubscribeChannel(subscription))

    def publish(self, connection: Connection, message: m.Publish) -> None:
        """Check, encode the data once and ask the broadcaster."""
        self._publish(connection, message, encode.pack(message.data))

    def publish_encoded(self, connection: Connection, message: m.EncodedPublish) -> None:
        """Check and ask the broadcaster."""
        self._publish(connection, message, bytes(message.data))

    def _publish(
        self, connection: Connection, message: m.Publish | m.EncodedPublish, data: bytes
    ) -> None:
        channel: ChannelName = message.channel  # type: ignore[assignment]
        grant = None if connection.grants is None else connection.grants.get(channel)
        if grant is not None and grant.bits & g.PUBLISH:
            namespace = grant.namespace
        else:
            namespace = self.grants.require(connection, channel, g.PUBLISH)
        if len(data) > namespace.max_data_bytes:
            raise RequestRejected(
                ErrorCode.TOO_LARGE, f"data may have {namespace.max_data_bytes} bytes here."
            )
        client = connection.clients[0] if connection.clients else None
        lane = self._hub.to_broadcaster
        lane.size_bytes += len(data)
        lane.append(
            PublishEvent(
                connection,
                message.id,
                channel,
                data,
                message.name,
                message.key,
                client,
                None if message.uid is None else _idempotency(connection, message, data),
            )
        )

    def history(self, connection: Connection, message: m.History) -> None:
        """Check and ask the broadcaster."""
        namespace = self.grants.require(connection, message.channel, g.HISTORY)
        if namespace.mode is Mode.EPHEMERAL or namespace.history is HistoryKind.NONE:
            raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This namespace keeps no history.")
        self._hub.to_broadcaster.append(
            ReadHistory(
                PageAsker(connection),
                message.id,
                message.channel,
                message.limit,
                message.since,
                message.reverse,
            )
        )

    # ---------------------------------------------------------------- presence, liveness

    def probe(self, connection: Connection, message: m.Probe) -> None:
        """Answer at once."""
        connection.send(encode.message("pong", {"nonce": message.nonce}))

    def heard(self, _connection: Connection, message: m.Pong) -> None:
        """Note what it says; being heard is a matter of arriving, as with any frame."""
        if message.applied_age_ms is not None:
            self.applied_ages.observe(message.applied_age_ms / 1000)

    # ---------------------------------------------------------------- time

    def next_due(self, connection: Connection) -> float:
        """When the coarse timer has to look at an open session again."""
        due = min(connection.ping_due, self._hub.now + g.GRANTS_LIVE_S)
        if self.grants.has_authorizer:
            due = min(due, connection.looked_at + g.GRANTS_LIVE_S)
        if connection.held is not None:
            due = min(due, connection.held.deadline)
        outbox, slow_s = connection.outbox, self._config.timing.slow_client_s
        if outbox is not None and outbox:
            look_again_at = self._hub.now + slow_s * SECOND_LOOK
            due = min(due, look_again_at if outbox.is_suspect else connection.drained_at + slow_s)
        expires = connection.identity.expires_at_s
        if expires is not None:
            left_s = expires - self._wall_s()
            due = min(due, self._hub.now + max(left_s, 0.0))
        return due

    def on_due(self, connection: Connection) -> None:
        """Look at an open session: slow, silent, expired, or time for a ping."""
        hub, timing = self._hub, self._config.timing
        outbox, now = connection.outbox, hub.now
        expires = connection.identity.expires_at_s
        if outbox is not None:
            is_slow = bool(outbox) and now - connection.drained_at >= timing.slow_client_s
            if is_slow and outbox.is_suspect:
                connection.close_code = CloseCode.SLOW_CLIENT
                hub.drop(connection)
                return
            outbox.is_suspect = is_slow
        if expires is not None and self._wall_s() >= expires:
            hub.close(connection, CloseCode.UNAUTHORIZED, UNAUTHORIZED)
            return
        if now - connection.last_seen > timing.ping_s + timing.pong_slack_s:
            connection.close_code = CloseCode.PING_TIMEOUT
            hub.drop(connection)
            return
        connection.grants = connection.permits = None
        if now >= connection.ping_due:
            connection.ping_due = now + timing.ping_s
            connection.queue(_PING_FRAME)
        if connection.held is not None and now >= connection.held.deadline:
            hub.holding.expire(connection)
            if connection.phase is not Phase.OPEN:
                return
        if self.grants.has_authorizer and now - connection.looked_at >= g.GRANTS_LIVE_S / 2:
            connection.looked_at = now
            self.rechecks.look(connection)
        hub.wheel.schedule(connection, self.next_due(connection))


def _idempotency(
    connection: Connection, message: m.Publish | m.EncodedPublish, data: bytes
) -> IdempotencyKey:
    user = connection.identity.user
    who = f"user:{user}" if user is not None else f"client:{connection.clients[0]}"
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(encode.pack([message.channel, message.name, message.key]))
    assert message.uid is not None
    return IdempotencyKey(who, "publish", message.uid, digest.digest())
