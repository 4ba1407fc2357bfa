"""How long to wait before trying again. Pure: randomness comes in, durations go out."""

from __future__ import annotations

import random

__all__ = ["Backoff"]

FIRST_S = 0.5
LONGEST_S = 20.0
"""0.5 s to 20 s (DESIGN section 6): a restarted node sees its clients spread over 20 s, a blip costs half a second."""


class Backoff:
    """Full jitter: the n-th wait is uniform in 0..min(longest, first * 2^n)."""

    def __init__(
        self, rng: random.Random, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S
    ) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self.num_attempts = 0

    def next_s(self, floor_s: float = 0.0) -> float:
        """Draw the next wait; `floor_s`, which the server asked for, is added and not subject to chance."""
        ceiling = min(self._longest_s, self._first_s * 2 ** min(self.num_attempts, 32))
        self.num_attempts += 1
        return floor_s + self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        """Begin anew after things went well."""
        self.num_attempts = 0
