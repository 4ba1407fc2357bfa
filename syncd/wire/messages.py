"""Messages of subprotocol `syncd.v1` as the server sees them.

Client messages are attrs `define` classes built by `parse_*` from a decoded body (hot path: `frozen` costs three
times as much). Server messages are written by `wire.encode`; they have no classes because nothing keeps them.
`protocol/messages.toml` is the source; a house test compares fields, types and limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName, Epoch, Position

__all__ = [
    "CLIENT_MESSAGES",
    "Auth",
    "ClientClaim",
    "ClientMessage",
    "Hello",
    "History",
    "Pong",
    "Presence",
    "Probe",
    "Publish",
    "Subscribe",
    "Unsubscribe",
]

MAX_INTEGER = 2**53 - 1
"""Largest integer JavaScript reads exactly."""

_Body = dict[str, Any]


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


ClientMessage = Hello | Auth | Subscribe | Unsubscribe | Publish | Presence | History | Probe | Pong


def _rejected(field: str, want: str) -> RequestRejected:
    return RequestRejected(ErrorCode.BAD_REQUEST, f"Field {field!r} must be {want}.")


def _uint(body: _Body, field: str, maximum: int = MAX_INTEGER) -> int:
    value = body.get(field)
    if type(value) is not int or not 0 <= value <= maximum:
        raise _rejected(field, f"an integer from 0 to {maximum}")
    return value


def _optional_uint(body: _Body, field: str) -> int | None:
    return None if body.get(field) is None else _uint(body, field)


def _text(body: _Body, field: str, max_bytes: int) -> str:
    value = body.get(field)
    if type(value) is not str or _is_longer(value, max_bytes):
        raise _rejected(field, f"a string of at most {max_bytes} bytes")
    return value


def _optional_text(body: _Body, field: str, max_bytes: int) -> str | None:
    value = body.get(field)
    if value is None:
        return None
    if type(value) is not str or _is_longer(value, max_bytes):
        raise _rejected(field, f"a string of at most {max_bytes} bytes or nil")
    return value


def _is_longer(value: str, max_bytes: int) -> bool:
    if len(value) * 4 <= max_bytes:
        return False
    return len(value) > max_bytes or (not value.isascii() and len(value.encode()) > max_bytes)


def _optional_bool(body: _Body, field: str) -> bool:
    value = body.get(field)
    if value is None:
        return False
    if type(value) is not bool:
        raise _rejected(field, "true, false or nil")
    return value


def _position(value: object, field: str) -> Position:
    if type(value) is not dict:
        raise _rejected(field, "a map {epoch, offset}")
    return Position(Epoch(_text(value, "epoch", 64)), _uint(value, "offset"))


def _optional_position(body: _Body, field: str) -> Position | None:
    value = body.get(field)
    return None if value is None else _position(value, field)


def _channel(body: _Body) -> ChannelName:
    """Return the channel field as text; its form is checked where grants are looked up."""
    value = body.get("channel")
    if type(value) is not str or len(value) > 255:
        raise _rejected("channel", "a string of at most 255 bytes")
    return ChannelName(value)


def parse_hello(body: _Body) -> Hello:
    """Build a `Hello`, or raise `RequestRejected(bad_request)`."""
    claims = body.get("clients")
    if claims is None:
        claims = []
    if type(claims) is not list or len(claims) > 64:
        raise _rejected("clients", "a list of at most 64 items")
    after = body.get("after")
    if after is None:
        after = {}
    if type(after) is not dict:
        raise _rejected("after", "a map of channel to position")
    return Hello(
        v=_uint(body, "v"),
        token=_optional_text(body, "token", 4096),
        group=_optional_text(body, "group", 64),
        term=_optional_uint(body, "term"),
        clients=[_claim(item) for item in claims],
        after={name: _position(value, "after") for name, value in after.items()},
    )


def _claim(item: object) -> ClientClaim:
    if type(item) is not dict:
        raise _rejected("clients", "a list of maps {client, secret}")
    return ClientClaim(_text(item, "client", 64), _text(item, "secret", 128))


def parse_auth(body: _Body) -> Auth:
    """Build an `Auth`, or raise `RequestRejected(bad_request)`."""
    return Auth(_uint(body, "id"), _text(body, "token", 4096))


def parse_subscribe(body: _Body) -> Subscribe:
    """Build a `Subscribe`, or raise `RequestRejected(bad_request)`."""
    return Subscribe(
        _uint(body, "id"),
        _channel(body),
        _optional_position(body, "position"),
        _optional_bool(body, "presence"),
    )


def parse_unsubscribe(body: _Body) -> Unsubscribe:
    """Build an `Unsubscribe`, or raise `RequestRejected(bad_request)`."""
    return Unsubscribe(_uint(body, "id"), _channel(body))


def parse_publish(body: _Body) -> Publish:
    """Build a `Publish`, or raise `RequestRejected(bad_request)`."""
    if "data" not in body:
        raise _rejected("data", "present (nil is allowed)")
    get = body.get
    return Publish(
        _uint(body, "id"),
        _channel(body),
        body["data"],
        None if get("name") is None else _text(body, "name", 128),
        None if get("key") is None else _text(body, "key", 255),
        None if get("uid") is None else _text(body, "uid", 128),
    )


def parse_presence(body: _Body) -> Presence:
    """Build a `Presence`, or raise `RequestRejected(bad_request)`."""
    return Presence(
        _uint(body, "id"),
        _channel(body),
        body.get("state"),
        _optional_text(body, "client", 64),
    )


def parse_history(body: _Body) -> History:
    """Build a `History`, or raise `RequestRejected(bad_request)`."""
    return History(
        _uint(body, "id"),
        _channel(body),
        _uint(body, "limit", 1000),
        _optional_position(body, "since"),
        _optional_bool(body, "reverse"),
    )


def parse_probe(body: _Body) -> Probe:
    """Build a `Probe`, or raise `RequestRejected(bad_request)`."""
    return Probe(_uint(body, "nonce"))


def parse_pong(_body: _Body) -> Pong:
    """Build a `Pong`."""
    return Pong()


CLIENT_MESSAGES: dict[str, Callable[[_Body], ClientMessage]] = {
    "hello": parse_hello,
    "auth": parse_auth,
    "subscribe": parse_subscribe,
    "unsubscribe": parse_unsubscribe,
    "publish": parse_publish,
    "presence": parse_presence,
    "history": parse_history,
    "probe": parse_probe,
    "pong": parse_pong,
}
"""Message type to the function that builds it."""
