"""When a process that ended is started again, and when that is given up: decided from how long it lasted."""

from __future__ import annotations

__all__ = ["RestartPlan"]

STEADY_S = 10.0
"""Who lasted this long has worked: what ended it is a new trouble."""
MAX_QUICK_ENDS = 5
"""In a row, of less than `STEADY_S` each: whatever it is, starting again does not help."""
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class RestartPlan:
    """Of one process."""

    def __init__(self) -> None:
        self._num_quick = 0
        self.num_ends = 0

    def ended(self, lasted_s: float) -> float | None:
        """Return how long to wait before the next start, in seconds; None: give up."""
        self.num_ends += 1
        self._num_quick = 1 if lasted_s >= STEADY_S else self._num_quick + 1
        if self._num_quick > MAX_QUICK_ENDS:
            return None
        wait_s: float = _FIRST_WAIT_S * 2 ** (self._num_quick - 1)
        return min(wait_s, _LONGEST_WAIT_S)
