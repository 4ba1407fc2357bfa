"""What the state side (collections and mutations) asks of a store: plain messages, nothing here does anything.

A mutation is `(client, mid, name, args)`. Whoever runs its mutator decides reads, writes and outcome; the store only decides whether that
decision still stands, and makes it durable in one transaction with its events (DESIGN 5.3, promises ONCE and DURABLE).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NewType, Protocol, TypeVar

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import (
    Appended,
    AppendRequest,
    ChannelHead,
    IdempotencyKey,
    LoadedChannel,
    LogPage,
    LogQuery,
)

__all__ = [
    "Committed",
    "Conflict",
    "DirtyKey",
    "Entry",
    "EntryPage",
    "EntryRead",
    "EntryWrite",
    "KeyName",
    "KnownOutcome",
    "LookedUp",
    "MutationCommit",
    "MutationResult",
    "OutOfOrder",
    "StateReader",
    "StateStoreHandle",
    "TaggedKey",
]

T = TypeVar("T")

KeyName = NewType("KeyName", str)
"""Key of an entry, unique in its channel; with partitions `<partition>/<id>`."""


@attrs.define
class Entry:
    """One entry as the store has it."""

    key: KeyName
    version: int
    """Offset of its last change in the collection's channel; monotonic over deletions, scoped by epoch."""
    value: bytes
    """Encoded msgpack, kept as it was written."""
    tags: tuple[str, ...] = ()


@attrs.define
class EntryRead:
    """What a mutator saw: the commit stands only if this is still so."""

    channel: ChannelName
    key: KeyName
    version: int
    """0: there was no entry."""
    written_by: int | None = None
    """It saw what the mutation with this index in the group writes, before there was a version (`version` is -1, which no entry
    has): still so if that one was `Committed` now and the entry has the version it got."""
    unless_dirty: bool = False
    """What is to be written comes from the source: it does not stand while the source has not heard of a change (DESIGN 5.9), whichever
    node committed that."""


@attrs.define(eq=False)
class EntryWrite:
    """One change of one entry, and the event that tells it."""

    channel: ChannelName
    """Collection, or `<collection>/<partition>`: where the entry lives and its event goes."""
    key: KeyName
    value: bytes | None
    """Encoded msgpack; None deletes."""
    record: bytes
    """Of the event, as `wire.encode.event_record` makes it; its offset becomes the entry's version."""
    tags: tuple[str, ...] = ()
    is_forwarded: bool = False
    """The application has to hear of it (`on_commit`): with this change the key becomes dirty, at the version it gets, deletions
    too; an older dirty version of the key is forgotten. A write without it leaves a dirty key as it is."""
    full: bytes | None = None
    """Record of the event with the whole value, when `record` tells a patch. Not stored: for sessions that skip its base."""


@attrs.define(eq=False)
class MutationCommit:
    """One mutation, decided. A rejection has no writes and advances `last_mid` all the same."""

    client: str | None
    """None: in nobody's numbering (`mid` is 0); no client is made or advanced, and the outcome is kept under `idempotency` or not
    at all."""
    mid: int
    reads: list[EntryRead]
    writes: list[EntryWrite]
    outcome: bytes
    """Encoded outcome without positions; answered again whenever the mutation is resent."""
    at_ms: int
    events: list[AppendRequest] = attrs.field(factory=list)
    """Events that change no entry (`tx.publish`, invalidations): appended after the writes, or not at all. Their `idempotency` is
    not looked at, the mutation itself happens once."""
    idempotency: IdempotencyKey | None = None
    """What makes a mutation without a client happen once; not looked at for others, whose `mid` does. Known with the same hash:
    `KnownOutcome`; with another: the `idempotency_mismatch` is its result; else kept with its outcome once it is `Committed`.
    A namespace apart from that of `AppendRequest`."""
    epochs: dict[ChannelName, Epoch] = attrs.field(factory=dict)
    """Where others share the store: epoch of each channel read, for versions compare only within one. Nothing read in another epoch
    than the channel has now is still so. A channel that is not named is not looked at."""
    era: str = ""
    """Where others share the store: its life in which the session was told where its client's numbers stand. In another life they
    may stand for other mutations: the answer is `OutOfOrder`, which expects 0. Empty: not looked at."""


@attrs.define
class Committed:
    """The mutation took effect (or was rejected, with its outcome stored): once and for all."""

    versions: list[int]
    """One per write, in order."""
    positions: dict[ChannelName, Position]
    """Where its effect is visible, per channel that got an event."""
    appended: list[Appended] = attrs.field(factory=list)
    """One per entry of `MutationCommit.events`, in order."""


@attrs.define
class KnownOutcome:
    """`mid <= last`, or its idempotency key is known: it was decided before and is not decided again."""

    outcome: bytes | None
    """None: past retention, or acknowledged by the client."""
    positions: dict[ChannelName, Position]


@attrs.define
class OutOfOrder:
    """`mid > last + 1`: the client has to send `expect` first. Nothing was written."""

    expect: int


@attrs.define
class Conflict:
    """A read is not true any more: run the mutator again. Nothing was written, `last` did not advance."""

    read: EntryRead
    is_dirty: bool = False
    """The version is still so, but the entry is dirty (`EntryRead.unless_dirty`)."""


