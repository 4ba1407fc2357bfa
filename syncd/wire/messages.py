"""Messages of subprotocol `syncd.v1` as the server sees them.

Client messages are attrs `define` classes built by `parse_*` from a decoded body (hot path: `frozen` costs three
times as much). Server messages are written by `wire.encode`; they have no classes because nothing keeps them.
`protocol/messages.toml` is the source; a house test compares fields, types and limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import attrs
import msgspec

from syncd.ids import ChannelName, Position
from syncd.wire.fields import (
    MAX_INTEGER,
    Body,
    optional_bool,
    optional_position,
    optional_text,
    optional_uint,
    positions_by_channel,
    rejected,
    text,
    uint,
)
from syncd.wire.messages_rebuild import (
    Rebuild,
    RebuildCancel,
    parse_rebuild,
    parse_rebuild_cancel,
)
from syncd.wire.messages_state import (
    Mutate,
    MutateAck,
    Read,
    Unwatch,
    Watch,
    parse_mutate,
    parse_mutate_ack,
    parse_read,
    parse_unwatch,
    parse_watch,
)

__all__ = [
    "CLIENT_MESSAGES",
    "MAX_INTEGER",
    "Auth",
    "ClientClaim",
    "ClientMessage",
    "EncodedPublish",
    "Hello",
    "History",
    "Mutate",
    "MutateAck",
    "Pong",
    "Presence",
    "Probe",
    "Publish",
    "Read",
    "Rebuild",
    "RebuildCancel",
    "Subscribe",
    "Unsubscribe",
    "Unwatch",
    "Watch",
]


@attrs.define
class ClientClaim:
    """A client id of an earlier session and the secret that proves it."""

    client: str
    secret: str


@attrs.define
class Hello:
    """First message of every session."""

    v: int
    token: str | None = None
    group: str | None = None
    term: int | None = None
    clients: list[ClientClaim] = attrs.field(factory=list)
    after: dict[str, Position] = attrs.field(factory=dict)


@attrs.define
class Auth:
    """Replace the token of a running session."""

    id: int
    token: str


@attrs.define
class Subscribe:
    """Receive a channel's events, from `position` if given."""

    id: int
    channel: ChannelName
    position: Position | None = None
    presence: bool = False


@attrs.define
class Unsubscribe:
    """Stop receiving a channel's events."""

    id: int
    channel: ChannelName


@attrs.define
class Publish:
    """Append an event to a channel."""

    id: int
    channel: ChannelName
    data: object
    name: str | None = None
    key: str | None = None
    uid: str | None = None


class EncodedPublish(msgspec.Struct, gc=False):
    """A `Publish` in its commonest form, read by the codec's hot lane with `data` left as it is.

    The limits of the texts are such that they hold in bytes whatever the characters are; longer ones take the long way.
    """

    id: Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
    channel: Annotated[str, msgspec.Meta(max_length=255)]
    data: msgspec.Raw
    """Encoded msgpack."""
    name: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    key: Annotated[str, msgspec.Meta(max_length=63)] | None = None
    uid: Annotated[str, msgspec.Meta(max_length=32)] | None = None


@attrs.define
class Presence:
    """Announce a client's state in a channel; `None` leaves."""

    id: int
    channel: ChannelName
    state: object = None
    client: str | None = None


@attrs.define
class History:
    """Read events of the past."""

    id: int
    channel: ChannelName
    limit: int
    since: Position | None = None
    reverse: bool = False


@attrs.define
class Probe:
    """Ask for a pong now."""

    nonce: int


@attrs.define
class Pong:
    """Answer to a ping."""

    applied_age_ms: int | None = None
    """How old the last event was when the client had applied it, if one came since the last pong."""


ClientMessage = (
    Hello
    | Auth
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | History
    | Mutate
    | MutateAck
    | Watch
    | Unwatch
    | Read
    | Rebuild
    | RebuildCancel
    | Probe
    | Pong
)


