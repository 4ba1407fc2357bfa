"""Who does harm: cuts links, kills the process at chosen places, crashes single actors, stops and starts the node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from syncd.actors.kit import MAX_RESTARTS, RESTART_WINDOW_S
from syncd.testing.simulation.shop import KEYS

if TYPE_CHECKING:
    from syncd.testing.simulation.world import World

__all__ = ["Nemesis"]

PLACES = ("statements", "before commit", "during commit", "after commit")


class _Sabotage(Exception):
    """What a sabotaged actor dies of."""


class Nemesis:
    """One for all: `run` does harm until cancelled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.stream("nemesis")
        self._actor_crashes: list[float] = []
        """More in a while than supervision allows would end the node, as they should."""

    async def run(self) -> None:
        """Do harm until cancelled."""
        plan = self._world.plan
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._now_and_then, plan.cut_every_s, self._harm_link)
            nursery.start_soon(self._now_and_then, plan.crash_every_s, self._kill)
            nursery.start_soon(self._now_and_then, plan.actor_crash_every_s, self._crash_actor)
            nursery.start_soon(self._restart)
            nursery.start_soon(self._change_prices)

    async def _now_and_then(self, mean_s: float, harm: Callable[[], None]) -> None:
        while True:
            await trio.sleep(self._rng.expovariate(1 / mean_s))
            harm()

    def _harm_link(self) -> None:
        links = [
            (u.shell.name, u.shell.link) for u in self._world.users if u.shell.link is not None
        ]
        if not links:
            return
        name, link = self._rng.choice(links)
        way = self._rng.choice(("cut", "cut", "up", "down", "both"))
        self._world.note(f"the link of {name} is harmed: {way}")
        self._world.counts[f"links {way}"] += 1
        if way == "cut":
            link.cut()
        else:
            link.go_half_open(up=way != "down", down=way != "up")

    def _kill(self) -> None:
        world = self._world
        if world.process is None:
            return
        draw = self._rng.random()
        if draw < 0.3:
            world.crash("anywhere")
        elif draw < 0.9:
            world.disk.armed = self._rng.choice(PLACES)
        else:
            world.nursery.start_soon(world.stop)

    def _crash_actor(self) -> None:
        """Let the broadcaster die of its next fan-out, as a bug of ours would have it."""
        process = self._world.process
        now = trio.current_time()
        self._actor_crashes = [at for at in self._actor_crashes if now - at <= RESTART_WINDOW_S]
        if process is None or len(self._actor_crashes) >= MAX_RESTARTS:
            return
        self._actor_crashes.append(now)
        writer = process.node.hub.writer
        real = writer.deliver

        def fails(*_args: object) -> None:
            writer.deliver = real  # type: ignore[method-assign]
            self._world.note("the broadcaster dies")
            self._world.counts["actor crashes"] += 1
            raise _Sabotage

        writer.deliver = fails  # type: ignore[method-assign,assignment]

    async def _change_prices(self) -> None:
        """A backend changes what it owns, and says so once it is done."""
        world = self._world
        while True:
            await trio.sleep(self._rng.expovariate(1 / world.plan.price_every_s))
            key = self._rng.choice(KEYS)
            world.source.prices[key] += 1
            await world.invalidate_price(key)

    async def _restart(self) -> None:
        """Whoever watches over the process starts it again, sooner or later."""
        world = self._world
        while True:
            await world.has_died.wait()
            await trio.sleep(self._rng.expovariate(1 / world.plan.down_s))
            if world.process is None and world.has_died.is_set():
                world.boot()
