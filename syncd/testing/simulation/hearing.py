"""Whether nodes hear of what is committed as soon as they should, not only when they look again by themselves.

A node that misses a word of the bus finds it in the log with the next event, or some ten seconds later: every promise is kept, and whoever
watches has waited. So no room may stay behind its log while its node has been hearing all along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from syncd.testing.simulation.shared import NAMES, SharedStore

if TYPE_CHECKING:
    from syncd.testing.simulation.cluster import ClusterWorld
    from syncd.testing.simulation.process import Process

__all__ = ["LOOK_S", "Hearing"]

LOOK_S = 0.2
PATIENCE_S = 0.4
JOBS = 10
"""A look into the log, when the bus has told of something, waits for so many jobs of the disk at most."""


class Hearing:
    """Looks at the rooms of all nodes."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self._behind: dict[tuple[str, str], tuple[int, float]] = {}
        """Where a node's room stands since when, by node and channel; those whose logs are ahead."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Note who is behind, and tell who is for too long."""
        behind, self._behind = self._behind, {}
        for process in self._world.processes:
            for channel, offset in self._rooms_behind(process):
                place = (process.node.name, channel)
                at, since = behind.get(place, (offset, trio.current_time()))
                if at != offset:
                    since = trio.current_time()
                self._behind[place] = (offset, since)
                self._judge(process, channel, since)

    def _rooms_behind(self, process: Process) -> list[tuple[str, int]]:
        logs = self._world.truth.logs
        infos = process.node.broadcaster.channels("", 100)
        return [
            (info.channel, info.offset)
            for info in infos
            if (log := logs.get(info.channel)) is not None
            and info.epoch == log.epoch
            and info.offset < log.top
        ]

    def _judge(self, process: Process, channel: str, since: float) -> None:
        world = self._world
        assert isinstance(process.store, SharedStore)
        bus = process.store.bus
        if bus is None or world.air.is_away:
            return
        plan = world.plan
        latency_s = max(plan.bus_latency_s, plan.latency_s / 4)
        patience_s = PATIENCE_S + 4 * latency_s + JOBS * plan.disk_s
        hears_since = max(since, bus.hears_since(NAMES.bus(channel).encode()))  # type: ignore[arg-type]
        if trio.current_time() - hears_since > patience_s:
            text = (
                f"{process.node.name} has not heard of the end of {channel} for {patience_s:.1f} s"
            )
            world.breaches.add("HEARD", text)
