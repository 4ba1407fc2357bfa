"""What floors ask of each other about sessions and channels, as Protocols and plain messages; nothing here does anything.

Beside it: `ports_log` and `ports_state` of the store, `ports_presence`, `ports_collections`, and those of several nodes.

Waiting goes one way (DESIGN: gateway/http -> presence -> broadcaster -> store); whatever goes the other way through these
ports returns at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import IdempotencyKey

__all__ = [
    "Asker",
    "BroadcasterCommand",
    "BroadcasterHandle",
    "ChannelInfo",
    "Fanout",
    "Identity",
    "PublishEvent",
    "ReadHistory",
    "ResumeSubscriptions",
    "Run",
    "SessionDrained",
    "SessionPort",
    "SubscribeChannel",
    "Subscription",
    "SubscriptionsClosed",
    "UnsubscribeChannel",
    "Watch",
]

# ------------------------------------------------------------------------------------------------ who


@attrs.frozen
class Identity:
    """Who speaks: an anonymous client, a user by token, or a backend by API key."""

    user: str | None = None
    """Subject of the token; None for anonymous clients."""
    roles: frozenset[str] = frozenset()
    claims: dict[str, Any] = attrs.field(factory=dict, eq=False, repr=False)
    token_id: str | None = None
    """`jti`, for revocation."""
    expires_at_s: float | None = None
    """Wall clock; None never expires."""
    service: str | None = None
    """Name of the API key, for backends."""


# ------------------------------------------------------------------------------------------------ sessions


class Asker(Protocol):
    """Whoever waits for an answer with an id: a session, or an HTTP request."""

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        """Answer ok, with a position if there is one. Never waits, never raises."""

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        """Answer with an error. Never waits, never raises."""

    def reply_events(
        self, request_id: int, epoch: Epoch, offset: int, bodies: Sequence[bytes]
    ) -> None:
        """Answer a history request: encoded event bodies and the channel's top."""


class SessionPort(Asker, Protocol):
    """One connection, as actors see it. Its outbox has a bound and a policy of its own."""

    id: str
    identity: Identity
    clients: tuple[str, ...]
    """Whom it speaks for, the default first."""
    closed: bool

    def send(self, message: bytes) -> None:
        """Queue one encoded message that must not be dropped (replies, state). Never waits."""

    def send_event(self, channel: ChannelName, message: bytes) -> None:
        """Queue what a subscriber missed: not dropped for want of room, but with its channel when that is taken away."""

    def end_subscription(self, subscription: Subscription, error: SyncdError) -> None:
        """The subscription cannot be served: answer its pending request with the error, or tell `unsubscribed`."""

    def fail_watch(self, subscription: Subscription, request_id: int, error: SyncdError) -> None:
        """A `watch` request cannot be served: answer it with the error.

        What the subscription was told before goes on; if it was never live and no other request is on its way, it is taken out.
        """

    def lag(self, subscription: Subscription) -> None:
        """The subscription fell behind what can be sent: tell `lagged`, so that the client subscribes again."""

    def has_room(self) -> bool:
        """Whether the socket keeps up: nothing waits for it."""

    def call_when_drained(self, subscription: Subscription) -> None:
        """Have `SessionDrained` submitted for this subscription once nothing waits for the socket any more."""

    def page_when_drained(self, subscription: Subscription) -> None:
        """Have `SnapshotDrained` submitted for this watch once nothing waits for the socket any more."""

    def remember_presence(self, channel: ChannelName, client: str, state: bytes | None) -> None:
        """Keep an accepted presence state (None: left), to be announced again to a presence actor that starts anew."""

    def send_presence(self, channel: ChannelName, message: bytes) -> bool:
        """Queue a presence message, or return False when its budget is used up.

        After False the caller sends a fresh `presence_state` later instead of what was refused.
        """


@attrs.define(eq=False)
class Watch:
    """What a subscription to a collection's channel asks for. Owned by the gateway like its subscription."""

    keys: set[str] | None
    """None: every entry of the channel. Kept by the broadcaster."""
    snapshot_id: int | None = None
    """The request whose snapshot is not complete. Kept by the cache-owner, with `page_after`."""
    page_after: str | None = None
    """Last key of it that was queued."""
    have: dict[str, int] | None = None
    """Versions that the client has, while the snapshot lasts."""
    marked: int = 0
    """Last offset told by an event or a mark. Kept by the broadcaster."""
    is_owed_end: bool = False
    """It recovers: a mark says where what it missed ends, even if nothing is there. Kept by the broadcaster."""
    asked: list[int] = attrs.field(factory=list)
    """Requests handed over before anything was live and not failed since. Kept by the gateway."""


class _HotSubscription:
    """What a delivery touches of a subscription, side by side in memory (see `gateway.connection`)."""

    __slots__ = ("is_closed", "offset", "session")


