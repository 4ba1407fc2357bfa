"""What the rebuild-coordinator counts of its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

from syncd.model.rebuild_plan import Job, JobState

__all__ = ["RebuildCounts", "RebuildStatistics"]


@attrs.frozen
class RebuildStatistics:
    """The rebuild-coordinator at one moment; counters count since start."""

    rows: Mapping[str, int]
    """Rows written to a new generation, by collection."""
    ended: Mapping[tuple[str, JobState], int]
    """Jobs by collection and end."""
    num_active: int
    """Jobs queued, running or swapping."""
    num_taken_over: int = 0
    """Jobs of nodes that died."""


class RebuildCounts:
    """Owned by the rebuild-coordinator; a page of rows is one count."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.num_taken_over = 0
        self._ended: Counter[tuple[str, JobState]] = Counter()

    def note_end(self, job: Job) -> None:
        """A job ended."""
        self._ended[job.collection, job.state] += 1

    def statistics(self, num_active: int) -> RebuildStatistics:
        """Return what was counted so far."""
        return RebuildStatistics(
            dict(self.rows), dict(self._ended), num_active, self.num_taken_over
        )
