"""What an application tells a node: its collections, mutators and authorizer, as data.

Built by `syncd.app.App`, brought into force by `model.definitions_check`, read by the cache-owner and by whoever decides on
permission. Nothing here changes once a node runs; callables are the application's and are only held.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from syncd.model.mutators import Mutators
from syncd.model.recording import CollectionRules
from syncd.ports import Identity

__all__ = [
    "MIB",
    "AppDefinition",
    "AppRuntime",
    "Authorizer",
    "CollectionDefinition",
    "EntryChange",
    "LoaderDefinition",
    "OnCommit",
    "ScannerDefinition",
    "Tagged",
    "Warm",
    "has_other_keys",
]

MIB = 1_048_576


@attrs.frozen
class EntryChange:
    """One committed change of one entry, as `on_commit` is given it.

    Delivered at least once: `(epoch, version)` is the same whenever the same change is delivered again.
    """

    collection: str
    key: str
    version: int
    """Offset of the change in its channel: of two changes of one key in one epoch the later one has the higher version."""
    epoch: str
    """Another one than before: the store has lost its end, or was brought back from a copy, and counts from there."""
    value: Any
    """What the entry is now; None if it was deleted."""
    is_deleted: bool = False
    tags: tuple[str, ...] = ()
    client: str | None = None
    """Which client asked for it; None: a backend, or the log does not go back so far."""
    mid: int = 0
    """Number of the mutation among that client's; 0 without one."""
    at_ms: int = 0
    """Wall clock of the commit, as milliseconds since 1970; 0 when the log does not go back so far."""


class AppRuntime(Protocol):
    """The running node as application code reaches it; called in the node's own Trio run. Collections and arguments are checked."""

    def invalidate(
        self, collection: str, *, keys: Sequence[str], tags: Sequence[str], everything: bool
    ) -> Awaitable[None]:
        """Have entries loaded anew and watchers told; exactly one of the three is given. Returns when readers see it.

        Raises:
            SyncdError: it could not be done; nothing was half done.
        """

    def read(self, collection: str, keys: Sequence[str]) -> Awaitable[dict[str, Any]]:
        """Return the values of the entries there are, by key; what is not in memory is loaded.

        Raises:
            SyncdError: one of them cannot be had.
        """

    def mutate(self, name: str, args: object, *, idempotency_key: str | None) -> Awaitable[Any]:
        """Run a mutator as a backend and return the outcome's value once it is durable.

        Raises:
            MutationRejected: it was refused for good.
            SyncdError: it could not be done now.
        """


Loader = Callable[[Any], Awaitable[Any]]
OnCommit = Callable[[EntryChange], Awaitable[object]]
"""Returns once the change is safe in the application's own database; raises to be called again later."""
Warm = Callable[[], Awaitable[Iterable[str]]]
"""Returns the keys to load at start, the most wanted first."""
Authorizer = Callable[[Identity, str, str], bool | Awaitable[bool]]
"""`(identity, action, target)`: whether it may. Anything but True denies, and so does an exception."""


@attrs.frozen
class Tagged:
    """A value with tags, as a loader may return it in place of the plain value."""

    value: Any
    tags: Sequence[str] = ()


@attrs.frozen
class LoaderDefinition:
    """How a collection's entries are read from their source."""

    call: Loader
    """Takes one key and returns its value, or None for none. With `takes_list`: takes a list of keys and returns values by key
    (absent or None: there is none) or a list of values in the order of the keys."""
    takes_list: bool = False


@attrs.frozen
class ScannerDefinition:
    """How a rebuild reads the whole source."""

    call: Callable[[Any], AsyncGenerator[Any, None]]
    """Given the last key that is done or None, yields `(key, value)` or `(key, value, tags)` of those after it."""
    page: int
    """Rows between two checkpoints."""


