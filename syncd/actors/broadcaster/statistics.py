"""What the broadcaster tells of itself."""

from __future__ import annotations

import attrs

from syncd.ports_operators import HistogramCounts

__all__ = ["BroadcasterStatistics"]


@attrs.frozen
class BroadcasterStatistics:
    """The broadcaster at one moment; counters count since start."""

    num_channels: int
    num_published: int
    num_recovered: int
    num_unrecovered: int
    num_dedupe_hits: int
    ages: HistogramCounts
    """Seconds from publication to write, of the oldest in each batch."""
