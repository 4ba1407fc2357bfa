"""The Python client, for Trio: `async with open_client(url) as client`. How to use it: docs/python-client.md."""

from __future__ import annotations

from syncd.client.connection import ConnectionSettings
from syncd.client.errors import (
    ClientClosed,
    ClientError,
    ConnectionStopped,
    RequestFailed,
    SubscriptionClosed,
    Unauthorized,
)
from syncd.client.facts import (
    Event,
    HistoryPage,
    Member,
    MemberState,
    PresenceChanged,
    Reset,
    ResetCause,
    Subscribed,
)
from syncd.client.handles import Presence, Subscription
from syncd.client.opening import open_client
from syncd.client.shell import Client
from syncd.client.tables import ConnectionState
from syncd.ids import Position

__all__ = [
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectionSettings",
    "ConnectionState",
    "ConnectionStopped",
    "Event",
    "HistoryPage",
    "Member",
    "MemberState",
    "Position",
    "Presence",
    "PresenceChanged",
    "RequestFailed",
    "Reset",
    "ResetCause",
    "Subscribed",
    "Subscription",
    "SubscriptionClosed",
    "Unauthorized",
    "open_client",
]