@attrs.frozen
class CollectionDefinition:
    """One collection: what it holds, where its entries come from, who may do what."""

    name: str
    is_partitioned: bool = False
    """Keys are `<partition>/<id>`, and each partition is a channel of its own."""
    is_volatile: bool = False
    """Entries live in memory alone and are gone when the node stops."""

    # Memory.
    max_entries: int = 100_000
    max_bytes: int = 256 * MIB
    """Of entries in memory, of all partitions together."""
    max_value_bytes: int = 262_144
    """Of one encoded value."""
    ttl_s: float | None = None
    """Entries from the loader are loaded anew after this; None: never."""
    stale_s: float = 0.0
    """How long beyond its lifetime an entry is still served while it is loaded anew; 0: not at all."""
    jitter: float = 0.1
    """Part of `ttl_s` by which lifetimes differ, so that what was loaded together does not expire together."""
    negative_ttl_s: float = 5.0
    """How long it is remembered that the source has no such entry; 0: not at all."""

    # The log of its channel.
    history_size: int = 10_000
    history_age_s: float = 86_400.0

    # Loading.
    loader: LoaderDefinition | None = None
    load_timeout_s: float = 10.0
    load_concurrency: int = 16
    """Loads at the same time."""
    load_batch: int = 100
    """Keys of one load, if the loader takes a list."""
    single_flight: str = "node"
    """Who shares the load of a key: all who ask on one node, or (`cluster`) on all nodes."""
    warm: int | Warm = 0
    """Loaded at start: so many of the hottest keys of the store, or the keys that this returns."""

    # Rebuilding.
    scanner: ScannerDefinition | None = None
    """Without one it cannot be rebuilt."""
    count: Callable[[], Awaitable[int]] | None = None
    every_s: float | None = None
    """It is rebuilt so often, at multiples of this on the wall clock; None: only when that is asked for."""

    # Writing behind.
    on_commit: OnCommit | None = None
    """Called for each change, at least once, in order per key. With it the source owns the entries, not syncd."""
    on_commit_timeout_s: float = 30.0
    """A call that takes longer is cancelled and counts as failed."""
    on_commit_retry_s: float = 0.5
    """Wait after the first failure; it doubles with each further one, with jitter."""
    on_commit_max_retry_s: float = 60.0

    # Permission: rules any of which admits, as in `syncd.toml`; None: the default.
    read: tuple[str, ...] | None = None
    mutate: tuple[str, ...] | None = None
    """Who may call the collection's own mutators."""
    write: tuple[str, ...] | None = None
    """Who may call the built-in ones: `put`, `patch`, `delete`, `incr`."""

    @property
    def rules(self) -> CollectionRules:
        """What its entries may be, for mutators."""
        return CollectionRules(
            self.name, self.is_partitioned, self.max_value_bytes, self.takes_writes
        )

    @property
    def takes_writes(self) -> bool:
        """Whether a mutation may change its entries.

        Entries that expire and whose source is never told of changes belong to the source: a change would be lost.
        """
        return self.on_commit is not None or self.ttl_s is None


@attrs.frozen(eq=False)
class AppDefinition:
    """All that an application tells a node."""

    name: str = "app"
    """For logs: where it was loaded from."""
    collections: Mapping[str, CollectionDefinition] = attrs.field(factory=dict)
    mutators: Mutators = attrs.field(factory=Mutators)
    authorizer: Authorizer | None = None
    """Asked besides the rules, if given: both must admit. Where no rules are given it decides alone."""
    mutate: tuple[str, ...] | None = None
    """Rules for the mutators of no collection; None: the default."""
    bind: Callable[[AppRuntime | None], None] = lambda _runtime: None
    """Called by the node when it is ready, and with None when it stops."""
    is_demo: bool = False
    """The page at `/` is the order board, whose application this is, in place of the channel viewer."""

    def has_mutators(self, collection: str) -> bool:
        """Tell whether clients can change entries of a collection by mutators that are its own, built-in ones included."""
        if self.collections[collection].write:
            return True
        return any(mutator.collection == collection for mutator in self.mutators)

    def is_owned(self, collection: str) -> bool:
        """Tell whether syncd owns a collection's entries: they can be changed here, and no source is told.

        The loader then only fills keys never seen; nothing expires, and a rebuild deletes nothing.
        """
        return self.collections[collection].on_commit is None and self.has_mutators(collection)


def has_other_keys(values: Mapping[Any, Any]) -> bool:
    """Tell whether what a loader of lists returned is by something else than keys, such as numbers: no entry would be found in it.

    Only the first is looked at: a source may be a mapping of any size.
    """
    return not isinstance(next(iter(values), ""), str)
