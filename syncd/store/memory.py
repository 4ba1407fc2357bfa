"""A store that forgets: the whole promise of `Store` but for surviving the process. For `:memory:` and tests.

Every start has fresh epochs, so a client that comes back after a restart is told that its position is gone.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_log import (
    Appended,
    AppendRequest,
    AppendResult,
    ChannelHead,
    IdempotencyKey,
    LoadedChannel,
    LogPage,
    LogQuery,
    StoredEvent,
)
from syncd.ports_state import (
    DirtyKey,
    Entry,
    EntryPage,
    KeyName,
    MutationCommit,
    MutationResult,
    TaggedKey,
)
from syncd.store.alone import AloneReads
from syncd.store.base import (
    EPOCH_SEED,
    NODE_SECRET,
    SECRET_BYTES,
    Slice,
    StoreOptions,
    StoreStatistics,
    TrimReport,
    cutoff_ms,
    derived_epoch,
    mismatch,
)
from syncd.store.memory_log import Log, Undo
from syncd.store.memory_rebuild import MemoryRebuilds
from syncd.store.memory_state import MemoryState

__all__ = ["MemoryStore"]

_CHANNELS_A_STEP = 64


@attrs.define
class _Known:
    """What was answered under an idempotency key."""

    request_hash: bytes
    log: Log
    offset: int
    at_ms: int


_KnownKey = tuple[str, str, str]


class MemoryStore(AloneReads):
    """`Store` in dicts; see there. Owned by one caller."""

    def __init__(
        self, options: StoreOptions, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._options = options
        self._timer = timer
        self._meta: dict[str, bytes] = {}
        self._logs: dict[ChannelName, Log] = {}
        self._known: dict[_KnownKey, _Known] = {}
        self._undo: list[Undo] = []
        self._touched: set[Log] = set()
        """Logs that the open transaction can already bring back."""
        self._state = MemoryState(options, self._append_event, self._undo)
        self.rebuilds = MemoryRebuilds(self, self._state, self._undo)
        self._sweep: Iterator[Log] | None = None
        self._next_sweep_ms = -1
        self._written = self._duplicates = self._mismatches = 0
        self._trimmed = self._forgotten = 0

    def open(self) -> None:
        """Make the secrets. Opening again forgets nothing, it is the same process."""
        for key in (NODE_SECRET, EPOCH_SEED):
            if key not in self._meta:
                self._meta[key] = self._options.entropy(SECRET_BYTES)

    # -------------------------------------------------------------------------------------------- writing

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]:
        """See `Store.begin`."""
        try:
            return [self._append(request) for request in batch]
        except BaseException:
            self.rollback()
            raise

    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]:
        """See `Store.begin_commit`."""
        try:
            results = self._state.decide(group)
            self.rebuilds.note(group, results)
        except BaseException:
            self.rollback()
            raise
        return results

    def acknowledge(self, client: str, upto: int, era: str = "") -> None:
        """See `Store.acknowledge`."""
        self._state.acknowledge(client, upto)

    def acknowledge_forwarded(
        self, channel: ChannelName, key: KeyName, version: int, epoch: Epoch | None = None
    ) -> None:
        """See `Store.acknowledge_forwarded`."""
        self._state.acknowledge_forwarded(channel, key, version)

    def _append(self, request: AppendRequest) -> AppendResult:
        idempotency = request.idempotency
        if idempotency is not None:
            known = self._find(idempotency)
            if known is not None:
                return known
        log, offset = self._append_event(
            request.channel, request.at_ms, request.key, request.record
        )
        if idempotency is not None:
            self._remember(idempotency, log, offset, request.at_ms)
        return Appended(log.epoch, offset)

    def _append_event(
        self, channel: ChannelName, at_ms: int, key: str | None, record: bytes
    ) -> tuple[Log, int]:
        log = self._log_for_append(channel)
        if log not in self._touched:
            self._touched.add(log)
            self._undo.append(log.undo())
        offset = log.append(at_ms, key, record)
        self._written += 1
        self._undo.append(self._uncount)
        return log, offset

    def _uncount(self) -> None:
        self._written -= 1

    def cut_log(self, channel: ChannelName) -> None:
        """End what a channel's log tells of before its top, in the open transaction, which has appended to it."""
        log = self._logs[channel]
        log.drop_oldest(len(log.events))

    def _find(self, key: IdempotencyKey) -> Appended | SyncdError | None:
        known = self._known.get((key.identity, key.operation, key.key))
        if known is None:
            return None
        if known.request_hash != key.request_hash:
            self._mismatches += 1
            return mismatch()
        self._duplicates += 1
        return Appended(known.log.epoch, known.offset, is_duplicate=True)

    def _remember(self, key: IdempotencyKey, log: Log, offset: int, at_ms: int) -> None:
        name = (key.identity, key.operation, key.key)
        self._known[name] = _Known(key.request_hash, log, offset, at_ms)
        self._undo.append(lambda: self._known.__delitem__(name))

    def _log_for_append(self, channel: ChannelName) -> Log:
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = Log(
                self._epoch_of(channel), self._options.retention_of(channel)
            )
            self._undo.append(lambda: self._logs.__delitem__(channel))
        return log

    def _epoch_of(self, channel: ChannelName) -> Epoch:
        return derived_epoch(self._meta[EPOCH_SEED], channel)

    def commit(self) -> None:
        """See `Store.commit`."""
        self._undo.clear()
        self._touched.clear()
        self._state.commit()

    def rollback(self) -> None:
        """See `Store.rollback`."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._touched.clear()
        self._state.rollback()

    def probe(self) -> None:
        """See `Store.probe`."""

    # -------------------------------------------------------------------------------------------- reading

    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel:
        """See `Store.load`."""
        log = self._logs.get(channel)
        if log is None:
            return LoadedChannel(self._head_of(channel), [])
        head = log.head()
        start = len(log.events)
        first = max(log.index_after(head.floor), start - tail_events)
        while start > first and len(log.events[start - 1].record) <= tail_bytes:
            start -= 1
            tail_bytes -= len(log.events[start].record)
        return LoadedChannel(head, log.events[start:])

    def read(self, query: LogQuery) -> LogPage:
        """See `Store.read`."""
        log = self._logs.get(query.channel)
        if log is None:
            return LogPage(self._head_of(query.channel), [], is_complete=True)
        head = log.head()
        upto = head.top if query.upto is None else query.upto
        if query.before is not None:
            upto = min(upto, query.before - 1)
        events = log.events[log.index_after(max(query.after, head.floor)) : log.index_after(upto)]
        if query.reverse:
            events.reverse()
        kept = _bounded(events, query.limit, query.max_bytes)
        return LogPage(head, events[:kept], is_complete=kept == len(events))

    def last_mids(self, clients: Sequence[str]) -> list[int]:
        """See `StateReader.last_mids`."""
        return self._state.last_mids(clients)

    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]:
        """See `StateReader.entries`."""
        return self._state.entries(channel, keys)

    def scan(
        self, channel: ChannelName, after_key: KeyName | None, limit: int, max_bytes: int
    ) -> EntryPage:
        """See `StateReader.scan`."""
        head = self.load(channel, 0, 0).head
        entries, is_complete = self._state.scan(channel, after_key, limit, max_bytes)
        return EntryPage(Position(head.epoch, head.top), entries, is_complete)

    def keys_by_tag(
        self, collection: str, tag: str, after: TaggedKey | None, limit: int
    ) -> list[TaggedKey]:
        """See `StateReader.keys_by_tag`."""
        return self._state.keys_by_tag(collection, tag, after, limit)

    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]:
        """See `StateReader.dirty`."""
        return self._state.dirty(collection, after, limit)

    def count(self, channel: ChannelName) -> int:
        """See `StateReader.count`."""
        return self._state.count(channel)

    def channels(self, collection: str, limit: int) -> list[ChannelName]:
        """See `StateReader.channels`."""
        found = (name for name in self._logs if name.partition("/")[0] == collection)
        return sorted(found)[:limit]

    def _head_of(self, channel: ChannelName) -> ChannelHead:
        return ChannelHead(self._epoch_of(channel), 0, 0)

    # -------------------------------------------------------------------------------------------- trimming

    def trim(self, now_ms: int, budget_s: float) -> TrimReport:
        """See `Store.trim`."""
        time_slice = Slice(self._timer, budget_s)
        if self._sweep is None:
            if now_ms < self._next_sweep_ms:
                return TrimReport(0, 0, has_more=False)
            self._sweep = iter(list(self._logs.values()))
        forgotten = self._forget(now_ms)
        outcomes, clients = self._state.forget(now_ms)
        trimmed = 0
        step: list[Log] = []
        while not time_slice.is_over():
            step = list(itertools.islice(self._sweep, _CHANNELS_A_STEP))
            if not step:
                break
            trimmed += sum(log.drop_oldest(log.num_expired(now_ms)) for log in step)
        if not step:
            self._sweep = None
            self._next_sweep_ms = now_ms + int(self._options.sweep_s * 1000)
        self._trimmed += trimmed
        return TrimReport(
            trimmed, forgotten, bool(step), num_outcomes=outcomes, num_clients=clients
        )

    def _forget(self, now_ms: int) -> int:
        """Forget results of keys from the oldest on, up to the first that is young enough."""
        cutoff = cutoff_ms(now_ms, self._options.idempotency_s)
        expired = itertools.takewhile(lambda item: item[1].at_ms < cutoff, self._known.items())
        old = [name for name, _ in expired]
        for name in old:
            del self._known[name]
        num_forgotten = len(old) + self._state.forget_keyed(now_ms)
        self._forgotten += num_forgotten
        return num_forgotten

    # -------------------------------------------------------------------------------------------- the rest

    def meta_get(self, key: str) -> bytes | None:
        """See `Store.meta_get`."""
        return self._meta.get(key)

    def meta_set(self, key: str, value: bytes) -> None:
        """See `Store.meta_set`."""
        self._meta[key] = value

    def close(self) -> None:
        """See `Store.close`."""
        self.rollback()

    def statistics(self) -> StoreStatistics:
        """See `Store.statistics`."""
        return StoreStatistics(
            self._written,
            self._duplicates,
            self._mismatches + self._state.num_mismatches,
            self._trimmed,
            self._forgotten,
            len(self._logs),
            0,
            **self._state.counts(),
        )


def _bounded(events: Sequence[StoredEvent], limit: int, max_bytes: int) -> int:
    """Return how many of the first events fit; one fits always."""
    size = 0
    for index, event in enumerate(events[:limit]):
        size += len(event.record)
        if index and size > max_bytes:
            return index
    return min(len(events), limit)
