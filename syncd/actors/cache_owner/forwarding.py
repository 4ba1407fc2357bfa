"""Writing behind: telling the application of committed changes, at least once, in order per key, until it has acknowledged them.

Owner of: which changes wait and which are being told. A key is dirty from the commit that changed it (in the store, with it) until its newest
change was acknowledged; after a crash the store says which are. Several changes of a key that nobody has taken yet are told as one, the
newest: what the application gets is always what the entry is.
"""

from __future__ import annotations

import collections
import heapq
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import structlog
import trio

from syncd.actors.cache_owner.holdings import Holding, Holdings, value_of
from syncd.actors.cache_owner.messages import ChangeForwarded
from syncd.actors.kit import Reply
from syncd.actors.kit_application import application_code
from syncd.errors import SyncdError
from syncd.ids import ChannelName, Epoch, Position
from syncd.model.definitions import EntryChange
from syncd.model.recording import Place
from syncd.ports_log import LogQuery
from syncd.ports_state import DirtyKey, Entry, KeyName, LookedUp, StateReader, StateStoreHandle

__all__ = ["Forwarding"]

_log = structlog.get_logger("syncd.forwarding")

WORKERS = 16
"""Changes of one collection being told at the same time, each of another key."""
DIRTY_PER_READ = 500
MAX_DIRTY = 50_000
"""Keys of one collection kept in memory as dirty. Policy when full: the rest waits in the store and is read later."""
STORE_RETRY_S = 1.0


