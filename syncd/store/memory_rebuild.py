"""Rebuilds in memory; see `store.rebuilds`. Owned by `MemoryStore`. Lost with the process, as everything there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from syncd.ids import ChannelName, Position
from syncd.ports_log import Appended, AppendRequest, AppendResult, LoadedChannel
from syncd.ports_state import (
    Committed,
    DirtyKey,
    Entry,
    EntryWrite,
    KeyName,
    MutationCommit,
    MutationResult,
    TaggedKey,
)
from syncd.store.memory_loads import MemoryLoads
from syncd.store.memory_log import Undo
from syncd.store.memory_state import MemoryState
from syncd.store.rebuilds import (
    RebuildLease,
    RebuildStanding,
    ScannedRow,
    Swapped,
    SwapPlan,
    collection_of,
)

__all__ = ["MemoryRebuilds"]


@attrs.define(eq=False)
class _Generation:
    """A collection's lease and its rows; without a value, the entry stays as it is."""

    job: str
    token: int
    expires_ms: int
    fills: bool
    is_partial: bool
    is_open: bool = True
    after: str | None = None
    done: int = 0
    note: bytes = b""
    rows: dict[TaggedKey, ScannedRow | None] = attrs.field(factory=dict)
    touched: set[TaggedKey] = attrs.field(factory=set)

    def is_abandoned(self, now_ms: int) -> bool:
        """See `RebuildStanding`."""
        return self.is_open and 0 < self.expires_ms <= now_ms


class _Transactions(Protocol):
    """What of its store this uses."""

    def begin(self, batch: Sequence[AppendRequest]) -> list[AppendResult]: ...
    def begin_commit(self, group: Sequence[MutationCommit]) -> list[MutationResult]: ...
    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def load(self, channel: ChannelName, tail_events: int, tail_bytes: int) -> LoadedChannel: ...
    def entries(self, channel: ChannelName, keys: Sequence[KeyName]) -> list[Entry]: ...
    def channels(self, collection: str, limit: int) -> list[ChannelName]: ...
    def dirty(self, collection: str, after: TaggedKey | None, limit: int) -> list[DirtyKey]: ...
    def cut_log(self, channel: ChannelName) -> None: ...


