"""Rebuilds in Redis; see `store.rebuilds`. Owned by `RedisStore`.

Scanned rows are written once, beside the entries, as a generation that is whole; a large swap exchanges names. What can be done before that is done in steps
(`redis_preparing`), what is left of former generations is swept in steps (`redis_trim`). A swap in which each change is told is planned in reads, since its
records are made here, and done by the script of commits, which leaves out what was touched meanwhile. No script grows with the entries of a collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgpack

from syncd.ids import ChannelName, Epoch, Position
from syncd.ports_state import EntryWrite, TaggedKey
from syncd.store.base import Slice
from syncd.store.preparing import MAX_LATE, ByLease
from syncd.store.rebuilds import RebuildLease, RebuildStanding, ScannedRow, Swapped, SwapPlan
from syncd.store.redis_batch import Batch
from syncd.store.redis_loads import RedisLoads
from syncd.store.redis_preparing import Preparing
from syncd.store.redis_scripts import LEASE, REBUILD, REBUILD_PLAN, Script
from syncd.store.redis_state import place_from, ranges_inside

__all__ = ["RedisRebuilds"]

MAX_ROWS, MAX_WEIGHT = 200, 256 * 1024
"""Of one script: some ms. A page is as many of them as it needs, the last of which moves the checkpoint."""


class _Scripts(Protocol):
    """What of its store this uses."""

    @property
    def publishing(self) -> list[Any]: ...
    def run(self, script: Script, make: Callable[[], list[Any]]) -> Any: ...
    def describe(self, channel: ChannelName) -> list[Any]: ...
    def hand_over(self) -> None: ...
    def channels(
        self, collection: str, limit: int, after: ChannelName | None = None
    ) -> list[ChannelName]: ...
    def new_batch(self) -> Batch: ...
    def commit_batch(self, batch: Batch) -> None: ...


class RedisRebuilds:
    """`RebuildStore` on a server."""

    def __init__(self, store: _Scripts, timer: Callable[[], float], *, server_clock: bool) -> None:
        self._store = store
        self.loads = RedisLoads(store)
        self._server_clock = server_clock
        self._timer = timer
        self._preparing: ByLease[Preparing] = ByLease()
        self._done: dict[str, tuple[int, int]] = {}
        """Token, and rows that it is known to have written, by collection: fewer there are when Redis has lost the end of its data."""

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
        self._preparing.forget(collection)
        # One that only fills deletes nothing, so that resuming a part of it as if it were all does no harm.
        kind = "part" if is_partial and not fills else fills
        args = (job, self._now(now_ms), lease_ms, resumes, kind, is_partial)
        found = self._change("acquire", collection, *args, note, takes_over or False)
        if found is None:
            return None
        if isinstance(found, bytes):
            return found.decode()
        token, after, done, is_marked = found
        if not is_marked:
            self._mark_dirty(collection, token)
        self._done[collection] = token, done
        return RebuildLease(collection, job, token, None if after is None else after.decode(), done)

    def _mark_dirty(self, collection: str, token: int) -> None:
        """Count what the application was not told of as touched. What is acknowledged now is in the source before it is scanned."""
        after: TaggedKey | None = None
        while True:
            found = self._change("mark", collection, token, ranges_inside(collection, after))
            if found is None:
                return
            after = place_from(found)

    def renew(self, lease: RebuildLease, now_ms: int, lease_ms: int) -> bool:
        """See `RebuildStore.renew`."""
        args = (lease.token, self._now(now_ms), lease_ms)
        return bool(self._change("renew", lease.collection, *args))

    def release(self, lease: RebuildLease, *, keeps_generation: bool) -> bool:
        """See `RebuildStore.release`."""
        self._preparing.forget(lease.collection)
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
        *first, last = _parts(rows)
        about = (lease.collection, lease.token, self._known_done(lease), done)
        steps: list[tuple[Any, ...]] = [*((part,) for part in first), (last, after)]
        if not all(self._change("page", *about, *step) for step in steps):
            return False
        self._done[lease.collection] = lease.token, done
        return True

    def _known_done(self, lease: RebuildLease) -> int | bool:
        token, done = self._done.get(lease.collection, (0, 0))
        return token == lease.token and done

    def _holds(self, lease: RebuildLease) -> bool:
        done = self._known_done(lease)
        return bool(self._plan("holds", lease.collection, lease.token, done))

    def prepare(self, lease: RebuildLease, plan: SwapPlan, budget_s: float) -> bool | None:
        """See `RebuildStore.prepare`."""
        try:
            if not self._holds(lease):
                return None
            return self._prepared(lease, plan).go_on(Slice(self._timer, budget_s))
        except BaseException:
            self._preparing.forget(lease.collection)
            raise

    def _prepared(self, lease: RebuildLease, plan: SwapPlan) -> Preparing:
        about = (self._plan, self._change, self._store.channels, lease, plan)
        return self._preparing.of(lease, lambda: Preparing(*about))

    def swap(self, lease: RebuildLease, plan: SwapPlan) -> Swapped | None:
        """See `RebuildStore.swap`."""
        try:
            if not self._holds(lease):
                return None
            prepared = self._prepared(lease, plan)
            prepared.finish()
            if prepared.is_whole:
                return self._swap_whole(lease, prepared)
            return self._swap_each(lease, plan, prepared)
        finally:
            self._preparing.forget(lease.collection)

    def _writes(self, lease: RebuildLease, plan: SwapPlan, prepared: Preparing) -> list[EntryWrite]:
        record = plan.entry_record
        writes = [
            EntryWrite(*place, value, record(place[1], value), tags)
            for place, tags, value in self._listed(lease.collection)
        ]
        return writes + [
            EntryWrite(*place, None, record(place[1], None)) for place in prepared.missing
        ]

    def _listed(self, collection: str) -> Iterator[tuple[TaggedKey, tuple[str, ...], bytes]]:
        """Yield what changes, in order."""
        after = b"-"
        while True:
            last, *found = self._plan("listed", collection, after)
            if last is None:
                return
            for n in range(0, len(found), 2):
                yield place_from(found[n]), *_row_from(found[n + 1])
            after = b"(" + last

    def _swap_each(
        self, lease: RebuildLease, plan: SwapPlan, prepared: Preparing
    ) -> Swapped | None:
        writes, batch = self._writes(lease, plan, prepared), self._store.new_batch()
        results = batch.swap(lease.collection, lease.token, writes, plan.at_ms)
        self._store.commit_batch(batch)
        done = results[0]
        if done is None:
            return None
        positions = {write.channel: position for write, position in done}
        told = [write for write, _ in done]
        return Swapped(len(done), positions, told, [position.offset for _, position in done])

    def _swap_whole(self, lease: RebuildLease, prepared: Preparing) -> Swapped | None:
        changes = prepared.changes()

        def make() -> list[Any]:
            # Counted anew there, for less may have changed by now; what is missing is not among the rows.
            channels = [[self._store.describe(name), missing] for name, missing in changes]
            swap = ["whole", lease.collection, lease.token, channels]
            return [*swap, *self._store.publishing, MAX_LATE]

        while isinstance(reply := self._store.run(REBUILD, make), int):
            prepared.finish()  # others were faster: so much was touched since
        if reply is None:
            return None
        positions = {
            ChannelName(reply[n].decode()): Position(Epoch(reply[n + 1].decode()), reply[n + 2])
            for n in range(1, len(reply), 3)
        }
        return Swapped(reply[0], positions)


def _parts(rows: Sequence[ScannedRow]) -> list[list[Any]]:
    """Return rows as scripts take them, some for each script, one of them at least; of two rows of a key the later one counts."""
    parts, size, weight = [dict[ChannelName, list[Any]]()], 0, 0
    for row in {(row.channel, row.key): row for row in rows}.values():
        if size == MAX_ROWS or (size and weight + len(row.value) > MAX_WEIGHT):
            parts.append({})
            size = weight = 0
        size, weight = size + 1, weight + len(row.value)
        parts[-1].setdefault(row.channel, []).extend((row.key, row.value, list(row.tags)))
    return [[each for item in part.items() for each in item] for part in parts]


def _row_from(raw: bytes) -> tuple[tuple[str, ...], bytes]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(raw)
    _version, tags = unpacker.unpack()
    return tuple(tags), raw[unpacker.tell() :]
