"""How late the event loop wakes sleepers: measured twice a second, the whole time a node runs. Owned by `server.Node`."""

from __future__ import annotations

import trio

from syncd.model.histogram import Histogram

__all__ = ["LoopLag"]

PROBE_S = 0.5
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class LoopLag:
    """Measures while `run` runs."""

    def __init__(self) -> None:
        self.histogram = Histogram(BOUNDS_S)
        """Seconds, one observation each probe."""
        self._last_ms = 0.0
        self._due = trio.current_time() + PROBE_S

    def now_ms(self) -> float:
        """How late a sleeper was lately woken, or is being woken now."""
        overdue_ms = (trio.current_time() - self._due) * 1000
        return max(self._last_ms, overdue_ms, 0.0)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        task_status.started()
        while True:
            self._due = trio.current_time() + PROBE_S
            await trio.sleep(PROBE_S)
            late_s = max(trio.current_time() - self._due, 0.0)
            self._last_ms = late_s * 1000
            self.histogram.observe(late_s)
