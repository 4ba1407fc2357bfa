"""When a process that ended is started again, and when that is given up: decided from how long it lasted."""

from __future__ import annotations

__all__ = ["RestartPlan"]

STEADY_S = 10.0
"""Who lasted this long has worked: what ended it is a new trouble."""
MAX_QUICK_ENDS = 5
"""In a row, of less than `STEADY_S` each: whatever it is, starting again does not help."""
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0
_MAX_DOUBLINGS = 10
"""Far past the longest wait: a store may be away for days, and a float ends."""


class RestartPlan:
    """Of one process."""

    def __init__(self) -> None:
        self._num_quick = 0
        self._num_away = 0
        self.num_ends = 0

    def ended(self, lasted_s: float) -> float | None:
        """Return how long to wait before the next start, in seconds; None: give up."""
        self.num_ends += 1
        self._num_away = 0
        self._num_quick = 1 if lasted_s >= STEADY_S else self._num_quick + 1
        if self._num_quick > MAX_QUICK_ENDS:
            return None
        return _wait_s(self._num_quick)

    def found_store_away(self) -> float:
        """Return how long to wait, in seconds, after an end for which the process can do nothing: starting again will help one day."""
        self.num_ends += 1
        self._num_away += 1
        return _wait_s(self._num_away)


def _wait_s(num_in_a_row: int) -> float:
    wait_s: float = _FIRST_WAIT_S * 2 ** min(num_in_a_row - 1, _MAX_DOUBLINGS)
    return min(wait_s, _LONGEST_WAIT_S)
