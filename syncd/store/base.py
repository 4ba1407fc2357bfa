"""What every durable log promises: the synchronous `Store` port, and the words that go with it.

A store is used by one caller at a time, its actor, from whatever thread that actor chooses; it starts none and locks
nothing. Between `begin` and the `commit` or `rollback` that ends it, nothing else may be called. The conformance suite in
`tests/conformance` holds for every adapter.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from syncd.codes import ErrorCode
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports_log import AppendRequest, AppendResult, LoadedChannel, LogPage, LogQuery
from syncd.ports_state import KeyName, MutationCommit, MutationResult, StateReader
from syncd.store.rebuilds import RebuildStore

__all__ = [
    "CLIENT_USE_MS",
    "EPOCH_SEED",
    "NODE_SECRET",
    "SECRET_BYTES",
    "Entropy",
    "Retention",
    "RetentionOf",
    "Slice",
    "Store",
    "StoreFailed",
    "StoreOptions",
    "StoreStatistics",
    "TrimReport",
    "client_cutoff_ms",
    "cutoff_ms",
    "derived_epoch",
    "effective_floor",
    "mismatch",
]

NODE_SECRET = "node_secret"  # noqa: S105 - the name of the secret
"""Meta key: 32 random bytes made with the store; signs what the node must recognise after a restart."""

EPOCH_SEED = "epoch_seed"
"""Meta key: 32 random bytes from which the epochs of new channels are derived."""

SECRET_BYTES = 32

CLIENT_USE_MS = 3_600_000
"""A client's last use is written down once an hour, not with every mutation: its index would cost as much as an event."""

Entropy = Callable[[int], bytes]
"""Returns that many random bytes, as `secrets.token_bytes`."""


class StoreFailed(Exception):
    """The store broke in a way that trying again makes worse (failed fsync, corruption): the node must exit non-zero.

    After a failed fsync the kernel may have dropped the dirty pages and report success the next time, so only what a new
    start reads back from the disk can be trusted.
    """


@attrs.frozen
class Retention:
    """How much of one channel's log is kept."""

    size: int
    """Events; for latest channels, keys."""
    age_s: float
    """Seconds; `math.inf` keeps for ever."""
    is_latest: bool = False
    """At most one event per key is kept; all events without a key count as one key."""


RetentionOf = Callable[[ChannelName], Retention]


@attrs.frozen
class StoreOptions:
    """What an adapter is told besides where its data lies. Everything that is not a function of its input is injected."""

    retention_of: RetentionOf
    """Asked when a channel comes into memory; the same answer while the store is open."""
    idempotency_s: float = 86_400.0
    """Results of idempotency keys are kept at least this long."""
    entropy: Entropy = secrets.token_bytes
    sweep_s: float = 60.0
    """Time between two walks over all channels that look for events past their age."""
    cached_channels: int = 10_000
    """Channel rows kept in memory, about 0.4 KiB each."""
    cached_clients: int = 10_000
    """Clients that mutate, kept in memory, about 0.3 KiB each."""
    cached_entries: int = 32_768
    """Versions of entries kept in memory, about 0.4 KiB each."""
    outcomes_s: float = 86_400.0
    """Outcomes of mutations are kept at least this long, unless acknowledged, or pushed out by newer ones of their client."""
    outcomes_per_client: int = 1000
    """Only outcomes of this many newest mutations of a client are answered, trimmed or not."""
    clients_s: float = 90 * 86_400.0
    """A client is remembered at least this long after its last mutation, and an hour longer at most; its outcomes go with it."""


@attrs.frozen
class TrimReport:
    """What one slice of trimming did."""

    num_events: int
    num_idempotency: int
    has_more: bool
    """Call again soon: the slice ran out of time, or more was acknowledged than it could drop."""
    num_outcomes: int = 0
    num_clients: int = 0


@attrs.frozen
class StoreStatistics:
    """The store at one moment; counters count since `open`."""

    num_events_written: int
    num_duplicates: int
    num_mismatches: int
    num_events_trimmed: int
    num_idempotency_trimmed: int
    num_channels_cached: int
    size_bytes: int
    """Of the log on disk with everything that belongs to it; 0 in memory."""
    num_mutations: int = 0
    """Decided for the first time, rejections included."""
    num_resent: int = 0
    """Answered as known."""
    num_conflicts: int = 0
    num_outcomes_trimmed: int = 0
    num_clients_trimmed: int = 0