class MemoryRebuilds:
    """`RebuildStore` in dicts."""

    def __init__(self, store: _Transactions, state: MemoryState, undo: list[Undo]) -> None:
        self._store = store
        self.loads = MemoryLoads(store)
        self._state = state
        self._undo = undo
        self._all: dict[str, _Generation] = {}

    def note(self, group: Sequence[MutationCommit], results: Sequence[MutationResult]) -> None:
        """Mark what a group has changed as touched, until its transaction is undone."""
        self.loads.note(group, results)
        for mutation, result in zip(group, results, strict=True):
            if not isinstance(result, Committed):
                continue
            for write in mutation.writes:
                generation = self._all.get(collection_of(write.channel))
                if generation is not None and generation.is_open:
                    place = (write.channel, write.key)
                    self._undo.append(_untouch(generation, place))
                    generation.touched.add(place)

    # -------------------------------------------------------------------------------------------- leases

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
        """See `RebuildStore.acquire`."""
        found, token = self._all.get(collection), 1
        if takes_over is not None and not (
            found is not None and found.token == takes_over and found.is_abandoned(now_ms)
        ):
            return None
        if found is not None:
            if found.expires_ms > now_ms:
                return found.job
            if found.job == job and not found.is_open:
                return None
            token = found.token + 1
            resumes = resumes or found.job == job
        kind = (fills, False)
        goes_on = resumes and not is_partial
        if found is None or not (
            goes_on and found.is_open and (found.fills, found.is_partial) == kind
        ):
            found = self._all[collection] = _Generation(job, token, 0, fills, is_partial)
            dirty = self._store.dirty(collection, None, 2**62)
            found.touched = {(each.channel, each.key) for each in dirty}
        found.job, found.token, found.expires_ms = job, token, now_ms + lease_ms
        found.note = note
        return RebuildLease(collection, job, token, found.after, found.done)

    def _held(self, lease: RebuildLease) -> _Generation | None:
        found = self._all.get(lease.collection)
        is_held = found is not None and found.token == lease.token and found.expires_ms > 0
        return found if is_held else None

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.renew`."""
        found = self._held(lease)
        if found is not None:
            found.expires_ms = now_ms + lease_ms
        return found is not None

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """See `RebuildStore.release`."""
        found = self._held(lease)
        if found is not None:
            self._end(found, is_open=keeps_generation)
        return found is not None

    def _end(self, generation: _Generation, *, is_open: bool) -> None:
        generation.expires_ms, generation.is_open = 0, is_open
        if not is_open:
            generation.rows.clear()
            generation.touched.clear()

    def revoke(self, collection: str, job: str) -> bool:
        """See `RebuildStore.revoke`."""
        found = self._all.get(collection)
        if found is None or found.job != job or not found.is_open:
            return False
        found.token += 1
        self._end(found, is_open=False)
        return True

    def standings(self, collections: Sequence[str], now_ms: int) -> list[RebuildStanding]:
        """See `RebuildStore.standings`: a test may have several nodes over one store in memory."""
        return [
            RebuildStanding(
                name,
                found.job,
                found.token,
                is_open=found.is_open,
                is_held=found.expires_ms > now_ms,
                is_abandoned=found.is_abandoned(now_ms),
                done=found.done,
                note=found.note,
            )
            for name in collections
            if (found := self._all.get(name)) is not None
        ]

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.hold`: nobody else is there."""
        return True

    def checkpoint(self, collection: str) -> tuple[str, int] | None:
        """See `RebuildStore.checkpoint`."""
        found = self._all.get(collection)
        return None if found is None or not found.is_open else (found.job, found.done)

    # -------------------------------------------------------------------------------------------- pages and the swap

    def write_page(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, done: int
    ) -> bool:
        """See `RebuildStore.write_page`."""
        found = self._held(lease)
        if found is None:
            return False
        for row in rows:
            entry = self._state.entry(row.channel, row.key)
            stays = entry is not None and (
                found.fills or (entry.value == row.value and tuple(entry.tags) == row.tags)
            )
            found.rows[row.channel, row.key] = None if stays else row
        found.after, found.done = after, done
        return True

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """See `RebuildStore.prepare`: there is nothing that the swap could be spared."""
        return None if self._held(lease) is None else False

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """See `RebuildStore.swap`."""
        found = self._held(lease)
        if found is None:
            return None
        try:
            writes = self._writes(lease.collection, found, plan)
            if len(writes) > plan.max_events:
                swapped = self._swap_whole(writes, plan)
            else:
                commit = MutationCommit(None, 0, [], writes, b"", plan.at_ms)
                result = self._store.begin_commit([commit])[0]
                assert isinstance(result, Committed), "it has no number and has read nothing"
                swapped = Swapped(len(writes), result.positions, writes, result.versions)
            self._store.commit()
        except BaseException:
            self._store.rollback()
            raise
        self._end(found, is_open=False)
        for channel in swapped.positions:
            self.loads.void(channel)
        return swapped

    def _writes(self, collection: str, generation: _Generation, plan: SwapPlan) -> list[EntryWrite]:
        rows, touched, record = generation.rows, generation.touched, plan.entry_record
        writes = [
            EntryWrite(*place, row.value, record(place[1], row.value), row.tags)
            for place, row in sorted(rows.items())
            if row is not None and place not in touched
        ]
        if not plan.deletes_missing:
            return writes
        kept = {(each.channel, each.key) for each in self._store.dirty(collection, None, 2**62)}
        kept |= touched
        among = frozenset(plan.among or ())
        for channel in self._store.channels(collection, 2**62):
            keys = [key for key in self._state.keys(channel) if (channel, key) not in rows]
            writes += [
                EntryWrite(channel, key, None, record(key, None))
                for key in keys
                if (channel, key) not in kept and (plan.among is None or (channel, key) in among)
            ]
        return writes

    def _swap_whole(self, writes: Sequence[EntryWrite], plan: SwapPlan) -> Swapped:
        positions: dict[ChannelName, Position] = {}
        for channel in dict.fromkeys(write.channel for write in writes):
            request = AppendRequest(channel, plan.whole_record, plan.at_ms)
            appended = self._store.begin([request])[0]
            assert isinstance(appended, Appended), "it has no idempotency key"
            positions[channel] = Position(appended.epoch, appended.offset)
            self._store.cut_log(channel)
        for write in writes:
            value, offset = write.value, positions[write.channel].offset
            entry = None if value is None else Entry(write.key, offset, value, write.tags)
            self._state.replace(write.channel, write.key, entry)
        return Swapped(len(writes), positions)


def _untouch(generation: _Generation, place: tuple[ChannelName, KeyName]) -> Undo:
    was_touched = place in generation.touched

    def undo() -> None:
        if not was_touched:
            generation.touched.discard(place)

    return undo