class Forwarding:
    """The writing-behind half of the cache-owner."""

    def __init__(
        self,
        holdings: Holdings,
        store: StateStoreHandle,
        *,
        post: Callable[[ChangeForwarded], None],
        chance: Callable[[], float],
    ) -> None:
        self._holdings = holdings
        self._store = store
        self._post = post
        self._chance = chance
        self.nursery: trio.Nursery
        self._waiting: dict[str, collections.deque[Place]] = {}
        self._telling: set[Place] = set()
        """Wait, are being told, or are to be told again."""
        self._again: list[tuple[float, int, Place]] = []
        """A heap: when to tell a change again that the application did not take."""
        self._num_failed: dict[Place, int] = {}
        """How often in a row."""
        self._num_failed_in_row: dict[str, int] = {}
        """By collection, since any change of it was taken."""
        self._serial = itertools.count()
        self._num_overflows = 0
        self.is_ours: Callable[[Holding], bool] = lambda _holding: True
        """Whether this node tells a collection's changes; see `Turns`, which sets it."""

    async def read_dirty(self) -> None:
        """Learn from the store what was not acknowledged before this start. Nothing may be loaded before. Waits for the store."""
        for holding in self._holdings.by_name.values():
            if holding.definition.on_commit is not None:
                await self.read_dirty_of(holding)

    async def read_dirty_of(self, holding: Holding, *, is_guarded: bool = False) -> None:
        """Learn from the store what is dirty of one collection, and have it told. Waits for the store.

        Args:
            is_guarded: The store itself refuses what a source has of dirty keys: meanwhile not every key need be taken for one.
        """
        after: Place | None = None
        holding.has_unread_dirty = not is_guarded
        num_overflows = self._num_overflows
        while len(holding.dirty) < MAX_DIRTY:
            page = await self._ask(lambda reader: reader.dirty(holding.name, after, DIRTY_PER_READ))  # noqa: B023 - awaited here
            for each in page:
                self._note(holding, each)
            if len(page) < DIRTY_PER_READ:
                # What found no room meanwhile may lie before the pages read since.
                holding.has_unread_dirty = num_overflows != self._num_overflows
                return
            after = (page[-1].channel, page[-1].key)

    def _note(self, holding: Holding, dirty: DirtyKey) -> None:
        place = (dirty.channel, dirty.key)
        if holding.dirty.get(place, -1) < dirty.version:
            holding.dirty[place] = dirty.version
        self.changed(place)

    async def _ask(self, work: Callable[[StateReader], Any]) -> Any:
        """Read from the store, however long that takes."""
        while True:
            reply: Reply[Any] = Reply()
            self._store.read_state(work, reply.settle)
            try:
                return await reply.wait()
            except SyncdError:
                await trio.sleep(STORE_RETRY_S)

    # ---------------------------------------------------------------- changes

    def changed(self, place: Place) -> None:
        """An entry was committed, and is dirty: have the application told."""
        holding = self._holdings.of_channel(place[0])
        assert holding is not None, "entries belong to collections"
        if not self.is_ours(holding):
            holding.dirty.pop(place, None)
            holding.dirty_elsewhere.add(place)
            return
        if len(holding.dirty) > MAX_DIRTY:
            holding.dirty.pop(place, None)
            holding.has_unread_dirty = True
            self._num_overflows += 1
            return
        if place not in self._telling:
            self._telling.add(place)
            self._waiting.setdefault(holding.name, collections.deque()).append(place)

    def is_told_here(self, holding: Holding) -> bool:
        """Whether this node tells the application of a collection's changes."""
        return holding.is_forwarded and self.is_ours(holding)

    def heard(self, holding: Holding, place: Place, version: int) -> None:
        """Another node has committed a change."""
        if self.is_ours(holding):
            holding.dirty[place] = max(version, holding.dirty.get(place, 0))
        self.changed(place)

    def leave_to_others(self, holding: Holding) -> None:
        """It is not for this node any more to tell a collection's changes; what is being told goes on."""
        waiting = self._waiting.pop(holding.name, ())
        again = [each for each in self._again if self._holdings.of_channel(each[2][0]) is holding]
        for place in (*waiting, *(each[2] for each in again)):
            self._telling.discard(place)
        self._again = [each for each in self._again if each not in again]
        heapq.heapify(self._again)
        holding.dirty_elsewhere.update(holding.dirty)
        holding.dirty.clear()
        holding.has_unread_dirty = False

    def start(self) -> None:
        """Begin to tell what there is room for."""
        again, now = self._again, trio.current_time()
        while again and again[0][0] <= now:
            place = heapq.heappop(again)[2]
            holding = self._holdings.of_channel(place[0])
            assert holding is not None, "entries belong to collections"
            self._waiting.setdefault(holding.name, collections.deque()).append(place)
        for holding in self._holdings.by_name.values():
            waiting = self._waiting.get(holding.name, ())
            while waiting and holding.num_forwarding < WORKERS:
                holding.num_forwarding += 1
                self.nursery.start_soon(self._tell, holding, waiting.popleft())
            has_room = (
                len(holding.dirty) <= MAX_DIRTY // 2
            )  # not for each one: reading begins at the first
            if holding.has_unread_dirty and has_room and not waiting and not holding.num_forwarding:
                holding.num_forwarding += 1
                self.nursery.start_soon(self._read_more, holding)

    async def _read_more(self, holding: Holding) -> None:
        await self.read_dirty_of(holding)
        holding.num_forwarding -= 1
        self._post(ChangeForwarded(holding))

    async def _tell(self, holding: Holding, place: Place) -> None:
        """Tell one key's newest change; if the application does not take it, others have its place until it is told again."""
        definition = holding.definition
        call = definition.on_commit
        assert call is not None, "only such collections have dirty keys"
        noted = holding.dirty.get(place, 0)  # before: what comes meanwhile is told again
        change = await self._change(holding, place, noted)
        if change is None:
            self._post(ChangeForwarded(holding, place, noted))
            return
        try:
            with trio.fail_after(definition.on_commit_timeout_s), application_code:
                await call(change)
        except Exception as failure:  # noqa: BLE001 - isolation: whatever the application raises, the change is told again
            pause_s = self._failed(holding, place, failure)
            await trio.sleep(pause_s)
            holding.num_forwarding -= 1
            self._post(ChangeForwarded(holding))
        else:
            self._num_failed_in_row[holding.name] = 0
            told = Position(Epoch(change.epoch), change.version)
            self._post(ChangeForwarded(holding, place, noted, told))

    def _failed(self, holding: Holding, place: Place, failure: Exception) -> float:
        """Note when to tell a change again; return for how long its place stays empty, so that a source in trouble has peace."""
        holding.counts.forward_failures += 1
        num_failed = self._num_failed[place] = self._num_failed.get(place, 0) + 1
        in_row = self._num_failed_in_row[holding.name] = (
            self._num_failed_in_row.get(holding.name, 0) + 1
        )
        if num_failed == 1:
            name, key = holding.name, place[1]
            _log.error("on_commit_failed", collection=name, key=key, exc_info=failure)
        at = trio.current_time() + self._wait_s(holding, num_failed)
        heapq.heappush(self._again, (at, next(self._serial), place))
        return self._wait_s(holding, in_row // WORKERS)

    def _wait_s(self, holding: Holding, num_failed: int) -> float:
        if not num_failed:
            return 0.0
        definition = holding.definition
        longest_s = definition.on_commit_retry_s * 2.0 ** min(num_failed - 1, 30)
        return min(longest_s, definition.on_commit_max_retry_s) * (1.0 - self._chance() / 2)

    async def _change(self, holding: Holding, place: Place, noted: int) -> EntryChange | None:
        """Return what an entry is now, with the version of its newest dirty change; None if it is not dirty.

        Where others have the store, it says which version that is: what is noted here may be of a life of the channel that is over.
        """
        (channel, key), is_shared = place, self._holdings.is_shared
        dirty = None if is_shared else noted
        page, version, event = await self._ask(lambda reader: _newest(reader, channel, key, dirty))
        if is_shared and key not in page.dirty:
            return None
        entry: Entry | None = page.entries[0] if page.entries else None
        value = None if entry is None else value_of(entry.value)
        author = event.get("by") or {}
        return EntryChange(
            holding.name,
            key,
            version,
            page.position.epoch,
            None if value is None else msgpack.unpackb(value),
            is_deleted=value is None,
            tags=() if entry is None else entry.tags,
            client=author.get("client"),
            mid=author.get("mid", 0),
            at_ms=event.get("at_ms", 0),
        )

    def forwarded(self, message: ChangeForwarded) -> None:
        """The application has acknowledged a change; a newer one meanwhile is told next."""
        place, holding = message.place, message.holding
        if place is None or self._holdings.by_name.get(holding.name) is not holding:
            return  # there is room for another; or of before a crash: it is told again
        holding.num_forwarding -= 1
        self._telling.discard(place)
        self._num_failed.pop(place, None)
        change, dirty = message.change, holding.dirty.get(place, 0)
        if change is not None:
            holding.counts.forwarded += 1
            self._store.acknowledge_forwarded(*place, change.offset, change.epoch)
        # A load that began before may have read the source as it was before this change.
        self._holdings.outdate(place)
        holding.dirty_elsewhere.discard(place)
        # Versions of two lives of a channel do not compare, so what others may have renewed is looked at once more.
        is_told = change is not None and not self._holdings.is_shared and dirty <= change.offset
        if is_told or dirty in (0, message.noted):
            holding.dirty.pop(place, None)
        else:
            self.changed(place)


def _newest(
    reader: StateReader, channel: ChannelName, key: KeyName, dirty: int | None
) -> tuple[LookedUp, int, Mapping[str, Any]]:
    """Read an entry, its version or that of its newest dirty change (None: as the store says), and the event of that.

    The event is empty when the log does not go back so far.
    """
    page = reader.look_up(channel, [key], with_dirty=dirty is None)
    version = page.dirty.get(key, 0) if dirty is None else dirty
    if page.entries:
        version = max(version, page.entries[0].version)
    log = reader.read(LogQuery(channel, after=version - 1, limit=1)) if version else None
    if log is None or not log.events or log.events[0].offset != version:
        return page, version, {}
    record = log.events[0].record
    return page, version, msgpack.unpackb(bytes((0x80 | record[0],)) + record[1:])
