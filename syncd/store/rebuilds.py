"""What every store promises to rebuilds: a lease with a fencing token, a new generation beside the old, and its swap.

Used by the store's caller, between transactions: each method is one of its own. A generation is *open* from `acquire` until `swap` or `drop`;
while it is, every change of an entry of its collection marks that key as touched, in the transaction of the change.

Invariant (REBUILD): a touched key, or one that was dirty when the generation was opened, is never overwritten or deleted by the swap,
whatever was scanned; rows of a generation reach entries in the swap's transaction alone, all or none; a method called with a token that is
not the newest writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Position
from syncd.ports_state import EntryWrite, KeyName, TaggedKey
from syncd.store.loads import LoadClaims

__all__ = [
    "RebuildLease",
    "RebuildStanding",
    "RebuildStore",
    "ScannedRow",
    "SwapGeneration",
    "SwapPlan",
    "Swapped",
    "collection_of",
]


@attrs.frozen
class RebuildLease:
    """The right to rebuild one collection, and where its generation stands."""

    collection: str
    job: str
    token: int
    """Ascending for ever, per collection."""
    after: str | None
    """Last key of the last page written; None: none yet."""
    done: int
    """Rows written so far."""


@attrs.frozen
class RebuildStanding:
    """Who rebuilds a collection, or did last, as all nodes that share the store see it."""

    collection: str
    job: str
    token: int
    """Of the last lease; one more once it was revoked."""
    is_open: bool
    """Its generation is there: held, left by its holder, or kept to be resumed."""
    is_held: bool
    """The lease runs."""
    is_abandoned: bool
    """The lease ran out, its generation is open, and the holder gave neither back."""
    done: int
    note: bytes
    """As of the lease."""


@attrs.define
class ScannedRow:
    """One entry as the source has it."""

    channel: ChannelName
    key: KeyName
    value: bytes
    """Encoded."""
    tags: tuple[str, ...] = ()


@attrs.frozen
class SwapPlan:
    """How a generation takes the place of the old one."""

    at_ms: int
    deletes_missing: bool
    """Entries that were not scanned are deleted."""
    max_events: int
    """With more changes each changed channel is told one event, and its log before that is cut off."""
    entry_record: Callable[[KeyName, bytes | None], bytes]
    """Record of the event that tells one change."""
    whole_record: bytes
    """Record of the one event."""
    among: Sequence[TaggedKey] | None = None
    """Only of these is one deleted that was not scanned; None: of all of the collection."""


@attrs.define
class Swapped:
    """What a swap has changed."""

    num_changed: int
    positions: Mapping[ChannelName, Position]
    """Where it is visible, for each channel that was changed."""
    writes: Sequence[EntryWrite] = ()
    """Each change, if each has an event; with `versions`."""
    versions: Sequence[int] = ()


@attrs.define(eq=False)
class SwapGeneration:
    """Asks the cache-owner to have a generation swapped in, and to tell everybody. `done` never waits."""

    lease: RebuildLease
    deletes_missing: bool
    was_invalidated: bool
    """Something of the collection may have changed at its source while it was scanned: what was scanned is not fresh."""
    done: Callable[[Swapped | SyncdError | None], None]
    """None: the lease is lost, nothing has changed."""
    among: Sequence[TaggedKey] | None = None
    """See `SwapPlan`."""


class RebuildStore(Protocol):
    """Part of a store. Raises of each: as `Store.commit`, and nothing is changed then."""

    @property
    def loads(self) -> LoadClaims:
        """Leases of another kind, which are asked for in the same way."""

    def acquire(
        self,
        collection: str,
        job: str,
        now_ms: int,
        *,
        lease_ms: int,
        resumes: bool,
        fills: bool,
        is_partial: bool = False,
        note: bytes = b"",
        takes_over: int | None = None,
    ) -> RebuildLease | str | None:
        """Take a collection's lease, with a new token; opens a new generation, or goes on with the open one if `resumes`.

        Args:
            fills: Entries that are there already are left alone: only keys never seen are filled in.
            is_partial: The generation will hold some of the collection only: it is never resumed.
            note: What whoever takes the job over is to know of it; see `standings`.
            takes_over: Only if the lease of this token is abandoned (`RebuildStanding`); else None.

        Returns:
            The lease, or the job that holds it until it expires, or None: `job` itself was the last one, and has ended. After its crash it
            goes on with its generation.
        """

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """Hold the lease for longer; False: it is another's, or was released."""

    def write_page(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, done: int
    ) -> bool:
        """Add rows to the generation and move its checkpoint; False: the token is stale, nothing was written."""

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """Do for about `budget_s` what `swap` would have to do else, once the last page is written; readers see nothing of it.

        Called until it has nothing more to do, or not at all: `swap` does what is left. Then no page follows under this lease, and
        the plan of the swap is this one, but for its time and records. Changes made meanwhile win, as ever.

        Returns:
            Whether there is more to do; None: the token is stale, nothing was written.
        """

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """Make the generation the entries, and release the lease; None: the token is stale, nothing was written."""

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """Give the lease back; the generation stays open to be resumed, or is dropped. False: the token is stale."""

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """Take a plain lease, or keep it, for `lease_ms` from now; 0 gives it back. False: it is another's until that expires.

        A store that nobody else has open need keep none of it.
        """

    def revoke(self, collection: str, job: str) -> bool:
        """Take the lease from whoever does this job, and drop its generation; False: its generation is not open any more."""

    def standings(self, collections: Sequence[str], now_ms: int) -> list[RebuildStanding]:
        """Return how the rebuilds of these collections stand, those that ever had one. A store that nobody else has open returns none."""

    def checkpoint(self, collection: str) -> tuple[str, int] | None:
        """Return the job of the open generation and its rows so far; None: there is none to resume."""


def collection_of(channel: str) -> str:
    """Return the collection that a channel belongs to."""
    return channel.partition("/")[0]
