"""Rebuilds that nobody asks for: `every=` of a collection.

Owner of: which times of which collection have had their job here. A collection's times are the multiples of its period on the wall clock, so
every node comes to the same ones; a job's id is made of them, so the store gives its lease once for each. Times that were missed (the node was
away, another job was under way) are one run at most: only the last of them counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import trio

from syncd.model.definitions import AppDefinition
from syncd.model.rebuild_plan import Job, Wish

__all__ = ["SCHEDULE", "Schedule"]

SCHEDULE = "schedule"
"""Who asks, in the audit log."""


class Schedule:
    """Has jobs queued while `run` runs."""

    def __init__(
        self,
        app: AppDefinition,
        *,
        wall_ms: Callable[[], int],
        ask: Callable[[Job], bool],
        last_run_ms: Callable[[], Mapping[str, int]],
    ) -> None:
        """Take the periods.

        Args:
            ask: Queues a job, unless one of its collection is under way.
            last_run_ms: When the last full job of a collection that is done was asked for, as far as that is known.
        """
        self._periods_ms = {
            name: int(each.every_s * 1000)
            for name, each in app.collections.items()
            if each.every_s is not None
        }
        self._wall_ms = wall_ms
        self._ask = ask
        self._last_run_ms = last_run_ms

    async def run(self) -> None:
        """Ask at every time until cancelled; at once for a time that was missed."""
        if not self._periods_ms:
            return
        last = self._last_run_ms()
        handled = {name: last.get(name, -1) // each for name, each in self._periods_ms.items()}
        while True:
            now_ms = self._wall_ms()
            for name, period_ms in self._periods_ms.items():
                number = now_ms // period_ms
                if number > handled[name]:
                    handled[name] = number
                    at_ms = number * period_ms
                    self._ask(Job(_id_of(name, at_ms), name, Wish(), now_ms, SCHEDULE))
            next_ms = min((handled[name] + 1) * each for name, each in self._periods_ms.items())
            await trio.sleep(max(next_ms - self._wall_ms(), 1) / 1000)


def _id_of(collection: str, at_ms: int) -> str:
    return hashlib.blake2b(f"{collection}@{at_ms}".encode(), digest_size=8).hexdigest()
