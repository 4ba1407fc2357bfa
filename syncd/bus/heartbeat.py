"""When a link asks Redis whether it is there, and when it takes silence for an answer.

Invariant: a link that hears no answer to its PING is over `ping_s + pong_s` after the last answer (or after it was opened), however
much else arrives: whoever is further behind than that is better served by a fresh subscription and the log.
"""

from __future__ import annotations

__all__ = ["Heartbeat"]


class Heartbeat:
    """PINGs of one connection, one at a time. Times are seconds of one clock."""

    __slots__ = ("_answered_at", "_asked_at", "_due_at", "_ping_s", "_pong_s", "round_trip_s")

    def __init__(self, ping_s: float, pong_s: float, now: float) -> None:
        self._ping_s, self._pong_s = ping_s, pong_s
        self._answered_at = now
        self._due_at = now
        self._asked_at: float | None = None
        self.round_trip_s: float | None = None
        """Of the last answered PING."""

    @property
    def due_at(self) -> float:
        """When to ask next: at once on a new connection; infinite while an answer is outstanding."""
        return float("inf") if self._asked_at is not None else self._due_at

    @property
    def deadline(self) -> float:
        """When the link is over unless an answer comes."""
        return self._answered_at + self._ping_s + self._pong_s

    def ask(self, now: float) -> bool:
        """Return whether a PING is to be sent now; it counts as sent."""
        if now < self.due_at:
            return False
        self._asked_at = now
        return True

    def answer(self, now: float) -> None:
        """Redis answered."""
        if self._asked_at is not None:
            self.round_trip_s = now - self._asked_at
        self._answered_at, self._asked_at = now, None
        self._due_at = now + self._ping_s
