"""Rebuilds in Redis; see `store.rebuilds`. Owned by `RedisStore`.

A swap in which each change is told is planned in reads, since its records are made here, and then done by the script of commits, which
leaves out what was touched meanwhile. A larger one is one script of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgpack

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_state import EntryWrite
from syncd.store.rebuilds import RebuildLease, RebuildStanding, ScannedRow, Swapped, SwapPlan
from syncd.store.redis_batch import Batch, event_bytes
from syncd.store.redis_loads import RedisLoads
from syncd.store.redis_scripts import LEASE, REBUILD, REBUILD_PLAN, Script
from syncd.store.redis_state import place_from, ranges_inside

__all__ = ["RedisRebuilds"]

_ALL = 2**31

SWAP_S = 120.0
"""A large swap is one script, which holds the server for some 10 to 20 µs a row."""


class _Scripts(Protocol):
    """What of its store this uses."""

    @property
    def publishing(self) -> list[Any]: ...
    def run(
        self, script: Script, make: Callable[[], list[Any]], timeout_s: float | None = None
    ) -> Any: ...
    def describe(self, channel: ChannelName) -> list[Any]: ...
    def hand_over(self) -> None: ...
    def channels(self, collection: str, limit: int) -> list[ChannelName]: ...
    def new_batch(self) -> Batch: ...
    def commit_batch(self, batch: Batch) -> None: ...


class RedisRebuilds:
    """`RebuildStore` on a server."""

    def __init__(self, store: _Scripts, *, server_clock: bool) -> None:
        self._store = store
        self.loads = RedisLoads(store)
        self._server_clock = server_clock

    def _now(self, now_ms: int) -> int | bool:
        return False if self._server_clock else now_ms

    def _change(self, what: str, collection: str, *args: Any) -> Any:
        return self._store.run(REBUILD, lambda: [what, collection, *args])

    def _plan(self, what: str, collection: str, *args: Any) -> Any:
        return self._store.run(REBUILD_PLAN, lambda: [what, collection, *args])

    # -------------------------------------------------------------------------------------------- leases

    def hold(self, name: str, holder: str, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.hold`."""
        return bool(self._store.run(LEASE, lambda: [name, holder, lease_ms]))

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
        self._store.hand_over()
        ranges = ranges_inside(collection, None)
        # One that only fills deletes nothing, so that resuming a part of it as if it were all does no harm.
        kind = "part" if is_partial and not fills else fills
        args = (job, self._now(now_ms), lease_ms, resumes, kind, ranges, is_partial)
        found = self._change("acquire", collection, *args, note, takes_over or False)
        if found is None:
            return None
        if isinstance(found, bytes):
            return found.decode()
        token, after, done = found
        return RebuildLease(collection, job, token, None if after is None else after.decode(), done)

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.renew`."""
        args = (lease.token, self._now(now_ms), lease_ms)
        return bool(self._change("renew", lease.collection, *args))

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """See `RebuildStore.release`."""
        return bool(self._change("release", lease.collection, lease.token, keeps_generation))

    def revoke(self, collection: str, job: str) -> bool:
        """See `RebuildStore.revoke`."""
        return bool(self._change("revoke", collection, job))

    def standings(self, collections: Sequence[str], now_ms: int) -> list[RebuildStanding]:
        """See `RebuildStore.standings`."""
        found = self._plan("standings", "", self._now(now_ms), list(collections))
        return [
            RebuildStanding(
                name.decode(),
                job.decode(),
                token,
                bool(is_open),
                bool(is_held),
                bool(is_left),
                done,
                note,
            )
            for name, job, token, is_open, is_held, is_left, done, note in found
        ]

    def checkpoint(self, collection: str) -> tuple[str, int] | None:
        """See `RebuildStore.checkpoint`."""
        found = self._plan("checkpoint", collection)
        return None if found is None else (found[0].decode(), found[1])

    # -------------------------------------------------------------------------------------------- pages and the swap

    def write_page(
        self, lease: RebuildLease, rows: Sequence[ScannedRow], after: str, done: int
    ) -> bool:
        """See `RebuildStore.write_page`."""
        scanned = [[row.channel, row.key, row.value, list(row.tags)] for row in rows]
        return bool(self._change("page", lease.collection, lease.token, scanned, after, done))

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """See `RebuildStore.prepare`: so far the swap does everything."""
        return False if self._plan("holds", lease.collection, lease.token) else None

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """See `RebuildStore.swap`."""
        collection = lease.collection
        if not self._plan("holds", collection, lease.token):
            return None
        channels = set(self._store.channels(collection, _ALL))
        scanned = self._plan("channels", collection)
        channels |= {ChannelName(name.decode()) for name in scanned}
        writes = self._writes(collection, sorted(channels), plan)
        if len(writes) > plan.max_events and plan.among is None:
            return self._swap_whole(lease, sorted(channels), plan)
        return self._swap_each(lease, writes, plan)

    def _writes(
        self, collection: str, channels: Sequence[ChannelName], plan: SwapPlan
    ) -> list[EntryWrite]:
        """Return what would change, one more than can be told each for itself at most."""
        among = None if plan.among is None else frozenset(plan.among)
        most, record = plan.max_events + 1 if among is None else _ALL, plan.entry_record
        writes = []
        found = self._plan("changed", collection, most)
        for n in range(0, len(found), 2):
            channel, key = place_from(found[n])
            tags, value = _row_from(found[n + 1])
            writes.append(EntryWrite(channel, key, value, record(key, value), tags))
        if plan.deletes_missing and len(writes) < most:
            for place in self._plan("missing", collection, most - len(writes), list(channels)):
                channel, key = place_from(place)
                if among is None or (channel, key) in among:
                    writes.append(EntryWrite(channel, key, None, record(key, None)))
        return writes

    def _swap_each(
        self, lease: RebuildLease, writes: Sequence[EntryWrite], plan: SwapPlan
    ) -> Swapped | None:
        batch = self._store.new_batch()
        results = batch.swap(lease.collection, lease.token, writes, plan.at_ms)
        self._store.commit_batch(batch)
        done = results[0]
        if done is None:
            return None
        positions = {write.channel: position for write, position in done}
        told = [write for write, _ in done]
        return Swapped(len(done), positions, told, [position.offset for _, position in done])

    def _swap_whole(
        self, lease: RebuildLease, channels: Sequence[ChannelName], plan: SwapPlan
    ) -> Swapped | None:
        blob = event_bytes(plan.at_ms, None, plan.whole_record)
        described = self._store.describe
        reply = self._store.run(
            REBUILD,
            lambda: [
                "whole",
                lease.collection,
                lease.token,
                [described(channel) for channel in channels],
                plan.deletes_missing,
                blob,
                *self._store.publishing,
            ],
            timeout_s=SWAP_S,
        )
        if reply is None:
            return None
        positions = {
            ChannelName(reply[n].decode()): Position(Epoch(reply[n + 1].decode()), reply[n + 2])
            for n in range(1, len(reply), 3)
        }
        return Swapped(reply[0], positions)


def _row_from(raw: bytes) -> tuple[tuple[str, ...], bytes]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw)
    tags = tuple(unpacker.unpack())
    return tags, raw[unpacker.tell() :]
