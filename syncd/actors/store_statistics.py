"""What the store actor tells of itself."""

from __future__ import annotations

import attrs

from syncd.model.histogram import Histogram
from syncd.ports_operators import HistogramCounts
from syncd.store.base import StoreStatistics

__all__ = ["CommitCounts", "StoreActorStatistics"]

COMMIT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)


class CommitCounts:
    """What is counted of commits."""

    def __init__(self) -> None:
        self.num = self.num_requests = self.largest = 0
        self.total_s = self.max_s = 0.0
        self.times, self.batches = Histogram(COMMIT_BOUNDS_S), Histogram(BATCH_BOUNDS)

    def note(self, num_requests: int, duration_s: float) -> None:
        """A commit of so many requests took so long."""
        self.num += 1
        self.num_requests += num_requests
        self.largest = max(self.largest, num_requests)
        self.total_s += duration_s
        self.max_s = max(self.max_s, duration_s)
        self.times.observe(duration_s)
        self.batches.observe(num_requests)


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