MutationResult = Committed | KnownOutcome | OutOfOrder | Conflict | SyncdError
"""One per mutation of a group, in order; each sees the effects of those before it. The error (`idempotency_mismatch`) concerns that
mutation alone, nothing of it was written."""


@attrs.define
class EntryPage:
    """A slice of a channel's entries in key order, as of one position."""

    position: Position
    entries: list[Entry]
    is_complete: bool


@attrs.define
class LookedUp:
    """Entries of a channel that were asked for by their keys."""

    position: Position
    entries: list[Entry]
    """Those that there are, in the order of the keys."""
    dirty: Mapping[KeyName, int] = attrs.field(factory=dict)
    """Keys whose last forwarded change the application has not acknowledged, with the version of that change."""
    mids: Sequence[int] = ()
    """The last mutation decided of each client that was named."""


TaggedKey = tuple[ChannelName, KeyName]
"""Where an entry with a certain tag lies; ordered as pairs of text."""


@attrs.define
class DirtyKey:
    """An entry whose last forwarded change was not acknowledged yet."""

    channel: ChannelName
    key: KeyName
    version: int
    """Of that change. The entry may have a newer one, and is not there if it was deleted."""


class StateReader(Protocol):
    """What may be read of the state, between transactions. Several reads of one job see one moment.

    Raises of each: `StoreUnavailable` when it could not be read, `StoreFailed` when the store is damaged.
    """

    def last_mids(self, clients: Sequence[str]) -> list[int]:
        """Return the last mutation decided for each client; 0 for one that is unknown or forgotten. Not a use of the client."""

    def era(self) -> str:
        """Return which life of the store this is, as of what was read last: another one after it lost its end. Empty: it has one only."""

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]:
        """Return the entries there are, in the order of `keys`."""

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> EntryPage:
        """Return the entries after a key (None: from the first), ordered by code points; at least one if there is any.

        Values count their length towards `max_bytes`. Pages of one scan are as of their own positions: what changed between
        two of them is in the log.
        """

    def look_up(
        self,
        channel: ChannelName,
        keys: Sequence[KeyName],
        *,
        with_dirty: bool = False,
        clients: Sequence[str] = (),
    ) -> LookedUp:
        """Return entries, the position they are as of, which keys are dirty (`with_dirty`), and `last_mids`, of one moment.

        A store that nobody else writes to need not tell what is dirty: who asks knows by itself.
        """

    def scan_for(
        self,
        clients: Sequence[str],
        channel: ChannelName,
        after_key: KeyName | None,
        limit: int,
        max_bytes: int,
    ) -> tuple[EntryPage, list[int]]:
        """Return `scan` and `last_mids` of one moment: what of each client's mutations is in the page."""

    def keys_by_tag(
        self, collection: str, tag: str, after: TaggedKey | None, limit: int
    ) -> list[TaggedKey]:
        """Return entries that have a tag now, in the channels `<collection>` and `<collection>/...`, ordered, after `after`."""

    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """Return dirty keys of the channels `<collection>` and `<collection>/...`, ordered by channel and key, after `after`."""

    def count(self, channel: ChannelName) -> int:
        """Return how many entries a channel has."""

    def channels(self, collection: str, limit: int) -> list[ChannelName]:
        """Return the channels `<collection>` and `<collection>/...` that were ever written, ordered, at most so many."""

    def meta_get(self, key: str) -> bytes | None:
        """Return a value kept beside the state by `StateStoreHandle.remember`."""

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel:
        """Return a channel's head and newest events, as `Store.load`."""

    def heads(
        self, channels: Sequence[ChannelName], told: Mapping[ChannelName, Position] | None = None
    ) -> list[ChannelHead]:
        """Return where the logs of some channels begin and end, in their order; of each as of its own moment.

        Args:
            channels: Which.
            told: What this node was told of some of them. A log that has less of that epoch has lost its end: another life of the
                store begins before the answer, once for all nodes.
        """

    def read(self, query: LogQuery) -> LogPage:
        """Return a slice of a channel's log, as `Store.read`."""


class StateStoreHandle(Protocol):
    """The store actor, as the owner of the state sees it. Every call returns at once.

    `done` is called once, later, on the Trio thread, and must not block. It gets a `SyncdError` when the store is unavailable,
    crashed in the middle, or full: nothing took effect then, `last` did not advance.
    """

    def commit(
        self,
        group: list[MutationCommit],
        done: Callable[[list[MutationResult] | SyncdError], None],
    ) -> None:
        """Decide all in one transaction, which appends and other groups may share, in the order they were asked.

        Results come in the order of the group, after the commit.
        """

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """Drop the outcomes of a client's mutations up to `upto`, soon. Lost in a crash, they go when they are old.

        Args:
            era: Life of the store that the numbers are of (`StateReader.era`): in another one nothing is dropped. Empty: of any.
        """

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch
    ) -> None:
        """Let a key be dirty no more, soon, if its dirty version is still this one, of this epoch: the application has it.

        Lost in a crash or for want of room, the key is dirty at the next start and forwarded once more.
        """

    def read_state(
        self, work: Callable[[StateReader], T], done: Callable[[T | SyncdError], None]
    ) -> None:
        """Perform reads in the writer's thread, after the commits that wait. `work` keeps to a few ms and to its argument."""

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value beside the state, soon; the newest of a key counts. Lost if the store cannot write."""
