"""A rebuild-coordinator alone: a store in memory asked inline, a scanner that does as it is told, Trio's autojump clock."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import attrs
import trio

from syncd.actors.rebuild_coordinator import RebuildCoordinator
from syncd.app import App
from syncd.ids import ChannelName
from syncd.model.audit import AuditLog
from syncd.model.rebuild_plan import wish_of
from syncd.model.reserved import JOBS_CHANNEL
from syncd.store.base import Retention, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.rebuilds import SwapPlan

ORDERS = ChannelName("orders")


@attrs.define
class Source:
    """Rows by key. `failures` has exceptions to be raised, by the number of the row before which; `pause_s` is taken for each row."""

    rows: dict[str, Any] = attrs.field(factory=dict)
    failures: dict[int, list[Exception]] = attrs.field(factory=dict)
    pause_s: float = 0.0
    calls: list[tuple[float, str | None]] = attrs.field(factory=list)
    num_scanned: int = 0
    num_at_once: int = 0
    most_at_once: int = 0

    async def scan(self, after):
        self.calls.append((trio.current_time(), after))
        self.num_at_once += 1
        self.most_at_once = max(self.most_at_once, self.num_at_once)
        try:
            for key in sorted(self.rows):
                if after is not None and key <= after:
                    continue
                if self.failures.get(self.num_scanned):
                    raise self.failures[self.num_scanned].pop()
                await trio.sleep(self.pause_s)
                self.num_scanned += 1
                yield key, self.rows[key]
        finally:
            self.num_at_once -= 1


@attrs.define
class ToldNews:
    """Notes what is told; `is_full` refuses it."""

    told: list[tuple[float, str, dict[str, Any]]] = attrs.field(factory=list)
    jobs: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    is_full: bool = False

    def tell(self, channel, name, data, *, key=None):
        if self.is_full:
            return False
        if key is not None:
            self.jobs[key] = dict(data)
        else:
            self.told.append((trio.current_time(), channel, dict(data)))
        return True

    async def recall(self, channel, limit):
        await trio.lowlevel.checkpoint()
        if channel == JOBS_CHANNEL:
            return list(self.jobs.values())[-limit:]
        return [data for _, where, data in self.told if where == channel][-limit:]

    def of(self, collection):
        return [
            (at, data) for at, channel, data in self.told if channel == f"$rebuild:{collection}"
        ]


class World:
    """Any number of nodes over one store, each with a coordinator; `is_shared`: they know of each other."""

    def __init__(self, *collections, page=10, every=None, is_shared=False):
        self.is_shared = is_shared
        names = collections or ("orders",)
        self.sources = {name: Source() for name in names}
        self.page, self.every = page, every
        self.store = MemoryStore(StoreOptions(retention_of=lambda _: Retention(1000, 3600.0)))
        self.store.open()
        self.is_store_away = False
        self.waiting = []
        self.num_invalidations = 0
        self.audit = []
        self._ids = itertools.count(1)
        self.news = ToldNews()

    @property
    def source(self):
        return self.sources["orders"]

    def rebuild(self, work, done):
        """The store actor; away, it answers when it is back."""
        if self.is_store_away:
            self.waiting.append((work, done))
        else:
            done(work(self.store.rebuilds))

    def come_back(self):
        """Do what was asked meanwhile."""
        self.is_store_away = False
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            done(work(self.store.rebuilds))

    def read_state(self, ask, done):
        done(ask(self.store))

    def swap(self, message):
        plan = SwapPlan(
            at_ms=1,
            deletes_missing=message.deletes_missing,
            max_events=1000,
            entry_record=lambda _key, value: value or b"-",
            whole_record=b"all",
            among=message.among,
        )
        while self.store.rebuilds.prepare(message.lease, plan, 0.005):
            pass
        message.done(self.store.rebuilds.swap(message.lease, plan))

    def values(self, collection="orders"):
        found = self.store.scan(ChannelName(collection), None, 10_000, 10**9)
        return {entry.key: entry.value for entry in found.entries}

    def wall_ms(self):
        return 1_800_000_000_000 + int(trio.current_time() * 1000)

    def coordinator(self, news=None, store=None):
        app = App()
        for name, source in self.sources.items():
            collection = app.collection(name, read="anyone", every=self.every)
            collection.scanner(page=self.page)(source.scan)
        return RebuildCoordinator(
            app.definition(),
            store=store or self,
            swap=self.swap,
            num_invalidations=lambda _name: self.num_invalidations,
            wall_ms=self.wall_ms,
            new_id=lambda: f"job{next(self._ids)}",
            chance=lambda: 0.0,
            audit=AuditLog(self.wall_ms, self.audit.append),
            news=news or self.news,
            is_shared=self.is_shared,
        )

    @contextlib.asynccontextmanager
    async def node(self, news=None):
        """Run a coordinator; leaving the block is as a crash of its node: nothing is given back."""
        coordinator = self.coordinator(news)
        async with trio.open_nursery() as nursery:
            await nursery.start(coordinator.run)
            try:
                yield coordinator
            finally:
                self.is_store_away = True
                nursery.cancel_scope.cancel("crashed")
        self.is_store_away, self.waiting = False, []


class Link:
    """One node's way to the store and to what is told, for nodes that share both: cut, nothing is asked or told, and nothing is answered.

    What was asked meanwhile is done when it is back, as by a process that stood still.
    """

    def __init__(self, world):
        self._world = world
        self.is_cut = False
        self._waiting = []
        self.num_swaps = 0

    def rebuild(self, work, done):
        self._do(lambda: done(work(self._world.store.rebuilds)))

    def read_state(self, ask, done):
        self._do(lambda: done(ask(self._world.store)))

    def tell(self, channel, name, data, *, key=None):
        return not self.is_cut and self._world.news.tell(channel, name, data, key=key)

    async def recall(self, channel, limit):
        return [] if self.is_cut else await self._world.news.recall(channel, limit)

    def _do(self, work):
        if self.is_cut:
            self._waiting.append(work)
        else:
            work()

    def come_back(self):
        self.is_cut = False
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()


@contextlib.asynccontextmanager
async def linked_node(world):
    """Run a node of a cluster; yields its coordinator and its link. Leaving the block is as a crash."""
    link = Link(world)
    coordinator = world.coordinator(link, link)
    async with trio.open_nursery() as nursery:
        await nursery.start(coordinator.run)
        try:
            yield coordinator, link
        finally:
            link.is_cut = True
            nursery.cancel_scope.cancel("crashed")


def start(coordinator, collection="orders", **wish):
    joins = wish.pop("joins", False)
    return coordinator.start(collection, wish_of(**wish), joins=joins, who="user:ann")["job"]


async def ended(coordinator, job, limit_s=300):
    """Wait until a job has ended, and return it."""
    with trio.fail_after(limit_s):
        while coordinator.job(job)["state"] in ("queued", "running", "swapping"):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.05)
    return coordinator.job(job)
