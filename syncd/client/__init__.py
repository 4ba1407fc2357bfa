"""The Python client, for Trio: `async with open_client(url) as client`. How to use it: docs/python-client.md."""

from __future__ import annotations

from syncd.client.collection import Collection, CollectionView, Mutation, ViewChange
from syncd.client.connection import ConnectionSettings
from syncd.client.errors import (
    ClientClosed,
    ClientError,
    ConnectionStopped,
    MutationRejected,
    MutationUnknown,
    MutationUnsent,
    QueueFull,
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
from syncd.client.facts_state import (
    EntryRead,
    Invalidated,
    MutationOutcome,
    ReadResult,
    RebuildJob,
)
from syncd.client.handles import Presence, Subscription
from syncd.client.local_tx import LocalTx
from syncd.client.opening import open_client
from syncd.client.rebuilds import Progress
from syncd.client.shell import Client
from syncd.client.tables import ConnectionState
from syncd.ids import Position

__all__ = [
    "Client",
    "ClientClosed",
    "ClientError",
    "Collection",
    "CollectionView",
    "ConnectionSettings",
    "ConnectionState",
    "ConnectionStopped",
    "EntryRead",
    "Event",
    "HistoryPage",
    "Invalidated",
    "LocalTx",
    "Member",
    "MemberState",
    "Mutation",
    "MutationOutcome",
    "MutationRejected",
    "MutationUnknown",
    "MutationUnsent",
    "Position",
    "Presence",
    "PresenceChanged",
    "Progress",
    "QueueFull",
    "ReadResult",
    "RebuildJob",
    "RequestFailed",
    "Reset",
    "ResetCause",
    "Subscribed",
    "Subscription",
    "SubscriptionClosed",
    "Unauthorized",
    "ViewChange",
    "open_client",
]
