"""Messages about state: mutations, and entries of collections. As `wire.messages`, from which it takes its checks."""

from __future__ import annotations

import attrs

from syncd.ids import Position
from syncd.wire.fields import (
    MAX_INTEGER,
    MAX_KEYS,
    Body,
    bad_keys,
    optional_bool,
    optional_keys,
    optional_position,
    optional_text,
    positions_by_channel,
    rejected,
    text,
    uint,
)

__all__ = [
    "Have",
    "Mutate",
    "MutateAck",
    "Read",
    "Unwatch",
    "Watch",
    "parse_mutate",
    "parse_mutate_ack",
    "parse_read",
    "parse_unwatch",
    "parse_watch",
]

_SHORT_NAME = 40
"""Characters that are no more than a name's 160 bytes whatever they are."""


@attrs.define
class Mutate:
    """Change state, in the order of `mid`."""

    mid: int
    name: str
    args: object = None
    client: str | None = None


@attrs.define
class MutateAck:
    """Outcomes up to a mutation have arrived."""

    upto: int
    client: str | None = None


@attrs.define
class Have:
    """What a client has of some entries."""

    epoch: str
    versions: dict[str, int]


@attrs.define
class Watch:
    """Be told entries, and how they change from there."""

    id: int
    collection: str
    keys: list[str] | None = None
    all: bool = False
    partition: str | None = None
    have: Have | None = None
    position: Position | None = None
    after: dict[str, Position] = attrs.field(factory=dict)


@attrs.define
class Unwatch:
    """Stop being told."""

    id: int
    collection: str
    partition: str | None = None
    keys: list[str] | None = None


@attrs.define
class Read:
    """Be told entries once."""

    id: int
    collection: str
    keys: list[str]
    after: dict[str, Position] = attrs.field(factory=dict)


def parse_mutate(body: Body) -> Mutate:
    """Build a `Mutate`, or raise `RequestRejected(bad_request)`."""
    mid, name, client = body.get("mid"), body.get("name"), body.get("client")
    if client is not None:
        client = text(body, "client", 64)
    if type(mid) is not int or not 0 <= mid <= MAX_INTEGER:
        mid = uint(body, "mid")
    if type(name) is not str or len(name) > _SHORT_NAME:
        name = text(body, "name", 160)
    return Mutate(mid, name, body.get("args"), client)


def parse_mutate_ack(body: Body) -> MutateAck:
    """Build a `MutateAck`, or raise `RequestRejected(bad_request)`."""
    return MutateAck(uint(body, "upto"), optional_text(body, "client", 64))


def parse_watch(body: Body) -> Watch:
    """Build a `Watch`, or raise `RequestRejected(bad_request)`. Which entries are meant is checked where they are known."""
    return Watch(
        uint(body, "id"),
        text(body, "collection", 64),
        optional_keys(body, "keys"),
        optional_bool(body, "all"),
        optional_text(body, "partition", 128),
        _optional_have(body),
        optional_position(body, "position"),
        positions_by_channel(body, "after"),
    )


def parse_unwatch(body: Body) -> Unwatch:
    """Build an `Unwatch`, or raise `RequestRejected(bad_request)`."""
    return Unwatch(
        uint(body, "id"),
        text(body, "collection", 64),
        optional_text(body, "partition", 128),
        optional_keys(body, "keys"),
    )


def parse_read(body: Body) -> Read:
    """Build a `Read`, or raise `RequestRejected(bad_request)`."""
    keys = optional_keys(body, "keys")
    if keys is None:
        raise bad_keys("keys")
    return Read(
        uint(body, "id"),
        text(body, "collection", 64),
        keys,
        positions_by_channel(body, "after"),
    )


def _optional_have(body: Body) -> Have | None:
    have = body.get("have")
    if have is None:
        return None
    if type(have) is not dict:
        raise rejected("have", "a map {epoch, versions}")
    versions = have.get("versions")
    if type(versions) is not dict or len(versions) > MAX_KEYS:
        raise rejected("versions", f"a map of at most {MAX_KEYS} keys to versions")
    return Have(text(have, "epoch", 64), {key: uint(versions, key) for key in versions})
