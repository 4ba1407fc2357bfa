"""What the client's core says: actions for the shell to perform and facts for the application to know."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from syncd.client.facts_state import ReadResult, RebuildJob, StateFact
from syncd.client.tables import ConnectionState
from syncd.ids import ChannelName, ClientId, Position

__all__ = [
    "Action",
    "AskToken",
    "Complaint",
    "Dial",
    "Event",
    "Fact",
    "Hangup",
    "HistoryPage",
    "Marked",
    "Member",
    "MemberState",
    "Output",
    "PresenceChanged",
    "Received",
    "RequestResult",
    "Reset",
    "ResetCause",
    "Send",
    "Settled",
    "StateChanged",
    "Subscribed",
    "SubscriptionEnded",
]

# ------------------------------------------------------------------------------------------------ actions


@attrs.frozen
class Dial:
    """Open a connection; answer with `connect_succeeded` and later `closed`, or with `closed` alone."""


@attrs.frozen
class Send:
    """Send one binary frame."""

    data: bytes


@attrs.frozen
class Hangup:
    """End the connection (or the attempt); answer with `closed`."""

    code: int
    reason: str


@attrs.frozen
class AskToken:
    """Get a token; answer with `token_supplied`, `token_missing` or `token_unavailable`."""


Action = Dial | Send | Hangup | AskToken

# ------------------------------------------------------------------------------------------------ facts


@attrs.frozen
class StateChanged:
    """The connection went from one state to another."""

    state: ConnectionState
    code: int | None = None
    """Close code that led here, if one did."""
    reason: str = ""


@attrs.frozen
class Event:
    """One event of a channel, as its publisher sent it."""

    channel: ChannelName
    data: Any
    name: str | None
    key: str | None
    position: Position | None
    """None on ephemeral channels."""
    by: ClientId | None
    """Client that published it; None for backends."""
    at_ms: int
    """Server wall clock; says nothing about order."""


@attrs.frozen
class Received:
    """An event for the application; the position was advanced before."""

    event: Event


@attrs.frozen
class Marked:
    """Everything up to here was received or superseded."""

    channel: ChannelName
    position: Position


@attrs.frozen
class Subscribed:
    """The server carries the subscription."""

    channel: ChannelName
    position: Position | None
    """Where the server stands; None on ephemeral channels."""
    was_recovering: bool
    """A position was given."""
    recovered: bool
    """Nothing was missed since that position."""


class ResetCause(enum.Enum):
    """Why the events between two positions cannot be had."""

    EPOCH_CHANGED = "epoch_changed"
    """The channel's history was lost or replaced."""
    OUT_OF_RETENTION = "out_of_retention"
    """The position is older than what the server keeps."""
    NOT_KEPT = "not_kept"
    """The channel keeps no history and the connection, or the application's attention, was away."""


@attrs.frozen
class Reset:
    """Events may have been missed: what was built from this channel must be fetched anew."""

    channel: ChannelName
    position: Position | None
    """Where the next event follows; None on ephemeral channels."""
    cause: ResetCause


@attrs.frozen
class SubscriptionEnded:
    """The subscription is over and will not come back by itself."""

    channel: ChannelName
    code: str
    """An error code or reason of `protocol/codes.toml`."""
    reason: str


@attrs.frozen
class MemberState:
    """What one client of a member announced."""

    client: ClientId
    state: Any


@attrs.frozen
class Member:
    """One user, or one anonymous client, present in a channel."""

    member: str
    user: str | None
    states: tuple[MemberState, ...]
    """One a client, in order of arrival."""


@attrs.frozen
class PresenceChanged:
    """The members of a channel, whole, in order of arrival."""

    channel: ChannelName
    members: tuple[Member, ...]


@attrs.frozen
class HistoryPage:
    """Answer to a history request."""

    events: tuple[Event, ...]
    position: Position | None
    """The channel's top."""


RequestResult = Position | HistoryPage | ReadResult | RebuildJob | None


@attrs.frozen
class Settled:
    """A request has its answer: a result, or an error."""

    request_id: int
    result: RequestResult
    error: Exception | None


@attrs.frozen
class Complaint:
    """The server reported an error that belongs to no request. For the log."""

    code: str
    message: str


Fact = (
    StateChanged
    | Received
    | Marked
    | Subscribed
    | Reset
    | SubscriptionEnded
    | PresenceChanged
    | Settled
    | Complaint
    | StateFact
)

Output = Action | Fact
