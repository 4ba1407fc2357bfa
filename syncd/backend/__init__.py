"""Publish and act from any Python program over plain HTTP: `Publisher` blocks, `AsyncPublisher` awaits.

Needs httpx alone and starts nothing in the background. How to use it: docs/python-client.md.
"""

from __future__ import annotations

from syncd.backend.calls import (
    ChannelInfo,
    History,
    Members,
    PresentMember,
    Publication,
    PublishedEvent,
)
from syncd.backend.calls_state import Entries, Entry, Mutated
from syncd.backend.errors import BackendError, MutationRejected, Refused, Unauthorized, Unreachable
from syncd.backend.publishers import AsyncPublisher, Publisher
from syncd.ids import Position

__all__ = [
    "AsyncPublisher",
    "BackendError",
    "ChannelInfo",
    "Entries",
    "Entry",
    "History",
    "Members",
    "Mutated",
    "MutationRejected",
    "Position",
    "PresentMember",
    "Publication",
    "PublishedEvent",
    "Publisher",
    "Refused",
    "Unauthorized",
    "Unreachable",
]
