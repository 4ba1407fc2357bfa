"""A store that forgets: the whole promise of `Store` but for surviving the process. For `:memory:` and tests.

Every start has fresh epochs, so a client that comes back after a restart is told that its position is gone.
"""

from __future__ import annotations

import bisect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence

import attrs

from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports import (
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
from syncd.store.base import (
    EPOCH_SEED,
    NODE_SECRET,
    SECRET_BYTES,
    Retention,
    Slice,
    StoreOptions,
    StoreStatistics,
    TrimReport,
    cutoff_ms,
    derived_epoch,
    effective_floor,
    mismatch,
)

__all__ = ["MemoryStore"]

_Undo = Callable[[], None]

_CHANNELS_A_STEP = 64

_SLACK = 64
"""Events a stream may have over its size (and a quarter of it), so that deleting from the front is rare."""


@attrs.define(eq=False)
class _Log:
    """One channel: events ascending, and for latest channels where each key's event is."""

    epoch: Epoch
    retention: Retention
    top: int = 0
    floor: int = 0
    events: list[StoredEvent] = attrs.field(factory=list)
    by_key: dict[str | None, int] = attrs.field(factory=dict)

    def head(self) -> ChannelHead:
        return ChannelHead(
            self.epoch, self.top, effective_floor(self.floor, self.top, self.retention)
        )

    def index_after(self, offset: int) -> int:
        return bisect.bisect_right(self.events, offset, key=_offset_of)

    def append(self, request: AppendRequest) -> int:
        self.top += 1
        if self.retention.is_latest:
            self._supersede(request.key)
        self.events.append(StoredEvent(self.top, request.at_ms, request.key, request.record))
        slack = 0 if self.retention.is_latest else _SLACK + self.retention.size // 4
        if len(self.events) > self.retention.size + slack:
            self.drop_oldest(len(self.events) - self.retention.size)
        return self.top

    def _supersede(self, key: str | None) -> None:
        old = self.by_key.get(key)
        if old is not None:
            del self.events[self.index_after(old) - 1]
        self.by_key[key] = self.top

    def drop_oldest(self, count: int) -> int:
        """Delete the oldest events and move the floor to the newest of them."""
        if count <= 0:
            return 0
        dropped = self.events[:count]
        del self.events[:count]
        self.floor = dropped[-1].offset
        for event in dropped:
            self.by_key.pop(event.key, None)
        return count

    def num_expired(self, now_ms: int) -> int:
        """Return how many of the oldest events retention no longer covers."""
        keep = max(0, len(self.events) - self.retention.size)
        cutoff = cutoff_ms(now_ms, self.retention.age_s)
        while keep < len(self.events) and self.events[keep].at_ms < cutoff:
            keep += 1
        return keep

    def undo(self) -> _Undo:
        """Return what brings back the state of this moment."""
        top, floor, events, by_key = self.top, self.floor, self.events[:], self.by_key.copy()

        def restore() -> None:
            self.top, self.floor, self.events, self.by_key = top, floor, events, by_key

        return restore


def _offset_of(event: StoredEvent) -> int:
    return event.offset


@attrs.define
class _Known:
    """What was answered under an idempotency key."""

    request_hash: bytes
    log: _Log
    offset: int
    at_ms: int


_KnownKey = tuple[str, str, str]


class MemoryStore:
    """`Store` in dicts; see there. Owned by one caller."""

    def __init__(
        self, options: StoreOptions, *, timer: Callable[[], float] = time.perf_counter
    ) -> None:
        self._options = options
        self._timer = timer
        self._meta: dict[str, bytes] = {}
        self._logs: dict[ChannelName, _Log] = {}
        self._known: dict[_KnownKey, _Known] = {}
        self._undo: list[_Undo] = []
        self._is_begun = False
        self._sweep: Iterator[_Log] | None = None
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
        self._is_begun = True
        touched: set[_Log] = set()
        try:
            return [self._append(request, touched) for request in batch]
        except BaseException:
            self.rollback()
            raise

    def _append(self, request: AppendRequest, touched: set[_Log]) -> AppendResult:
        idempotency = request.idempotency
        if idempotency is not None:
            known = self._find(idempotency)
            if known is not None:
                return known
        log = self._log_for_append(request.channel)
        if log not in touched:
            touched.add(log)
            self._undo.append(log.undo())
        offset = log.append(request)
        self._written += 1
        self._undo.append(self._uncount)
        if idempotency is not None:
            self._remember(idempotency, log, offset, request.at_ms)
        return Appended(log.epoch, offset)

    def _uncount(self) -> None:
        self._written -= 1

    def _find(self, key: IdempotencyKey) -> Appended | SyncdError | None:
        known = self._known.get((key.identity, key.operation, key.key))
        if known is None:
            return None
        if known.request_hash != key.request_hash:
            self._mismatches += 1
            return mismatch()
        self._duplicates += 1
        return Appended(known.log.epoch, known.offset, is_duplicate=True)

    def _remember(self, key: IdempotencyKey, log: _Log, offset: int, at_ms: int) -> None:
        name = (key.identity, key.operation, key.key)
        self._known[name] = _Known(key.request_hash, log, offset, at_ms)
        self._undo.append(lambda: self._known.__delitem__(name))

    def _log_for_append(self, channel: ChannelName) -> _Log:
        log = self._logs.get(channel)
        if log is None:
            log = self._logs[channel] = _Log(
                self._epoch_of(channel), self._options.retention_of(channel)
            )
            self._undo.append(lambda: self._logs.__delitem__(channel))
        return log

    def _epoch_of(self, channel: ChannelName) -> Epoch:
        return derived_epoch(self._meta[EPOCH_SEED], channel)

    def commit(self) -> None:
        """See `Store.commit`."""
        self._undo.clear()
        self._is_begun = False

    def rollback(self) -> None:
        """See `Store.rollback`."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._is_begun = False

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
        forgotten = self._forget(cutoff_ms(now_ms, self._options.idempotency_s))
        trimmed = 0
        step: list[_Log] = []
        while not time_slice.is_over():
            step = list(itertools.islice(self._sweep, _CHANNELS_A_STEP))
            if not step:
                break
            trimmed += sum(log.drop_oldest(log.num_expired(now_ms)) for log in step)
        if not step:
            self._sweep = None
            self._next_sweep_ms = now_ms + int(self._options.sweep_s * 1000)
        self._trimmed += trimmed
        return TrimReport(trimmed, forgotten, has_more=bool(step))

    def _forget(self, cutoff: int) -> int:
        """Forget results from the oldest on, up to the first that is young enough."""
        expired = itertools.takewhile(lambda item: item[1].at_ms < cutoff, self._known.items())
        old = [name for name, _ in expired]
        for name in old:
            del self._known[name]
        self._forgotten += len(old)
        return len(old)

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
            self._mismatches,
            self._trimmed,
            self._forgotten,
            len(self._logs),
            0,
        )


def _bounded(events: Sequence[StoredEvent], limit: int, max_bytes: int) -> int:
    """Return how many of the first events fit; one fits always."""
    size = 0
    for index, event in enumerate(events[:limit]):
        size += len(event.record)
        if index and size > max_bytes:
            return index
    return min(len(events), limit)
