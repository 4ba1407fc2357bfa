"""The one coarse timer: a wheel of connections, looked at when something of theirs may be due.

No connection has a timer of its own. Each stands in the wheel at its earliest due time; an entry made stale by an earlier one is
skipped when its slot comes.
"""

from __future__ import annotations

from syncd.gateway.connection import Connection

__all__ = ["Wheel"]


class Wheel:
    """Connections by due time, in slots of `tick_s`."""

    def __init__(self, tick_s: float, now: float) -> None:
        self._tick_s = tick_s
        self._slots: dict[int, list[Connection]] = {}
        self._next_slot = int(now / tick_s)

    def schedule(self, connection: Connection, at: float) -> None:
        """Look at the connection at `at` (Trio's clock), or earlier if that is planned already."""
        if at >= connection.due:
            return
        connection.due = at
        slot = max(int(at / self._tick_s) + 1, self._next_slot)
        self._slots.setdefault(slot, []).append(connection)

    def advance(self, now: float) -> list[Connection]:
        """Return the connections that are due; each must be scheduled anew or it is never looked at again."""
        slot_now = int(now / self._tick_s)
        due: list[Connection] = []
        if slot_now - self._next_slot > len(self._slots) + 1:
            slots = sorted(slot for slot in self._slots if slot <= slot_now)
        else:
            slots = list(range(self._next_slot, slot_now + 1))
        for slot in slots:
            for connection in self._slots.pop(slot, ()):
                if connection.due <= now and not connection.closed:
                    connection.due = float("inf")
                    due.append(connection)
        self._next_slot = slot_now + 1
        return due
