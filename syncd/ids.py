"""Identifiers and positions, the smallest words everybody shares."""

from __future__ import annotations

from typing import NewType

import attrs

__all__ = ["ChannelName", "ClientId", "Epoch", "Position", "SessionId"]

ChannelName = NewType("ChannelName", str)
"""`namespace:name`, ASCII, at most 255 bytes (rules in `wire.channels`)."""

Epoch = NewType("Epoch", str)
"""One incarnation of a channel's log: 16 hex digits, random; never compared by order."""

SessionId = NewType("SessionId", str)
"""One connection of this node, as told in `welcome`."""

ClientId = NewType("ClientId", str)
"""One tab or device, over many sessions."""


@attrs.frozen
class Position:
    """A place in a channel's log: everything up to and with `offset` of `epoch`."""

    epoch: Epoch
    offset: int
