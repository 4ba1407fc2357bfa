"""One life of the node: the real wiring of `server.Node` in simulated surroundings, and how it dies.

A death is not a cancellation: first the disk and the links are dead, then the tasks are cancelled, so that whatever `finally` blocks tidy up
reaches nobody.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import trio

from syncd.actors.bridge import Bridge
from syncd.actors.kit import NodeFailed
from syncd.config import Config
from syncd.http.serving import HttpServer
from syncd.membership import Membership
from syncd.model.definitions import AppDefinition
from syncd.model.recording import Untimed
from syncd.node_parts import store_options
from syncd.ports_bus import BusEvents
from syncd.server import Node
from syncd.store.base import Store, StoreOptions
from syncd.surroundings import Surroundings
from syncd.testing.simulation.air import SimulatedBus
from syncd.testing.simulation.disk import DiskStore, DiskWorker
from syncd.testing.simulation.links import Link
from syncd.testing.simulation.shared import NAMES, SharedStore

__all__ = ["Process", "wall_s"]

WALL_START_S = 1_700_000_000.0


def wall_s() -> float:
    """The wall clock of the simulation: a fixed date, going with Trio's clock."""
    return WALL_START_S + trio.current_time()


class _NoHttp:
    """Stands in for the HTTP server, which nobody calls here."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Nothing runs."""

    async def run(
        self, _listeners: object, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Nobody calls."""
        task_status.started()
        await trio.sleep_forever()

    async def serve(self, stream: trio.abc.Stream, head: bytes, *, keep_alive: bool) -> None:
        """Nobody speaks HTTP."""
        await trio.aclose_forcefully(stream)


class _Node(Node):
    """A node without HTTP: an application server takes 30 ms to make, and no client here asks it anything.

    Where it shares its store, its bus is simulated.
    """

    def _make_ways_to_others(self, store: Store) -> None:
        self.bridge = self.members = self.cluster = None
        if not isinstance(store, SharedStore):
            return
        self.members = Membership(self.config, self.name, self.surroundings)
        self.cluster, line = self.members.room, self.members.line

        def make_bus(events: BusEvents) -> SimulatedBus:
            bus = store.make_bus(line.tap(events))
            line.use(bus)
            return bus

        self.bridge = Bridge(
            node=self.name,
            names=NAMES,
            make_bus=make_bus,
            store=self.store,
            is_unsure=store.is_unsure,
            chance=self.surroundings.jitter,
        )

    def _make_http(self) -> HttpServer:
        return cast("HttpServer", _NoHttp())


class _NoHurry(Untimed):
    """Mutators take as long as they take: how busy the machine is, is not part of a seed."""

    @staticmethod
    def running() -> contextlib.AbstractContextManager[None]:
        """See `RunningTimekeeper`."""
        return contextlib.nullcontext()


class Process:
    """A node that runs, and can be killed."""

    def __init__(
        self,
        config: Config,
        app: AppDefinition,
        open_store: Callable[[StoreOptions], DiskStore | SharedStore],
        rng: random.Random,
        nursery: trio.Nursery,
        *,
        disk_s: float,
        name: str = "",
    ) -> None:
        """Make a node; `open_store` gives it its store, `name` is its own among those that share it."""
        self._rng = rng
        self._nursery = nursery
        self._disk_s = disk_s
        self._scope = trio.CancelScope()
        self._links: set[Link] = set()
        self._inner: trio.Nursery | None = None
        self.workers: list[DiskWorker] = []
        self.is_dead = False
        self.failure: str | None = None
        """Why it ended by itself."""
        self.ended = trio.Event()
        self._is_up = False
        surroundings = Surroundings(
            wall_s, trio.current_time, rng.randbytes, rng.random, self._make_worker, _NoHurry()
        )
        options = store_options(config, app, surroundings)
        self.store = open_store(options)
        self.node = _Node(config, cast("Store", self.store), app, surroundings, name)

    def _make_worker(self, _name: str) -> Any:
        worker = DiskWorker(self._nursery, self._rng, self._disk_s)
        self.workers.append(worker)
        return worker

    async def run(self) -> None:
        """Run until killed or stopped."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._inner:
                    await self.node.start(self._inner, [], [])
                    self._is_up = True
                    await trio.sleep_forever()
        except* NodeFailed as failures:
            self.failure = str(failures.exceptions[0])
        finally:
            self._is_up = False
            self.ended.set()

    async def stop(self) -> None:
        """Stop in good order, as on SIGTERM."""
        await self.node.stop()
        self._scope.cancel("stopped")

    def kill(self, rng: random.Random) -> None:
        """Die here and now; the disk was told before."""
        self.is_dead = True
        for link in sorted(self._links, key=lambda link: link.number):
            link.server_died(is_told=rng.random() < 0.7)
        for worker in self.workers:
            worker.kill()
        self._scope.cancel("killed")

    def connect(self, link: Link) -> None:
        """Serve a new connection."""
        if self._inner is None or not self._is_up or self.node.is_stopping:
            link.cut()
            return
        self._links.add(link)
        self._inner.start_soon(self._serve, link)

    async def _serve(self, link: Link) -> None:
        try:
            await self.node.gateway.serve_stream(link.server)
        finally:
            self._links.discard(link)
