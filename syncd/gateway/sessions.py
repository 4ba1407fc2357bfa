"""What each client message does to its session and which command it becomes.

Owner of: the index of sessions by user and by client. A handler answers at once what it can, refuses by raising `RequestRejected`,
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
from syncd.gateway.connection import ANONYMOUS, Connection
from syncd.gateway.hub import Hub
from syncd.gateway.pages import PageAsker
from syncd.gateway.presences import Presences
from syncd.model.client_secrets import ClientSecrets
from syncd.model.revocations import Revocations
from syncd.model.tokens import TokenVerifier
from syncd.ports import (
    IdempotencyKey,
    Identity,
    PublishEvent,
    ReadHistory,
    SubscribeChannel,
    Subscription,
    UnsubscribeChannel,
    WatchPresence,
)
from syncd.wire import encode
from syncd.wire import messages as m
from syncd.wire.frames import BINARY, encode_frame
from syncd.wire.session import Phase

__all__ = ["Sessions"]

_PING_FRAME = encode_frame(BINARY, encode.message("ping", {}))
_UNAUTHORIZED = "the token is missing or not accepted"


class Sessions:
    """Handlers of client messages, and the index of sessions by user and client."""

    def __init__(
        self,
        hub: Hub,
        *,
        config: Config,
        grants: g.Grants,
        tokens: TokenVerifier,
        secrets: ClientSecrets,
        revocations: Revocations,
        wall_s: Callable[[], float],
        node: str,
    ) -> None:
        self._hub = hub
        self._config = config
        self.grants = grants
        self.presences = Presences(hub, config, grants)
        self._tokens = tokens
        self._secrets = secrets
        self.revocations = revocations
        self._wall_s = wall_s
        self._node = node
        self._num_opened = 0
        self.by_user: dict[str, set[Connection]] = {}
        self.by_client: dict[str, Connection] = {}
        self.handlers: dict[type, Callable[[Connection, Any], None]] = {
            m.Hello: self.hello,
            m.Auth: self.auth,
            m.Subscribe: self.subscribe,
            m.Unsubscribe: self.unsubscribe,
            m.Publish: self.publish,
            m.Presence: self.presences.announce,
            m.History: self.history,
            m.Probe: self.probe,
            m.Pong: _heard,
        }

    # ---------------------------------------------------------------- hello, auth

    def hello(self, connection: Connection, message: m.Hello) -> None:
        """Open the session, or close the connection: 4501, 4401, 4505, 4004."""
        hub = self._hub
        if message.v != 1:
            hub.close(connection, CloseCode.UNSUPPORTED_VERSION, "this server speaks version 1")
            return
        identity = self._identify(message.token)
        if identity is None:
            hub.close(connection, CloseCode.UNAUTHORIZED, _UNAUTHORIZED)
            return
        if self._has_too_many(identity):
            reason = "too many connections of this user"
            hub.close(connection, CloseCode.OVERLOADED, reason, after_ms=10_000)
            return
        clients: list[dict[str, Any]] = []
        forgotten: list[str] = []
        for claim in message.clients:
            if not self._secrets.is_known(claim.client):
                forgotten.append(claim.client)
                clients.append(self._issue())
                continue
            if not self._secrets.verify(claim.client, claim.secret):
                hub.close(connection, CloseCode.CLIENT_DENIED, "wrong client secret")
                return
            clients.append({"client": claim.client, "last_mid": 0})
        if not clients:
            clients.append(self._issue())
        self._open(connection, message, identity, tuple(item["client"] for item in clients))
        connection.send(self._welcome(connection, clients))
        for client in forgotten:
            code = Reason.CLIENT_UNKNOWN.value
            connection.send(
                encode.message("reset", {"scope": "client", "client": client, "code": code})
            )

    def _issue(self) -> dict[str, Any]:
        client, secret = self._secrets.issue(self._wall_s())
        return {"client": client, "secret": secret, "last_mid": 0}

    def _open(
        self, connection: Connection, message: m.Hello, identity: Identity, clients: tuple[str, ...]
    ) -> None:
        hub, timing = self._hub, self._config.timing
        self._num_opened += 1
        connection.phase = Phase.OPEN
        connection.id = f"{self._node}-{self._num_opened:x}"
        connection.identity = identity
        connection.group = message.group
        for client in clients:
            self._take_over(client, connection)
        connection.clients = clients
        if identity.user is not None:
            self.by_user.setdefault(identity.user, set()).add(connection)
        connection.ping_due = hub.now + timing.ping_s * (1 - hub.jitter() / 2)
        hub.wheel.schedule(connection, self.next_due(connection))

    def _welcome(self, connection: Connection, clients: list[dict[str, Any]]) -> bytes:
        return encode.message(
            "welcome",
            {
                "session": connection.id,
                "clients": clients,
                "server_time_ms": int(self._wall_s() * 1000),
                "ping_ms": int(self._config.timing.ping_s * 1000),
                "max_frame_bytes": self._config.limits.frame_bytes,
            },
        )

    def _identify(self, token: str | None) -> Identity | None:
        """Return who speaks, or None when the answer is 4401."""
        if token is None:
            return ANONYMOUS if self._config.auth.anonymous else None
        try:
            identity = self._tokens.verify(token, self._wall_s())
        except RequestRejected:
            return None
        if self.revocations.is_revoked(identity, self._wall_s()):
            return None
        return identity

    def _has_too_many(self, identity: Identity) -> bool:
        limit = self._config.limits.connections_per_user
        return bool(
            limit
            and identity.user is not None
            and len(self.by_user.get(identity.user, ())) >= limit
        )

    def _take_over(self, client: str, connection: Connection) -> None:
        """A newer hello naming a client speaks for it from now on."""
        older = self.by_client.get(client)
        self.by_client[client] = connection
        if older is None or older is connection:
            return
        older.clients = tuple(name for name in older.clients if name != client)
        self.presences.leave_all(older, client)
        if not older.clients:
            self._hub.close(older, CloseCode.TAKEN_OVER, "a newer connection took over")

    def forget(self, connection: Connection) -> None:
        """The session ended: take it out of the indexes."""
        user = connection.identity.user
        if user is not None and (others := self.by_user.get(user)) is not None:
            others.discard(connection)
            if not others:
                del self.by_user[user]
        for client in connection.clients:
            if self.by_client.get(client) is connection:
                del self.by_client[client]

    def auth(self, connection: Connection, message: m.Auth) -> None:
        """Replace the token in place: same user only; what the new one does not allow ends."""
        identity = self._identify(message.token)
        if identity is None or identity.user != connection.identity.user:
            self._hub.close(connection, CloseCode.UNAUTHORIZED, _UNAUTHORIZED)
            return
        connection.identity = identity
        connection.grants = None
        for subscription in list((connection.subscriptions or {}).values()):
            try:
                self.grants.require(connection, subscription.channel, g.SUBSCRIBE)
            except RequestRejected:
                self.end_subscription(
                    connection, subscription, Reason.REVOKED, "not allowed any more"
                )
        self.presences.recheck(connection)
        self._hub.wheel.schedule(connection, self.next_due(connection))
        connection.reply_ok(message.id)

    # ---------------------------------------------------------------- channels

    def subscribe(self, connection: Connection, message: m.Subscribe) -> None:
        """Check, enter the subscription in the session's table and ask the broadcaster."""
        channel = message.channel
        namespace = self.grants.require(connection, channel, g.SUBSCRIBE)
        if message.presence:
            if not namespace.presence:
                raise RequestRejected(ErrorCode.NOT_SUPPORTED, "This namespace has no presence.")
            self.grants.require(connection, channel, g.PRESENCE)
        table = connection.subscriptions
        if table is None:
            table = connection.subscriptions = {}
        if channel in table:
            raise RequestRejected(ErrorCode.ALREADY_SUBSCRIBED)
        if len(table) >= self._config.limits.subscriptions:
            limit = self._config.limits.subscriptions
            raise RequestRejected(
                ErrorCode.LIMIT_EXCEEDED, f"A session may hold {limit} subscriptions."
            )
        subscription = table[channel] = Subscription(
            connection, channel, pending_id=message.id, since=message.position
        )
        self._hub.to_broadcaster.append(SubscribeChannel(subscription))
        if message.presence:
            if connection.watched is None:
                connection.watched = set()
            connection.watched.add(channel)
            self._hub.to_presence.append(WatchPresence(connection, channel))

    def unsubscribe(self, connection: Connection, message: m.Unsubscribe) -> None:
        """Take the subscription out; nothing of the channel follows the ok."""
        subscription = connection.subscription(message.channel)
        if subscription is None:
            raise RequestRejected(ErrorCode.NOT_SUBSCRIBED)
        self._release(connection, subscription)
        connection.reply_ok(message.id)

    def end_subscription(
        self, connection: Connection, subscription: Subscription, code: Reason, reason: str
    ) -> None:
        """The server ends a subscription: queued frames of the channel are dropped, the client is told."""
        self._release(connection, subscription)
        if connection.outbox is not None:
            connection.outbox.drop_channel(subscription.channel)
        if subscription.pending_id is None:
            connection.send_unsubscribed(subscription.channel, code, reason)
        else:
            refusal = RequestRejected(ErrorCode.PERMISSION_DENIED, reason)
            connection.reply_error(subscription.pending_id, refusal)

    def _release(self, connection: Connection, subscription: Subscription) -> None:
        connection.release(subscription)
        self._hub.to_broadcaster.append(UnsubscribeChannel(subscription))

    def publish(self, connection: Connection, message: m.Publish) -> None:
        """Check, encode the data once and ask the broadcaster."""
        channel = message.channel
        grant = None if connection.grants is None else connection.grants.get(channel)
        if grant is not None and grant.bits & g.PUBLISH:
            namespace = grant.namespace
        else:
            namespace = self.grants.require(connection, channel, g.PUBLISH)
        data = encode.pack(message.data)
        if len(data) > namespace.max_data_bytes:
            raise RequestRejected(
                ErrorCode.TOO_LARGE, f"data may have {namespace.max_data_bytes} bytes here."
            )
        client = connection.clients[0] if connection.clients else None
        hub = self._hub
        hub.bytes_to_broadcaster += len(data)
        hub.to_broadcaster.append(
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

    # ---------------------------------------------------------------- time

    def next_due(self, connection: Connection) -> float:
        """When the coarse timer has to look at an open session again."""
        due = connection.ping_due
        if connection.outbox is not None and connection.outbox:
            due = min(due, connection.drained_at + self._config.timing.slow_client_s)
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
        if outbox is not None and outbox and now - connection.drained_at >= timing.slow_client_s:
            connection.close_code = CloseCode.SLOW_CLIENT
            hub.drop(connection)
            return
        if expires is not None and self._wall_s() >= expires:
            hub.close(connection, CloseCode.UNAUTHORIZED, _UNAUTHORIZED)
            return
        if now - connection.last_seen > timing.ping_s + timing.pong_slack_s:
            connection.close_code = CloseCode.PING_TIMEOUT
            hub.drop(connection)
            return
        if now >= connection.ping_due:
            connection.ping_due = now + timing.ping_s
            connection.grants = None
            connection.queue(_PING_FRAME)
        hub.wheel.schedule(connection, self.next_due(connection))


def _heard(_connection: Connection, _message: m.Pong) -> None:
    """A pong is heard by arriving: any frame counts as a sign of life."""


def _idempotency(connection: Connection, message: m.Publish, data: bytes) -> IdempotencyKey:
    user = connection.identity.user
    who = f"user:{user}" if user is not None else f"client:{connection.clients[0]}"
    digest = hashlib.blake2b(data, digest_size=16)
    digest.update(encode.pack([message.channel, message.name, message.key]))
    assert message.uid is not None
    return IdempotencyKey(who, "publish", message.uid, digest.digest())
