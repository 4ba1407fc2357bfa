"""What every store promises to loads that all nodes share: of a key one node asks the source, the others take what it brings.

Used between transactions, as rebuilds are; each method is one transaction. A claim ends when it is finished, when it was not renewed in time
(so the keys of a node that died are free soon, however long a load may take), or as soon as its channel is told an invalidation that does not name other keys, or the swap of a rebuild.

Invariant (DESIGN 5.9): what is `LOADED` was asked of the source after the last invalidation of it that is in the log at that position.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import attrs

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_state import Entry, KeyName, TaggedKey

__all__ = ["AloneLoads", "ClaimState", "FinishedLoad", "LoadClaim", "LoadClaims"]

LOADED_S = 3600.0
"""For so long at most it is remembered that a key was loaded; what is fresh for longer may be loaded once more then."""


class ClaimState(enum.IntEnum):
    """What became of a wish to load a key. The numbers are those of `loads.lua`."""

    FREE = 0
    """Nobody loads it, and no more were granted."""
    GRANTED = 1
    HELD = 2
    """Another node loads it."""
    LOADED = 3
    """A node has loaded it, and it is fresh still."""


@attrs.define
class LoadClaim:
    """The answer for one key."""

    state: ClaimState
    position: Position
    """Of its channel, when this was so."""
    fresh_s: float | None = 0.0
    """`LOADED`: for how long it is still fresh; None: until it is invalidated."""
    entry: Entry | None = None
    """`LOADED`: as it is in the store; None: there is none."""


@attrs.define
class FinishedLoad:
    """What came of a claim that was granted."""

    place: TaggedKey
    fresh_s: float | None
    """What was loaded is in the store, and fresh for so long; None: until it is invalidated; 0: nothing was loaded."""


class LoadClaims(Protocol):
    """Part of a store. Raises of each: as `Store.commit`, and nothing is changed then."""

    def claim(
        self, places: Sequence[TaggedKey], holder: str, lease_s: float, max_granted: int
    ) -> list[LoadClaim]:
        """Ask for keys to be loaded; those granted are the holder's for so long. What it holds already is granted again.

        A store that nobody else has open grants what it may.
        """

    def renew(self, holder: str, places: Sequence[TaggedKey], lease_s: float) -> None:
        """Hold these for so long from now; those that are not the holder's any more stay as they are. One operation for all."""

    def finish(self, holder: str, loads: Sequence[FinishedLoad]) -> None:
        """Say what came of claims; those that are not the holder's any more stay as they are.

        Where nodes have a bus, those that were told `HELD` of a key are told so (`LoadsEnded`).
        """


class AloneLoads:
    """`LoadClaims` of a store that nobody else has open."""

    def claim(
        self, places: Sequence[TaggedKey], _holder: str, _lease_s: float, max_granted: int
    ) -> list[LoadClaim]:
        """See `LoadClaims.claim`."""
        nowhere = Position(Epoch(""), 0)
        granted = [LoadClaim(ClaimState.GRANTED, nowhere) for _ in places[:max_granted]]
        return granted + [LoadClaim(ClaimState.FREE, nowhere) for _ in places[max_granted:]]

    def renew(self, _holder: str, _places: Sequence[TaggedKey], _lease_s: float) -> None:
        """See `LoadClaims.renew`."""

    def finish(self, _holder: str, _loads: Sequence[FinishedLoad]) -> None:
        """See `LoadClaims.finish`."""


def by_channel(places: Sequence[TaggedKey]) -> dict[ChannelName, list[tuple[int, KeyName]]]:
    """Return keys by channel, each with its place in the list."""
    found: dict[ChannelName, list[tuple[int, KeyName]]] = {}
    for index, (channel, key) in enumerate(places):
        found.setdefault(channel, []).append((index, key))
    return found
