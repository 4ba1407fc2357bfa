"""How long to wait before the next attempt: exponential with full jitter."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Waiting times of one thing that is tried again.

    Args:
        min_s: Upper bound of the first wait.
        max_s: Upper bound of every wait.
        chance: Between 0 and 1.
    """

    __slots__ = ("_bound_s", "_chance", "_max_s", "_min_s")

    def __init__(self, min_s: float, max_s: float, chance: Callable[[], float]) -> None:
        self._min_s, self._max_s, self._chance = min_s, max_s, chance
        self._bound_s = min_s

    def next_s(self) -> float:
        """Return the next wait: never under a tenth of its bound, so that a server that refuses at once is not spun on."""
        bound = self._bound_s
        self._bound_s = min(bound * 2, self._max_s)
        return bound * (0.1 + 0.9 * self._chance())

    def reset(self) -> None:
        """It went well: start over."""
        self._bound_s = self._min_s
