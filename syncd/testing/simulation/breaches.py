"""Where broken promises are written down, and what happened is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

__all__ = ["Breaches"]

MAX_BREACHES = 20
"""Of one promise. One fault breaks everything behind it; the first sentences tell."""


class Breaches:
    """Sentences on what was promised and not kept, and counts of what happened."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.found: list[str] = []
        self.counts: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._now = now

    def add(self, promise: str, text: str) -> None:
        """Write down that a promise was broken."""
        sentence = f"{promise} at {self._now():.3f} s: {text}"
        self.counts[f"breaches of {promise}"] += 1
        if sentence not in self.found and self._kept[promise] < MAX_BREACHES:
            self._kept[promise] += 1
            self.found.append(sentence)
