"""The cluster room's line to the bus: takes its topic out of what the bus tells the bridge, and lets the room's time pass.

Owned by the node. The bus is the bridge's: each one that it makes tells this line first (`tap`), which passes on whatever is not of the
topic of nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
import trio

from syncd.actors.bridge.cluster import ClusterRoom
from syncd.ports_bus import BusEvents, BusPort
from syncd.ports_cluster import ClusterTiming

__all__ = ["ClusterLine"]

_log = structlog.get_logger("syncd.cluster")

TICK_S = 0.25
"""Take-overs are told, and silence is noticed, with this delay."""


class ClusterLine:
    """A cluster room on a bus.

    Args:
        node: This node's name.
        prefix: Of all keys and topics of the cluster.
        clock, wall_s, chance: As of `ClusterRoom`.
    """

    def __init__(
        self,
        node: str,
        prefix: str,
        *,
        timing: ClusterTiming,
        clock: Callable[[], float],
        wall_s: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.topic = f"{prefix}:nodes".encode()
        self.room = ClusterRoom(
            node, publish=self._publish, clock=clock, wall_s=wall_s, chance=chance, timing=timing
        )
        self._tick_s = min(TICK_S, timing.beat_s / 4)
        self._clock = clock
        self._bus: BusPort | None = None

    def _publish(self, payload: bytes) -> bool:
        return self._bus is not None and self._bus.publish(self.topic, payload)

    def tap(self, events: BusEvents) -> BusEvents:
        """Return what a new bus is to tell: this line, and `events` behind it."""
        return _Tap(self, events)

    def use(self, bus: BusPort) -> None:
        """From now on this is the bus. It is down until it says that it is up."""
        self.room.link(is_up=False)
        self._bus = bus
        bus.want([self.topic])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let time pass for the room until cancelled. Cancelled: nothing is said any more; see `ClusterRoom.leave`."""
        task_status.started()
        while True:
            try:
                self.room.tick(self._clock())
            except Exception as error:  # noqa: BLE001 - one tick fails, the node and the next tick go on
                _log.error("cluster_tick_failed", exc_info=error)
            await trio.sleep(self._tick_s)


class _Tap:
    """Implements `BusEvents` before the bridge."""

    def __init__(self, line: ClusterLine, events: BusEvents) -> None:
        self._line = line
        self._events = events

    def on_messages(self, batch: list[tuple[bytes, bytes]]) -> None:
        """See `BusEvents.on_messages`."""
        topic = self._line.topic
        mine = [payload for name, payload in batch if name == topic]
        if mine:
            self._line.room.heard(mine)
            batch = [each for each in batch if each[0] != topic]
        if batch:
            self._events.on_messages(batch)

    def on_gap(self, topics: Sequence[bytes]) -> None:
        """See `BusEvents.on_gap`."""
        others = [topic for topic in topics if topic != self._line.topic]
        if len(others) < len(topics):
            self._line.room.gap()
        if others:
            self._events.on_gap(others)

    def on_link(self, *, is_up: bool) -> None:
        """See `BusEvents.on_link`."""
        self._line.room.link(is_up=is_up)
        self._events.on_link(is_up=is_up)
