"""The store on Redis: the whole promise of `Store`, as durable as the server is set to be (docs/redis.md), shared by all nodes.

A transaction is buffered and sent as one script when it is committed (ADR 0015); what `begin` and `begin_commit` return is empty until then.
Every call waits for the network, so this store `blocks`. Owned by one caller, whose thread may change between calls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgpack

from syncd.errors import ConfigError, StoreUnavailable, StoreUnreachable
from syncd.ids import ChannelName, Epoch
from syncd.ports_log import (
    AppendRequest,
    AppendResult,
    ChannelHead,
    LoadedChannel,
    LogPage,
    LogQuery,
    StoredEvent,
)
from syncd.ports_state import KeyName, MutationCommit, MutationResult
from syncd.store.base import (
    CLIENT_USE_MS,
    NODE_SECRET,
    SECRET_BYTES,
    StoreOptions,
    StoreStatistics,
    TrimReport,
)
from syncd.store.redis_batch import Batch, Counts, for_script, place_bytes
from syncd.store.redis_epochs import Epochs
from syncd.store.redis_keys import RedisNames
from syncd.store.redis_link import EraChanged, RedisLink, StoreRefused
from syncd.store.redis_policy import PolicyWatch, refuse_policy
from syncd.store.redis_rebuild import RedisRebuilds
from syncd.store.redis_scripts import (
    COMMIT,
    HAND_OVER,
    META,
    META_GET,
    OPEN,
    READ,
    Script,
)
from syncd.store.redis_state import RedisState
from syncd.store.redis_trim import Trimmer

__all__ = ["RedisStore"]

T = TypeVar("T")

UNSURE_S = 600.0
"""A script that was sent and not answered has run by then, or never will: its connection is long closed."""

LOOK_S = 1.0
"""Between two looks at how the server is set, which may change while it runs."""

FORWARDED_A_CALL = 2000
"""Acknowledged changes handed over with one transaction."""


class RedisStore(RedisState):
    """`Store` on a server; see there."""

    blocks = True

    def __init__(
        self,
        url: str,
        options: StoreOptions,
        *,
        names: RedisNames | None = None,
        node: str = "",
        timeout_s: float = 3.0,
        server_clock: bool = True,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Connect to nothing yet.

        Args:
            url: As of `redis_address.parse_redis_url`.
            options: See there.
            names: What keys are called.
            node: Who publishes, so that it knows what it hears as its own.
            timeout_s: Longest wait for an answer; a commit whose answer does not come is unknown.
            server_clock: Leases of rebuilds run by the server's clock instead of what callers say.
            timer: Measures slices of trimming.

        Raises:
            ConfigError: the URL cannot be used, or `redis` is not installed.
        """
        self._options = options
        self._node: bytes = msgpack.packb(node)
        self._link = RedisLink(url, names or RedisNames(), timeout_s=timeout_s, greet=self._greet)
        self._epochs = Epochs(options.cached_channels)
        self._unsure_at = self._looked_at = -math.inf
        self._secret = b""
        self._size_bytes = 0
        self._policies = PolicyWatch()
        self._counts = Counts()
        self._batch: Batch | None = None
        self._acknowledged: dict[str, int] = {}
        self._forwarded: dict[bytes, int] = {}
        self._timer = timer
        self._trimmer = Trimmer(self, options, timer)
        self.rebuilds = RedisRebuilds(self, timer, server_clock=server_clock)

    # -------------------------------------------------------------------------------------------- coming and going

    def open(self) -> None:
        """See `Store.open`. Others may have the same data open.

        Raises:
            StoreUnreachable: nobody answers.
            ConfigError: the server does not let us in, or throws keys away when it is full.
        """
        try:
            refuse_policy(self._link.info())
        except StoreRefused as error:
            raise ConfigError(f"redis.url: {error.message}") from error
        except StoreUnavailable as error:
            why = "" if error.__cause__ is None else f" ({error.__cause__})"
            raise StoreUnreachable(f"redis.url: {error.message}{why}") from error

    def _greet(self) -> None:
        """Find out whose data this is, before anything is asked of it."""
        self._looked_at = self._timer()
        info = self._link.info()
        self._size_bytes = info.used_bytes
        if self._secret:  # else this is the first, of `open`, which refuses
            self._policies.see(info)
        secret = self._secret or self._options.entropy(SECRET_BYTES)
        seed = self._options.entropy(SECRET_BYTES)
        era = self.new_name()
        signs = (info.keeps_all, info.is_promoted, info.has_replicas, info.awaits_replicas)
        found = self._link.run(
            OPEN,
            *(secret, seed, era, info.run_id, info.replid),
            *(int(each) for each in signs),
            *self._epochs.known,
        )
        self._secret = found[0]
        is_other = self._epochs.begin(found[1], found[2].decode())
        self._epochs.note(found[3])
        if is_other:
            # What clients acknowledged may have other content by now under the same numbers.
            self._acknowledged.clear()
            self._forwarded.clear()

    def look(self) -> None:
        """See whether the server still is what it was, and still keeps what it answers, and note it beside the data.

        Raises: as `commit`.
        """
        self._link.greet()

    def run(self, script: Script, make: Callable[[], list[Any]]) -> Any:
        """Run a script; `make` returns its arguments behind the era, and is asked again if the era has changed.

        Raises: as `commit`.
        """
        for _ in range(3):
            # Before the arguments: a new connection may find another era.
            connection = self._link.ready()
            try:
                arguments = for_script([self._epochs.era, *make()])
                return self._link.run(script, arguments, over=connection)
            except EraChanged:
                self._link.drop()
            except StoreUnavailable as error:
                if error.is_unknown:
                    self._unsure_at = self._timer()
                raise
        raise StoreUnavailable("Redis changes its data all the time")

    def era(self) -> str:
        """See `StateReader.era`."""
        return self._epochs.era

    def is_unsure(self) -> bool:
        """Whether the answer to a commit was lost lately: it may still take effect, and only the bus tells then. From any thread."""
        return self._timer() - self._unsure_at < UNSURE_S

    def new_name(self) -> str:
        """Return a name that no era has had."""
        return self._options.entropy(4).hex()

    def describe(self, channel: ChannelName) -> list[Any]:
        """Return a channel as scripts take it."""
        kept = self._options.retention_of(channel)
        age_ms = -1 if math.isinf(kept.age_s) else int(kept.age_s * 1000)
        return [channel, self._epochs.derived(channel), kept.size, age_ms, kept.is_latest]

    def close(self) -> None:
        """See `Store.close`."""
        self.rollback()
        self._link.close()

    # -------------------------------------------------------------------------------------------- writing

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        return self._add(lambda open_batch: open_batch.append(batch))

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        return self._add(lambda open_batch: open_batch.group(group))

    def _add(self, add: Callable[[Batch], T]) -> T:
        if self._batch is None:
            self._batch = Batch(self._counts)
        try:
            return add(self._batch)
        except BaseException:
            self.rollback()
            raise

    def commit(self) -> None:
        """See `Store.commit`.

        Raises:
            StoreUnavailable: with `is_unknown`, the answer was lost.
        """
        batch, self._batch = self._batch, None
        if batch is not None:
            self.commit_batch(batch)

    def new_batch(self) -> Batch:
        """Return a transaction beside the open one, for `commit_batch`."""
        return Batch(self._counts)

    def commit_batch(self, batch: Batch, script: Script = COMMIT) -> None:
        """Run a transaction, with what was acknowledged before it; its answers are there on return."""
        outcomes: dict[str, int] = {}
        forwarded: dict[bytes, int] = {}

        def make() -> list[Any]:
            # Now and not before: with the connection another era may have been met, in which it counts no more.
            nonlocal outcomes, forwarded
            outcomes = dict(self._acknowledged) if batch.has_mutations else {}
            forwarded = self._some_forwarded()
            return [
                *self.publishing,
                [self.describe(channel) for channel in batch.channels],
                [each for item in outcomes.items() for each in item],
                [each for item in forwarded.items() for each in item],
                batch.operations,
                self._options.outcomes_per_client,
                CLIENT_USE_MS,
            ]

        reply = self.run(script, make)
        self._epochs.note(reply[0])
        self._settle(outcomes, forwarded)
        batch.fill(reply[1:])

    @property
    def publishing(self) -> list[Any]:
        """Who publishes, as it is told, and by which command."""
        return [self._node, "SPUBLISH" if self._link.is_cluster else "PUBLISH"]

    def rollback(self) -> None:
        """See `Store.rollback`."""
        self._batch = None

    def probe(self) -> None:
        """See `Store.probe`. A server that is full gives up what is due."""
        self._link.follow()  # a master that was replaced may refuse every write (`min-replicas-to-write`)
        with self._trimmer.making_room():
            self.meta_set("probe", b"")

    # -------------------------------------------------------------------------------------------- acknowledging

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """See `Store.acknowledge`."""
        if era not in ("", self._epochs.era):
            return  # the numbers may be those of other mutations by now
        self._acknowledged[client] = max(upto, self._acknowledged.get(client, 0))

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """See `Store.acknowledge_forwarded`."""
        if epoch not in (None, self._epochs.derived(channel)):
            return  # the version may be that of another change by now
        place = place_bytes(channel, key)
        self._forwarded[place] = max(version, self._forwarded.get(place, 0))

    def _some_forwarded(self) -> dict[bytes, int]:
        return dict(list(self._forwarded.items())[:FORWARDED_A_CALL])

    def _settle(self, outcomes: dict[str, int], forwarded: dict[bytes, int]) -> None:
        for client, upto in outcomes.items():
            if self._acknowledged.get(client) == upto:
                del self._acknowledged[client]
        for place, version in forwarded.items():
            if self._forwarded.get(place) == version:
                del self._forwarded[place]

    def hand_over(self) -> None:
        """Tell the server what was acknowledged, so that what is read next knows it."""
        while self._forwarded:
            self.commit_batch(self.new_batch())

    # -------------------------------------------------------------------------------------------- reading

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel:
        """See `Store.load`."""
        page = self._page(channel, 0, None, (True, tail_events, tail_bytes, True))
        return LoadedChannel(page.head, page.events[::-1])

    def load_many(self, wanted: Sequence[tuple[ChannelName, int, int]]) -> list[LoadedChannel]:
        """See `Store.load_many`."""

        def make() -> list[Any]:
            rows = [[self.describe(name), events, size] for name, events, size in wanted]
            return [rows, 0, False, True, 0, 0, True]

        pages = map(_page_from, self.run(READ, make))
        return [LoadedChannel(page.head, page.events[::-1]) for page in pages]

    def read(self, query: LogQuery) -> LogPage:
        """See `Store.read`."""
        upto = query.upto
        if query.before is not None:
            upto = query.before - 1 if upto is None else min(upto, query.before - 1)
        how = (query.reverse, query.limit, query.max_bytes, False)
        return self._page(query.channel, query.after, upto, how)

    def _page(
        self, channel: ChannelName, after: int, upto: int | None, how: tuple[bool, int, int, bool]
    ) -> LogPage:
        last: int | bool = False if upto is None else upto
        return _page_from(self.run(READ, lambda: [self.describe(channel), after, last, *how]))

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`. In steps, each a script of its own; and looks at the server, now and then."""
        if self._timer() - self._looked_at >= LOOK_S:
            self.look()
        return self._trimmer.trim(now_ms, budget_s)

    def hand_over_all(self) -> bool:
        """Tell the server what was acknowledged, as much as goes into one script; return whether anything is left."""
        if self._acknowledged or self._forwarded:
            batch = self.new_batch()
            batch.group([])
            self.commit_batch(batch, HAND_OVER)
        return bool(self._forwarded)

    # -------------------------------------------------------------------------------------------- the rest

    def meta_get(self, key: str) -> bytes | None:
        """See `Store.meta_get`."""
        found: bytes | None = self.run(META_GET, lambda: [key, False])
        return found

    def meta_set(self, key: str, value: bytes) -> None:
        """See `Store.meta_set`."""
        self.run(META, lambda: [key, value])
        if key == NODE_SECRET:
            self._secret = value

    def statistics(self) -> StoreStatistics:
        """See `Store.statistics`. The size is the server's, as of the last connection."""
        counts = self._counts
        return StoreStatistics(
            counts.written,
            counts.duplicates,
            counts.mismatches,
            self._trimmer.num_events,
            self._trimmer.num_idempotency,
            len(self._epochs),
            self._size_bytes,
            counts.mutations,
            counts.resent,
            counts.conflicts,
            self._trimmer.num_outcomes,
            self._trimmer.num_clients,
        )


def _page_from(reply: Any) -> LogPage:
    """Decode what `read.lua` tells of one channel."""
    head = ChannelHead(Epoch(reply[0].decode()), reply[1], reply[2])
    events = [_stored_event(reply[n], reply[n + 1]) for n in range(4, len(reply), 2)]
    return LogPage(head, events, is_complete=bool(reply[3]))


def _stored_event(stream_id: bytes, raw: bytes) -> StoredEvent:
    at_ms, key, record = msgpack.unpackb(b"\x93" + raw)
    return StoredEvent(int(stream_id.partition(b"-")[0]), at_ms, key, record)
