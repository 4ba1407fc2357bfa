"""What the store actor tells of itself."""

from __future__ import annotations

import attrs

from syncd.model.histogram import HistogramCounts
from syncd.store.base import StoreStatistics

__all__ = ["BATCH_BOUNDS", "COMMIT_BOUNDS_S", "StoreActorStatistics"]

COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


@attrs.frozen
class StoreActorStatistics:
    """The store actor at one moment; counters count since start."""

    is_writable: bool
    """False from a commit that failed for want of space or the like until one works again."""
    num_waiting: int
    """Requests waiting or in hand."""
    bytes_waiting: int
    num_refused: int
    """Requests refused for want of room."""
    num_commits: int
    num_committed: int
    """Requests in those commits: their quotient is the mean batch."""
    largest_batch: int
    num_failed_commits: int
    commit_s_total: float
    commit_s_max: float
    num_restarts_in_hand: int
    """Requests that were in hand when the actor crashed."""
    log: StoreStatistics
    commit_s: HistogramCounts
    """Time of each commit, in seconds."""
    batches: HistogramCounts
    """Requests of each commit."""