@attrs.define(eq=False)
class Subscription(_HotSubscription):
    """One session's subscription to one channel. Owned by the gateway; the broadcaster keeps `epoch` and `offset`.

    `offset` is the last one queued to the session, so that a restarted broadcaster can go on from there.
    """

    session: SessionPort
    channel: ChannelName
    epoch: Epoch | None = None
    offset: int = 0
    is_live: bool = False
    """In the broadcaster's fan-out set."""
    is_closed: bool = False
    """Unsubscribed or the session ended: whatever is in flight for it is dropped."""
    pending_id: int | None = None
    """The subscribe request while it is unanswered."""
    since: Position | None = None
    """What that request asked to recover from."""
    watch: Watch | None = None
    """Set on channels of collections."""


@attrs.define(eq=False)
class Run:
    """What one channel has for its subscribers in one tick: encoded once, shared by all."""

    channel: ChannelName
    messages: list[tuple[str | None, bytes]]
    """(key, encoded message) in order, unframed."""
    epoch: Epoch | None
    offset: int
    """Of the last message; 0 without positions."""
    is_conflatable: bool
    """Keyed messages may be superseded by newer ones of the same key (latest channels, collections)."""
    fulls: dict[int, bytes] | None = None
    """By index in `messages`, where the message tells a patch: the message with the whole value, sent when what it applies to is
    superseded."""
    offsets: list[int] | None = None
    """Of each message, where others lie between them (filtered watches); without it they are consecutive up to `offset`."""


class Fanout(Protocol):
    """The gateway's side of delivery. Synchronous; sockets are written in `flush`."""

    def deliver(self, subscriptions: Iterable[Subscription], run: Run) -> list[Subscription]:
        """Queue `run` for every subscription and advance its position.

        Returns:
            Subscriptions whose session has no room left (usually none): `lagged` was queued behind what they have, and they
            are no longer live.
        """

    def flush(self) -> None:
        """Write everything queued since the last flush: one send a session."""


# ------------------------------------------------------------------------------------------------ broadcaster


@attrs.define(eq=False)
class SubscribeChannel:
    """Put a subscription live, after recovering from `subscription.since` if given. Authorised already.

    The answer goes to `subscription.pending_id`.
    """

    subscription: Subscription


@attrs.define(eq=False)
class UnsubscribeChannel:
    """Take a subscription out. The gateway has marked it closed and answered already."""

    subscription: Subscription


@attrs.define(eq=False)
class PublishEvent:
    """Append an event to a channel and deliver it. Authorised already."""

    asker: Asker
    request_id: int
    channel: ChannelName
    data: bytes
    """Encoded msgpack."""
    name: str | None = None
    key: str | None = None
    client: str | None = None
    """Told as `by`; None for backends."""
    idempotency: IdempotencyKey | None = None


@attrs.define(eq=False)
class ReadHistory:
    """Read events of the past. Authorised already."""

    asker: Asker
    request_id: int
    channel: ChannelName
    limit: int
    since: Position | None = None
    reverse: bool = False


@attrs.define(eq=False)
class SubscriptionsClosed:
    """A session ended: these are over. The gateway has marked them closed."""

    subscriptions: list[Subscription]


@attrs.define(eq=False)
class ResumeSubscriptions:
    """After a crash of the broadcaster: every open subscription, with the last position queued to it."""

    subscriptions: list[Subscription]


@attrs.define(eq=False)
class SessionDrained:
    """Sessions that were catching up have room again."""

    subscriptions: list[Subscription]


BroadcasterCommand = (
    SubscribeChannel
    | UnsubscribeChannel
    | PublishEvent
    | ReadHistory
    | SubscriptionsClosed
    | ResumeSubscriptions
    | SessionDrained
)


@attrs.frozen
class ChannelInfo:
    """One channel as operators see it."""

    channel: ChannelName
    num_subscribers: int
    epoch: Epoch | None
    offset: int
    num_events: int = 0
    """Since some start; where there are offsets, the newest one."""


class BroadcasterHandle(Protocol):
    """The broadcaster, as the gateway and HTTP see it."""

    def submit_nowait(self, commands: Sequence[BroadcasterCommand], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[BroadcasterCommand], size_bytes: int) -> None:
        """Hand over, waiting for room."""

    def channels(self, prefix: str, limit: int) -> list[ChannelInfo]:
        """Channels with subscribers or state in memory whose name starts with `prefix`."""

    def each_channel(self) -> Iterator[ChannelInfo]:
        """Channels as they are now, each told when it is asked for: whoever has many of them may rest in between."""

    def num_subscribers(self, channel: ChannelName) -> int:
        """How many are subscribed to a channel."""
