"""What requests for entries wait with, and what brings an entry: data, owned by `Fetching`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from syncd.actors.cache_owner.holdings import Holding
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.model.collection_memory import CachedEntry
from syncd.model.recording import Place
from syncd.ports_collections import EntryState
from syncd.ports_state import KeyName

__all__ = ["Flight", "Gathering"]


@attrs.define(eq=False)
class Gathering:
    """Entries that one request waits for."""

    channel: ChannelName
    keys: Sequence[KeyName]
    done: Callable[[list[EntryState], Position], None]
    failed: Callable[[SyncdError], None]
    client: str | None = None
    """Whose own changes may not be served stale."""
    needs_fresh: bool = False
    """For a mutator: nothing stale will do, and the entries are kept for it (`Holdings.borrowed`)."""
    found: dict[KeyName, EntryState] = attrs.field(factory=dict)
    has_waited: bool = False
    """Something had to be brought: what was found before may be another one now."""
    position: Position | None = None
    """The oldest position that anything found is as of."""
    is_torn: bool = False
    """What was found is of two lives of the channel: the log was lost while the last of it was on its way."""
    num_missing: int = 0
    is_over: bool = False

    def begin_again(self) -> None:
        """Forget what was found."""
        self.found.clear()
        self.position = None
        self.is_torn = False


@attrs.define(eq=False)
class Flight:
    """One key on its way."""

    place: Place
    holding: Holding
    waiters: list[Gathering] = attrs.field(factory=list)
    known: CachedEntry | None = None
    """What is kept of it now, if that is known."""
    is_paged: bool = False
    """The store was asked."""
    is_loading: bool = False
    is_outdated: bool = False
    is_changed: bool = False
    """Its entry is another one now than `known` says, which the source says nothing of."""
    num_reruns: int = 0
    num_watching: int = 0
    """Who would be told a change, if that is what it is for."""