class Store(StateReader, Protocol):
    """A log of events per channel, with idempotency results, entries and outcomes, in one transactional file.

    A transaction is one or more calls of `begin` and `begin_commit` in any order, each of which sees those before it, ended by
    `commit` or `rollback`. A call that raises has undone the whole transaction.

    Epochs: a channel has one from the first time anybody asks, derived from a random seed made with the store, so that
    asking about channels that were never written costs no row and no fsync. The row written by the first event keeps it,
    and outlives the channel's events.
    """

    blocks: bool
    """Whether statements may wait for a network: then `begin` and `begin_commit` are called in the worker as well."""

    @property
    def rebuilds(self) -> RebuildStore:
        """Rebuilds of collections; there once the store is open."""

    def open(self) -> None:
        """Acquire the log, alone.

        Raises:
            ConfigError: it is in use, newer than this program, damaged, or not a log of syncd. The message says what to do.
        """

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """Run every write statement of these requests, in a transaction that stays open: a new one, or the one that is open.

        Offsets are dense: `top + 1`, `top + 2`, ... per channel in the order of the batch. Requests of one batch see each
        other's idempotency keys. Nothing returned here may be told to anybody before `commit` has returned.

        Returns:
            A list that has one result per request, in order, once `commit` has returned: until then it may be empty. A `SyncdError`
            (`idempotency_mismatch`) concerns that request alone.

        Raises:
            StoreUnavailable: disk full, locked, cannot write. Rolled back, nothing advanced.
            StoreFailed: the log is damaged.
            Exception: a request cannot be stored at all. Rolled back, nothing advanced.
        """

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """Decide mutations, each after and seeing those before it, in a transaction that stays open, as `begin`.

        A mutation stands if its `mid` is its client's last plus one and every entry it read still has the version it saw. Then
        each write takes the next offset of its channel's log, which becomes the entry's version; the events without an entry
        follow; the outcome is stored and `last` advances. Otherwise it leaves no trace: `KnownOutcome` (decided before, in a
        former transaction or earlier in this one), `OutOfOrder` or `Conflict`. Without a client its idempotency key stands for
        the number, and a `SyncdError` (`idempotency_mismatch`) is that mutation's alone.

        One call is one group: `EntryRead.written_by` counts from its first mutation.

        Raises: as `begin`.
        """

    def era(self) -> str:
        """See `StateReader.era`; may be called at any time, and does not block."""

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """Drop a client's outcomes up to `upto`: the next `begin_commit` does not know them any more.

        Writes nothing itself; the next transaction of mutations or slice of trimming does. Lost with the process, they are
        answered until they are old.

        Args:
            era: Life of the store that the numbers are of (`StateReader.era`); in another one they are those of other mutations, and
                nothing is dropped. Empty: of this one.
        """

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """Let a key be dirty no more if its dirty version is this one: at once for `dirty`, on disk as `acknowledge`.

        Args:
            epoch: Of the version, where the channel may have got another one meanwhile.
        """

    def commit(self) -> None:
        """Make the open transaction durable; what `begin` and `begin_commit` have returned is complete then.

        Raises:
            StoreUnavailable: it could not be written. Rolled back, nothing advanced; unless `is_unknown`: then the answer was lost, and
                the transaction took effect, whole, or not, or may yet.
            StoreFailed: whether it is durable is unknown.
        """

    def rollback(self) -> None:
        """Undo the open transaction; without one, nothing happens. Never raises."""

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel:
        """Read a channel's head and its newest events, within both bounds (a record counts its length). Writes nothing.

        Raises:
            StoreUnavailable: it could not be read.
            StoreFailed: the log is damaged.
        """

    def load_many(self, wanted: Sequence[tuple[ChannelName, int, int]]) -> list[LoadedChannel]:
        """Load several channels, each as `load`: where a question costs a round trip, one for all."""

    def read(self, query: LogQuery) -> LogPage:
        """Read a slice of the log, never at or below the floor; at least one event if there is any, whatever its size.

        Raises: as `load`.
        """

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """Delete what retention no longer covers or was acknowledged, for about `budget_s`, in a transaction of its own.

        A channel's floor moves in the same transaction to the newest offset deleted. Reads are held to `size` at once,
        whether trimmed or not.

        Raises: as `commit`; nothing of this slice was deleted then.
        """

    def probe(self) -> None:
        """Commit something tiny.

        Raises: as `commit`.
        """

    def meta_get(self, key: str) -> bytes | None:
        """Return a value kept beside the log. `node_secret` is there from the first open."""

    def meta_set(self, key: str, value: bytes) -> None:
        """Keep a small value beside the log, durable on return.

        Raises: as `commit`.
        """

    def close(self) -> None:
        """Give the log back, checkpointed. An open transaction is undone. Never raises."""

    def statistics(self) -> StoreStatistics:
        """Return counts. The one method that may be called at any time, from any thread."""


def derived_epoch(seed: bytes, channel: ChannelName) -> Epoch:
    """Return the epoch a channel gets when it is first asked about: 64 bits that nobody without the seed can tell."""
    return Epoch(hmac.digest(seed, channel.encode(), hashlib.sha256)[:8].hex())


def effective_floor(floor: int, top: int, retention: Retention) -> int:
    """Return the floor to tell: for streams `size` holds from the moment of the append, trimmed or not."""
    return floor if retention.is_latest else max(floor, top - retention.size)


def cutoff_ms(now_ms: int, age_s: float) -> int:
    """Return the wall time before which something of this age limit is too old."""
    return -1 if math.isinf(age_s) else now_ms - int(age_s * 1000)


def client_cutoff_ms(now_ms: int, clients_s: float) -> int:
    """Return the written-down last use before which a client may be forgotten."""
    return cutoff_ms(now_ms, clients_s) - CLIENT_USE_MS


def mismatch() -> SyncdError:
    """Return the error of a request whose idempotency key was used for another one."""
    return SyncdError(ErrorCode.IDEMPOTENCY_MISMATCH)


class Slice:
    """A time budget for work done in small steps; the first step is always allowed, so that work goes on."""

    __slots__ = ("_ends", "_is_first", "_timer")

    def __init__(self, timer: Callable[[], float], budget_s: float) -> None:
        self._timer = timer
        self._ends = timer() + budget_s
        self._is_first = True

    def is_over(self) -> bool:
        """Return whether the time is used up; asked before each step."""
        if self._is_first:
            self._is_first = False
            return False
        return self._timer() >= self._ends
