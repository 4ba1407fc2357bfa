"""What the cache-owner's mailbox holds: commands of others, answers of the store, and what its own tasks bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_collections import CacheOwnerCommand, WatchEntries
from syncd.ports_shared import CheckChannels, LoadsEnded, RemoteEvents, RenewEntries
from syncd.ports_state import LookedUp, MutationResult
from syncd.store.rebuilds import SwapGeneration

if TYPE_CHECKING:
    from syncd.actors.cache_owner.committing import Group
    from syncd.actors.cache_owner.gathering import Flight
    from syncd.actors.cache_owner.holdings import Holding
    from syncd.actors.cache_owner.paging import ScannedPage, Snapshot
    from syncd.model.recording import Place

__all__ = [
    "CacheOwnerMessage",
    "Call",
    "ChangeForwarded",
    "EntriesPaged",
    "GroupDone",
    "LoadDone",
    "SnapshotPage",
    "Turn",
    "WatchLost",
]


@attrs.define(eq=False)
class GroupDone:
    """The store has decided a group, or could not. Whoever waits for its outcomes is told already."""

    group: Group
    answer: list[MutationResult] | SyncdError


@attrs.define(eq=False)
class EntriesPaged:
    """The store has read entries of one channel."""

    channel: ChannelName
    flights: list[Flight]
    answer: LookedUp | SyncdError


@attrs.define(eq=False)
class LoadDone:
    """A loader has returned or failed."""

    flights: list[Flight]
    values: Mapping[Place, Any]
    """What it brought; a key that is not in it does not exist at the source."""
    error: SyncdError | None
    duration_s: float


@attrs.define(eq=False)
class SnapshotPage:
    """The store has read a page for a watch."""

    snapshot: Snapshot
    answer: ScannedPage | SyncdError


@attrs.define(eq=False)
class WatchLost:
    """What a watch wanted to go on from cannot be had: it needs a snapshot."""

    command: WatchEntries
    num_lost: int
    """How often, in a row."""


@attrs.define(eq=False)
class ChangeForwarded:
    """The application has acknowledged a change; without a place, there is room for another one to be told."""

    holding: Holding
    place: Place | None = None
    noted: int = 0
    """Which version was dirty here when the change was read."""
    change: Position | None = None
    """What the application was told; None: nothing, for somebody else had told it."""


@attrs.define(eq=False)
class Call:
    """Something to be done in the actor's turn."""

    work: Callable[[], None]
    life: int
    """Which start of the actor this belongs to; of before a crash it is not done."""


@attrs.define(eq=False)
class Turn:
    """Look again at what waits: time has passed."""


CacheOwnerMessage = (
    CacheOwnerCommand
    | GroupDone
    | EntriesPaged
    | LoadDone
    | SnapshotPage
    | WatchLost
    | ChangeForwarded
    | SwapGeneration
    | RemoteEvents
    | CheckChannels
    | RenewEntries
    | LoadsEnded
    | Call
    | Turn
)
