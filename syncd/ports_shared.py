"""What a node hears of others that share its store, and whom it tells: plain messages, nothing here does anything.

With a store of its own a node has nobody to hear of, and none of this is in use. Facts go upward, from the bridge to the broadcaster and the
cache-owner, and may be lost; what was lost is named (`CheckChannels`), and looked up in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_collections import CommittedEvent
from syncd.ports_log import ChannelHead

__all__ = [
    "BridgeHandle",
    "CheckChannels",
    "EphemeralEvent",
    "InterestHandle",
    "LoadsEnded",
    "RemoteEvents",
    "RemotePublications",
    "RenewEntries",
]


@attrs.define(eq=False)
class RemoteEvents:
    """Events that other nodes committed, in the order in which each of them told us."""

    events: list[CommittedEvent]


@attrs.define(eq=False)
class EphemeralEvent:
    """A publication on a channel without positions, made on another node."""

    channel: ChannelName
    key: str | None
    record: bytes


@attrs.define(eq=False)
class RemotePublications:
    """What other nodes published on ephemeral channels. What is lost of it is lost, as the channel's mode says."""

    events: list[EphemeralEvent]


@attrs.define(eq=False)
class CheckChannels:
    """Events of other nodes may have been lost on the way: see in the store what there is.

    Sent after the subscription to these channels was confirmed, so that what comes later is heard of.
    """

    channels: Sequence[ChannelName] | None
    """None: all."""


@attrs.define(eq=False)
class RenewEntries:
    """All entries of a channel were replaced by another node (the swap of a rebuild), without an event for each."""

    channel: ChannelName


@attrs.define(eq=False)
class LoadsEnded:
    """Another node has ended loads that this one may wait for, whatever they brought. May be lost: then it is asked about after a while."""

    channel: ChannelName
    keys: Sequence[str]


class InterestHandle(Protocol):
    """Which channels a room of this node wants to hear of. Every call returns at once."""

    def enter(self, channel: ChannelName, *, is_ephemeral: bool = False) -> None:
        """Hear of a channel from soon on; a `CheckChannels` follows once that is so (not for ephemeral ones)."""

    def leave(self, channel: ChannelName) -> None:
        """Hear of it no more."""

    def leave_all(self) -> None:
        """Hear of nothing, as at the start."""


class BridgeHandle(Protocol):
    """The way to the other nodes, as the broadcaster sees it. Every call returns at once."""

    @property
    def interest(self) -> InterestHandle:
        """The broadcaster's."""

    def heads(
        self,
        known: Mapping[ChannelName, Position],
        done: Callable[[list[ChannelHead] | SyncdError], None],
    ) -> None:
        """Ask the store where the logs of some channels end, in their order.

        Args:
            known: What this node was told of each. A log that has less has lost events: it is given a new epoch before the answer.
            done: Called once, later; must not block.
        """

    def publish(self, channel: ChannelName, key: str | None, record: bytes) -> None:
        """Tell the other nodes of a publication on an ephemeral channel; lost, and counted, when the way is closed."""
