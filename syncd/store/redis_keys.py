"""Names of everything syncd keeps in Redis, and what it tells over pub/sub. Shared by the store, which publishes, and the bus.

All keys of one prefix carry one hash tag, `{prefix}`, so that they lie in one slot of a cluster and one script reaches them; the pub/sub
channels carry it too, so that a script may publish there with `SPUBLISH`. The Lua scripts in `store/lua` build the same names from the tag.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import attrs
import msgpack

from syncd.errors import ConfigError
from syncd.ids import ChannelName, Epoch

__all__ = [
    "DEFAULT_PREFIX",
    "BusEvent",
    "BusMessage",
    "RedisNames",
    "decode_message",
    "encode_message",
]

DEFAULT_PREFIX = "syncd"

_ALLOWED = frozenset(string.ascii_letters + string.digits + "-_.:")


@attrs.frozen
class RedisNames:
    """Names under one prefix. Two installations that share a Redis differ in it.

    Raises:
        ConfigError: the prefix is empty or has characters that a hash tag or a pattern of an ACL cannot have.
    """

    prefix: str = DEFAULT_PREFIX
    tag: str = attrs.field(init=False)
    """With its braces: what every name begins with."""

    def __attrs_post_init__(self) -> None:
        if not self.prefix or not _ALLOWED.issuperset(self.prefix):
            raise ConfigError(
                f"redis.prefix {self.prefix!r} may have letters, digits and -_.: only, and one at least."
            )
        object.__setattr__(self, "tag", "{" + self.prefix + "}")

    @property
    def meta(self) -> str:
        """The hash of what is known of the whole: secrets, era, notes of rooms. Handed to every script as its key."""
        return f"{self.tag}:meta"

    @property
    def bus_pattern(self) -> str:
        """Pattern of all pub/sub channels that the store publishes to."""
        return f"{self.tag}:b:*"

    def bus(self, channel: ChannelName) -> str:
        """Return the pub/sub channel where a channel's events are told."""
        return f"{self.tag}:b:{channel}"

    def channel_of(self, bus: str) -> ChannelName:
        """Return the channel that a name made by `bus` is of."""
        return ChannelName(bus[len(self.tag) + 3 :])


@attrs.define
class BusEvent:
    """One committed event, as told to the other nodes."""

    offset: int
    at_ms: int
    key: str | None
    record: bytes
    """As it lies in the log."""
    full: bytes | None = None
    """`EntryWrite.full`: record of the event with the whole value, when `record` tells a patch."""


@attrs.define
class BusMessage:
    """What one transaction wrote to one channel: consecutive offsets, ascending."""

    node: str
    """Who committed it, and hears of it by the commit itself."""
    epoch: Epoch
    events: Sequence[BusEvent]
    renewed_at: int = 0
    """All entries were replaced by others (the swap of a rebuild) as of this offset; then there are no events."""
    ended: Sequence[str] = ()
    """Keys whose shared load is over, whatever it brought, for whoever waits for it (`store.loads`); then there are no events."""


def encode_message(message: BusMessage) -> bytes:
    """Encode as scripts do: `[node, epoch, [[offset, at_ms, key, record, full], ...]]`, `[node, epoch, renewed_at]`, or `[node, epoch, {ended}]`."""
    events = [[e.offset, e.at_ms, e.key, e.record, e.full] for e in message.events]
    ended = {"ended": list(message.ended)} if message.ended else None
    told = message.renewed_at or ended or events
    encoded: bytes = msgpack.packb([message.node, message.epoch, told])
    return encoded


def decode_message(payload: bytes) -> BusMessage:
    """Decode what a commit told.

    Raises:
        ValueError: it is nothing that syncd has published.
    """
    try:
        node, epoch, events = msgpack.unpackb(payload)
        if type(events) is int:
            return BusMessage(node, Epoch(epoch), (), renewed_at=events)
        if type(events) is dict:
            return BusMessage(node, Epoch(epoch), (), ended=_keys(**events))
        return BusMessage(node, Epoch(epoch), [_event(*event) for event in events])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a message of syncd: {error}") from error


def _keys(ended: Any) -> list[str]:
    if not isinstance(ended, list) or not ended or not all(isinstance(key, str) for key in ended):
        raise ValueError("ended loads of another form")
    return ended


def _event(offset: Any, at_ms: Any, key: Any, record: Any, full: Any) -> BusEvent:
    is_event = (
        isinstance(offset, int)
        and isinstance(at_ms, int)
        and isinstance(key, str | None)
        and isinstance(record, bytes)
        and isinstance(full, bytes | None)
    )
    if not is_event:
        raise ValueError("an event of another form")
    return BusEvent(offset, at_ms, key, record, full)
