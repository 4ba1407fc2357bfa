"""What one floor may ask of another, as Protocols and plain messages; nothing here does anything.

Waiting goes one way (DESIGN: gateway/http -> presence -> broadcaster -> store); whatever goes the other way through these
ports returns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position

__all__ = [
    "Announce",
    "AppendRequest",
    "AppendResult",
    "Appended",
    "Asker",
    "BroadcasterCommand",
    "BroadcasterHandle",
    "ChannelHead",
    "ChannelInfo",
    "Fanout",
    "IdempotencyKey",
    "Identity",
    "LoadedChannel",
    "LogPage",
    "LogQuery",
    "PresenceCommand",
    "PresenceHandle",
    "PublishEvent",
    "QueryPresence",
    "ReadHistory",
    "ResumeSubscriptions",
    "Run",
    "SessionDrained",
    "SessionGone",
    "SessionPort",
    "StoreHandle",
    "StoredEvent",
    "SubscribeChannel",
    "Subscription",
    "SubscriptionsClosed",
    "UnsubscribeChannel",
    "UnwatchPresence",
    "Watch",
    "WatchPresence",
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


@attrs.define(eq=False)
class Subscription:
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


# ------------------------------------------------------------------------------------------------ store


@attrs.frozen
class IdempotencyKey:
    """(identity, operation, key) and what was asked under it (DESIGN 5.4)."""

    identity: str
    """`user:<sub>`, `client:<id>` or `service:<name>`."""
    operation: str
    key: str
    request_hash: bytes


@attrs.define(eq=False)
class AppendRequest:
    """One durable event to be written."""

    channel: ChannelName
    record: bytes
    """As made by `wire.encode.event_record`: everything of the body but channel and position."""
    at_ms: int
    key: str | None = None
    idempotency: IdempotencyKey | None = None
    invalidated: Sequence[str] = ()
    """Of a mutation's event without a key: it concerns the loads of these keys alone, not of all of its channel (`store.loads`)."""


@attrs.define
class Appended:
    """Where a request's event stands in the log, committed."""

    epoch: Epoch
    offset: int
    is_duplicate: bool = False
    """The idempotency key was known: this is the position of the first time, and no event was written."""


AppendResult = Appended | SyncdError
"""One per request; an error (idempotency_mismatch) concerns that request alone."""


@attrs.frozen
class ChannelHead:
    """Where a channel's log begins and ends."""

    epoch: Epoch
    top: int
    """Offset of the newest event ever; 0 for none."""
    floor: int
    """Positions with offset >= floor can be recovered: nothing after them was trimmed or superseded away."""


@attrs.define
class StoredEvent:
    """One event as it lies in the log."""

    offset: int
    at_ms: int
    key: str | None
    record: bytes


@attrs.define
class LoadedChannel:
    """A channel's head and its newest events, ascending."""

    head: ChannelHead
    tail: list[StoredEvent]


@attrs.frozen
class LogQuery:
    """A slice of one channel's log: `after < offset <= upto`, ascending; or `offset < before` descending."""

    channel: ChannelName
    after: int = 0
    upto: int | None = None
    before: int | None = None
    reverse: bool = False
    limit: int = 1000
    max_bytes: int = 1_048_576


@attrs.define
class LogPage:
    """Answer to a `LogQuery`; shorter than asked when a limit was met (`is_complete` False)."""

    head: ChannelHead
    events: list[StoredEvent]
    is_complete: bool


class StoreHandle(Protocol):
    """The store actor, as others see it. Every call returns at once; `done` is called once, later, on the Trio thread.

    `done` gets a `SyncdError` when the store is unavailable, crashed in the middle, or full. It must not block.
    """

    def append(
        self,
        batch: list[AppendRequest],
        done: Callable[[list[AppendResult] | SyncdError], None],
    ) -> None:
        """Write all in one transaction; results in the order of the batch, after the commit."""

    def load(
        self,
        channel: ChannelName,
        tail_events: int,
        tail_bytes: int,
        done: Callable[[LoadedChannel | SyncdError], None],
    ) -> None:
        """Read a channel's head (created if new) and newest events."""

    def read(self, query: LogQuery, done: Callable[[LogPage | SyncdError], None]) -> None:
        """Read a slice of the log."""


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


# ------------------------------------------------------------------------------------------------ presence


@attrs.define(eq=False)
class Announce:
    """One client's state in one channel; None leaves. Authorised and bounded already."""

    session: SessionPort
    request_id: int | None
    """None: announced anew after a crash of the presence actor, nobody waits."""
    channel: ChannelName
    client: str
    state: bytes | None
    """Encoded msgpack."""


@attrs.define(eq=False)
class WatchPresence:
    """Send this session `presence_state` now and `presence_diff` from then on."""

    session: SessionPort
    channel: ChannelName


@attrs.define(eq=False)
class UnwatchPresence:
    """Stop sending this session the channel's presence."""

    session: SessionPort
    channel: ChannelName


@attrs.define(eq=False)
class SessionGone:
    """A session ended. Its members leave after the reconnect grace unless they come back."""

    session: SessionPort


@attrs.define(eq=False)
class QueryPresence:
    """Answer with the members of a channel, for HTTP: `[{member, user?, states: [{client, state}]}]`, states decoded."""

    channel: ChannelName
    done: Callable[[list[dict[str, Any]] | SyncdError], None]


PresenceCommand = Announce | WatchPresence | UnwatchPresence | SessionGone | QueryPresence


class PresenceHandle(Protocol):
    """The presence actor, as the gateway and HTTP see it."""

    def submit_nowait(self, commands: Sequence[PresenceCommand], size_bytes: int) -> None:
        """Hand over all or none; raises `MailboxFull` or `ActorStopped`."""

    async def submit(self, commands: Sequence[PresenceCommand], size_bytes: int) -> None:
        """Hand over, waiting for room."""
