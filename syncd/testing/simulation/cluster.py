"""The world of several nodes: one store that never dies, nodes that do, an air between them, and clients that land anywhere."""

from __future__ import annotations

from pathlib import Path

import attrs
import trio

from syncd.config import HistoryKind
from syncd.model.definitions import AppDefinition
from syncd.model.definitions_check import app_in_force
from syncd.node_parts import store_options
from syncd.store.base import StoreOptions
from syncd.surroundings import Surroundings
from syncd.testing.simulation.air import Air, Copy
from syncd.testing.simulation.hearing import Hearing
from syncd.testing.simulation.ledger import Kept
from syncd.testing.simulation.links import Link
from syncd.testing.simulation.nemesis import Nemesis
from syncd.testing.simulation.plan import Plan
from syncd.testing.simulation.process import Process, wall_s
from syncd.testing.simulation.shared import SharedStore
from syncd.testing.simulation.shell import Shell
from syncd.testing.simulation.shop import make_app
from syncd.testing.simulation.user import User
from syncd.testing.simulation.world import World

__all__ = ["ClusterNemesis", "ClusterWorld"]

LOST = 0.002
LOST_REPLIES = 0.01


class ClusterWorld(World):
    """Everything of one run with several nodes."""

    def __init__(self, plan: Plan, folder: Path, nursery: trio.Nursery, *, is_traced: bool) -> None:
        super().__init__(plan, folder, nursery, is_traced=is_traced)
        namespaces = {
            name: attrs.evolve(each, history=HistoryKind.DURABLE)
            for name, each in self.config.namespaces.items()
        }
        self.config = attrs.evolve(self.config, namespaces=namespaces)
        self.processes: list[Process] = []
        self.hearing = Hearing(self)
        rng = self.stream("store")
        surroundings = Surroundings(wall_s, trio.current_time, rng.randbytes, rng.random)
        options = store_options(self.config, self._app(), surroundings)
        self.air = Air(self.stream("air"), self.disk, options, trio.current_time)
        self.air.counts, self.air.nursery = self.counts, nursery
        self.air.latency_s = plan.bus_latency_s or plan.latency_s / 4
        self.air.lost, self.air.lost_replies = LOST, LOST_REPLIES
        self.air.late = plan.late_commits
        self._homes: dict[Link, Process] = {}
        self._homes_rng = self.stream("homes")
        self._copy: tuple[Copy, Kept] | None = None
        self.replicate()

    def _app(self) -> AppDefinition:
        app = make_app(self.source, self.plan.account_ttl_s)
        return app_in_force(app.definition(), self.config)

    # -------------------------------------------------------------------------------- processes

    def boot(self) -> None:
        """Start as many nodes as are missing."""
        while len(self.processes) < self.plan.num_nodes:
            self._boot_one()
        self.process = self.processes[0]

    def _boot_one(self) -> None:
        number = self.counts["boots"]
        name = f"n{number}"
        self.note(f"{name} starts")
        store = SharedStore(self.air, name)

        def open_store(_options: StoreOptions) -> SharedStore:
            return store

        process = Process(
            self.config,
            self._app(),
            open_store,
            self.stream(f"process {number}"),
            self.nursery,
            disk_s=self.plan.disk_s,
            name=name,
        )
        store.on_crash = lambda where: self.kill(process, where)
        self.counts["boots"] += 1
        self.processes.append(process)
        self.nursery.start_soon(self._run_process, process)

    def kill(self, process: Process, where: str) -> None:
        """A node dies, wherever it is."""
        if process not in self.processes:
            return
        self.note(f"{process.node.name} dies {where}")
        self.counts["crashes"] += 1
        self.counts[f"crashes {where}"] += 1
        self._leave(process)
        assert isinstance(process.store, SharedStore)
        process.store.is_dead = True
        process.kill(self._link_rng)

    def _leave(self, process: Process) -> None:
        self.processes.remove(process)
        self.process = self.processes[0] if self.processes else None
        self.has_died.set()

    async def stop_one(self, process: Process) -> None:
        """A node stops in good order."""
        if process not in self.processes:
            return
        self.note(f"{process.node.name} stops")
        self.counts["stops"] += 1
        self._leave(process)
        await process.stop()
        await process.ended.wait()

    async def stop(self) -> None:
        """All stop."""
        for process in list(self.processes):
            await self.stop_one(process)
        self._count_store(self.air.store)

    async def restore(self) -> None:
        """Let everything be there from now on."""
        self.air.calm_down()
        self.boot()
        await trio.lowlevel.checkpoint()

    # -------------------------------------------------------------------------------- the store's lives

    def replicate(self) -> None:
        """A replica of the store has all there is now."""
        self._copy = self.air.copy(), self.ledger.keep()

    def fail_over(self) -> None:
        """The replica takes over while the store is away: what was committed since it was fed is lost, acknowledged or not."""
        assert self._copy is not None
        copy, kept = self._copy
        self.counts["failovers"] += 1
        self._count_store(self.air.store)
        self.air.take_over(copy)
        self.ledger.lose(kept)
        num_lost = self.truth.begin_life(self.air.store.look())
        self.note(f"another store takes over, {num_lost} events are lost")
        self.counts["events lost"] += num_lost
        self.source.begin_life()
        self.replicate()

    # -------------------------------------------------------------------------------- clients

    def dial(self, shell: Shell) -> Link | None:
        """Connect a client to any of the nodes."""
        self.note(f"{shell.name} dials")
        if not self.processes:
            return None
        process = self._homes_rng.choice(self.processes)
        self._num_links += 1
        link = self.links[shell] = Link(self._num_links, self._link_rng, self.weather)
        self._homes[link] = process
        process.connect(link)
        return link

    def process_of(self, user: User) -> Process | None:
        """Return the node that a client talks to."""
        return None if user.shell.link is None else self._homes.get(user.shell.link)

    def what_waits(self) -> str:
        """See `World.what_waits`; the application is told of changes, by somebody alive, sooner or later."""
        living = {process.node.name for process in self.processes}
        now = trio.current_time()
        held = self.air.leases.items()
        lost = [name for name, (holder, until) in held if holder not in living or until <= now]
        if lost:
            return f"nobody holds {lost}"
        unheard = self.air.unheard()
        if unheard:
            return f"nodes did not hear of {unheard} and were not told so"
        dirty = [each.key for each in self.air.store.dirty("account", None, 10)]
        return f"accounts {dirty} were not forwarded" if dirty else super().what_waits()

    def watch_over(self, nursery: trio.Nursery) -> None:
        """See `World.watch_over`."""
        if self.plan.audit_every_s:
            nursery.start_soon(self.auditor.run, self.plan.audit_every_s)
            nursery.start_soon(self.hearing.run)

    def look_at_nodes(self) -> None:
        """See `World.look_at_nodes`."""
        self.hearing.look()

    def nodes(self) -> list[Process]:
        """See `World.nodes`."""
        return list(self.processes)

    def nemesis(self) -> Nemesis:
        """Return who does harm here."""
        return ClusterNemesis(self)


