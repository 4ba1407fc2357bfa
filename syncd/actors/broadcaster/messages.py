"""What the broadcaster's mailbox holds: commands of others and answers of the store."""

from __future__ import annotations

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports import BroadcasterCommand, PublishEvent, ReadHistory, Subscription
from syncd.ports_collections import DeliverCommitted, NarrowWatch, RenewChannel, WatchChannel
from syncd.ports_log import AppendResult, ChannelHead, LoadedChannel, LogPage
from syncd.ports_shared import CheckChannels, RemoteEvents, RemotePublications

__all__ = [
    "AppendsDone",
    "BroadcasterMessage",
    "ChannelRead",
    "ChannelsChecked",
    "GapRead",
    "HistoryRead",
    "PageRead",
    "WatchProbed",
]


@attrs.define(eq=False)
class AppendsDone:
    """The store committed (or not) durable events."""

    commands: list[PublishEvent]
    records: list[tuple[bytes, int]]
    """(record, at_ms) per command."""
    answer: list[AppendResult] | SyncdError
    since: float
    """When the oldest of the commands came, on Trio's clock."""


@attrs.define(eq=False)
class ChannelRead:
    """The store knows a channel's head and tail."""

    channel: ChannelName
    answer: LoadedChannel | SyncdError
    asked_by: object
    """Who asked: what was asked before a crash of ours may lack events that were told in it."""


@attrs.define(eq=False)
class PageRead:
    """A page of the log for a subscription that is catching up."""

    subscription: Subscription
    after: int
    answer: LogPage | SyncdError


@attrs.define(eq=False)
class HistoryRead:
    """A page of the log for a history request."""

    command: ReadHistory
    answer: LogPage | SyncdError


@attrs.define(eq=False)
class GapRead:
    """What the log has above a channel's top: an event came before its predecessors."""

    channel: ChannelName
    answer: LogPage | SyncdError


@attrs.define(eq=False)
class WatchProbed:
    """Whether the log has what a watch goes on from."""

    command: WatchChannel
    after: int
    answer: LogPage | SyncdError


@attrs.define(eq=False)
class ChannelsChecked:
    """Where the logs of some channels end, asked because events of other nodes may have been lost."""

    tops: dict[ChannelName, Position]
    """What we knew when we asked."""
    answer: list[ChannelHead] | SyncdError
    asked_by: object
    """Who asked: what was asked before a crash of ours is of no use."""


BroadcasterMessage = (
    BroadcasterCommand
    | WatchChannel
    | NarrowWatch
    | DeliverCommitted
    | RenewChannel
    | AppendsDone
    | ChannelRead
    | PageRead
    | HistoryRead
    | GapRead
    | WatchProbed
    | RemoteEvents
    | RemotePublications
    | CheckChannels
    | ChannelsChecked
)