def _channel(body: Body) -> ChannelName:
    """Return the channel field as text; its form is checked where grants are looked up."""
    value = body.get("channel")
    if type(value) is not str or len(value) > 255:
        raise rejected("channel", "a string of at most 255 bytes")
    return ChannelName(value)


def parse_hello(body: Body) -> Hello:
    """Build a `Hello`, or raise `RequestRejected(bad_request)`."""
    claims = body.get("clients")
    if claims is None:
        claims = []
    if type(claims) is not list or len(claims) > 64:
        raise rejected("clients", "a list of at most 64 items")
    return Hello(
        v=uint(body, "v"),
        token=optional_text(body, "token", 4096),
        group=optional_text(body, "group", 64),
        term=optional_uint(body, "term"),
        clients=[_claim(item) for item in claims],
        after=positions_by_channel(body, "after"),
    )


def _claim(item: object) -> ClientClaim:
    if type(item) is not dict:
        raise rejected("clients", "a list of maps {client, secret}")
    return ClientClaim(text(item, "client", 64), text(item, "secret", 128))


def parse_auth(body: Body) -> Auth:
    """Build an `Auth`, or raise `RequestRejected(bad_request)`."""
    return Auth(uint(body, "id"), text(body, "token", 4096))


def parse_subscribe(body: Body) -> Subscribe:
    """Build a `Subscribe`, or raise `RequestRejected(bad_request)`."""
    return Subscribe(
        uint(body, "id"),
        _channel(body),
        optional_position(body, "position"),
        optional_bool(body, "presence"),
    )


def parse_unsubscribe(body: Body) -> Unsubscribe:
    """Build an `Unsubscribe`, or raise `RequestRejected(bad_request)`."""
    return Unsubscribe(uint(body, "id"), _channel(body))


def parse_publish(body: Body) -> Publish:
    """Build a `Publish`, or raise `RequestRejected(bad_request)`."""
    if "data" not in body:
        raise rejected("data", "present (nil is allowed)")
    get = body.get
    return Publish(
        uint(body, "id"),
        _channel(body),
        body["data"],
        None if get("name") is None else text(body, "name", 128),
        None if get("key") is None else text(body, "key", 255),
        None if get("uid") is None else text(body, "uid", 128),
    )


def parse_presence(body: Body) -> Presence:
    """Build a `Presence`, or raise `RequestRejected(bad_request)`."""
    return Presence(
        uint(body, "id"),
        _channel(body),
        body.get("state"),
        optional_text(body, "client", 64),
    )


def parse_history(body: Body) -> History:
    """Build a `History`, or raise `RequestRejected(bad_request)`."""
    return History(
        uint(body, "id"),
        _channel(body),
        uint(body, "limit", 1000),
        optional_position(body, "since"),
        optional_bool(body, "reverse"),
    )


def parse_probe(body: Body) -> Probe:
    """Build a `Probe`, or raise `RequestRejected(bad_request)`."""
    return Probe(uint(body, "nonce"))


def parse_pong(body: Body) -> Pong:
    """Build a `Pong`, or raise `RequestRejected(bad_request)`."""
    return Pong(optional_uint(body, "applied_age_ms"))


CLIENT_MESSAGES: dict[str, Callable[[Body], ClientMessage]] = {
    "hello": parse_hello,
    "auth": parse_auth,
    "subscribe": parse_subscribe,
    "unsubscribe": parse_unsubscribe,
    "publish": parse_publish,
    "presence": parse_presence,
    "history": parse_history,
    "mutate": parse_mutate,
    "mutate_ack": parse_mutate_ack,
    "watch": parse_watch,
    "unwatch": parse_unwatch,
    "read": parse_read,
    "rebuild": parse_rebuild,
    "rebuild_cancel": parse_rebuild_cancel,
    "probe": parse_probe,
    "pong": parse_pong,
}
"""Message type to the function that builds it."""