class ClusterNemesis(Nemesis):
    """Harms nodes, and what joins them."""

    def __init__(self, world: ClusterWorld) -> None:
        super().__init__(world)
        self._cluster = world

    async def run(self) -> None:
        """Do harm until cancelled."""
        plan = self._world.plan
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().run)
            nursery.start_soon(self._now_and_then, plan.bus_cut_every_s, self._cut_bus)
            nursery.start_soon(self._take_store_away)
            if plan.failovers:
                nursery.start_soon(self._now_and_then, plan.replica_every_s, self._replicate)

    def _kill(self) -> None:
        world = self._cluster
        if not world.processes:
            return
        process = self._rng.choice(world.processes)
        draw = self._rng.random()
        if draw < 0.4:
            world.kill(process, "anywhere")
        elif draw < 0.9:
            assert isinstance(process.store, SharedStore)
            process.store.armed = self._rng.choice(("before commit", "after commit"))
        else:
            world.nursery.start_soon(world.stop_one, process)

    def _cut_bus(self) -> None:
        buses = sorted(self._cluster.air.buses, key=lambda bus: bus.number)
        if buses:
            self._world.counts["buses cut"] += 1
            self._rng.choice(buses).cut()

    def _replicate(self) -> None:
        if not self._cluster.air.is_away:
            self._cluster.replicate()

    async def _take_store_away(self) -> None:
        world, plan = self._cluster, self._cluster.plan
        while True:
            await trio.sleep(self._rng.expovariate(1 / plan.store_away_every_s))
            world.note("the store is away")
            world.counts["store away"] += 1
            world.air.leave()
            await trio.sleep(self._rng.expovariate(1 / plan.down_s))
            if plan.failovers and self._rng.random() < plan.failovers:
                world.fail_over()
            world.air.come_back()

    async def _restart(self) -> None:
        """Whoever watches over the nodes starts them again, sooner or later."""
        world = self._cluster
        while True:
            await world.has_died.wait()
            world.has_died = trio.Event()
            await trio.sleep(self._rng.expovariate(1 / world.plan.down_s))
            await world.air.is_there.wait()  # a node that finds no store does not start
            world.boot()
