"""What a node counted, second by second, for charts: rates from counters, and the last ten minutes of them. Pure.

Owned by the node's statistics (`syncd.stats`), which reads the counters and knows the time.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping

import attrs

__all__ = ["RING_SAMPLES", "Counts", "Sample", "Samples"]

RING_SAMPLES = 600
"""At one a second ten minutes: what a person who opens the dashboard sees at once. Some 0.3 MB."""

Sample = dict[str, float | None]
"""By name; None: nothing happened that could have been measured."""


@attrs.frozen
class Counts:
    """Everything that is sampled, as it stands at one moment."""

    at_ms: int
    """Wall clock, for the axis of a chart."""
    at_s: float
    """Monotonic clock, for rates."""
    gauges: Mapping[str, float | None]
    """Told as they are."""
    counters: Mapping[str, float]
    """Since some start; told as `NAME_per_s`."""
    means: Mapping[str, tuple[float, int]] = attrs.field(factory=dict)
    """A sum and how many were added up; told as the mean of what came since the last sample."""


class Samples:
    """The ring."""

    def __init__(self, size: int = RING_SAMPLES) -> None:
        self._ring: collections.deque[Sample] = collections.deque(maxlen=size)
        self._last: Counts | None = None

    def take(self, counts: Counts) -> Sample:
        """Add a sample and return it. The first one has rates of 0: nothing is known of the time before."""
        last = self._last or counts
        self._last = counts
        passed_s = counts.at_s - last.at_s
        sample: Sample = {"at_ms": counts.at_ms, **counts.gauges}
        for name, value in counts.counters.items():
            rate = _risen(last.counters.get(name, 0), value) / passed_s if passed_s > 0 else 0.0
            sample[f"{name}_per_s"] = round(rate, 3)
        for name, (total, num) in counts.means.items():
            last_total, last_num = last.means.get(name, (0.0, 0))
            num_new = _risen(last_num, num)
            sample[name] = round(_risen(last_total, total) / num_new, 3) if num_new else None
        self._ring.append(sample)
        return sample

    @property
    def latest(self) -> Sample | None:
        """The newest sample."""
        return self._ring[-1] if self._ring else None

    def columns(self) -> dict[str, list[float | None]]:
        """Return the ring by name, oldest first: lists of one length."""
        if not self._ring:
            return {}
        return {name: [sample.get(name) for sample in self._ring] for name in self._ring[-1]}


def _risen(before: float, now: float) -> float:
    """Return what a counter gained; one that went back began anew with its actor."""
    return now - before if now >= before else now
