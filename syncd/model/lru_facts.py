"""What a cache says of a key and of itself: used by `Lru`, by whoever owns one and by those who ask."""

from __future__ import annotations

import enum
import sys
from typing import Final

import attrs

__all__ = [
    "ABSENT",
    "UNLIMITED",
    "Absent",
    "LruStatistics",
    "State",
    "checked_limit",
    "wrong_lifetime",
]


class State(enum.Enum):
    """What the cache knows of a key."""

    MISS = "miss"
    FRESH = "fresh"
    STALE = "stale"
    """Past its lifetime, inside its stale window."""
    ABSENT = "absent"
    """Known not to exist."""


class Absent(enum.Enum):
    """The value of a key that is known not to exist."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT

UNLIMITED = sys.maxsize
"""No limit, as a number that can be compared with."""


def checked_limit(limit: int | None) -> int:
    """A limit as a number that can be compared with.

    Raises:
        ValueError: Below 1.
    """
    if limit is None:
        return UNLIMITED
    if limit < 1:
        raise ValueError(f"a limit must be at least 1, not {limit}; None means no limit")
    return limit


def wrong_lifetime(ttl_s: float, stale_s: float) -> ValueError:
    """The error for a lifetime that makes no sense."""
    return ValueError(f"lifetime {ttl_s} s must be above 0, stale window {stale_s} s not below")


@attrs.frozen(kw_only=True)
class LruStatistics:
    """Counts since the start. lookups = hits + stale_hits + misses."""

    hits: int
    negative_hits: int
    """Those of the hits that found a key to be absent."""
    stale_hits: int
    misses: int
    insertions: int
    replacements: int
    evictions: int
    """Live entries that had to go to hold a limit."""
    expirations: int
    removals: int
    """Live entries invalidated or cleared."""
    oversized: int
    """Values that were not kept, being larger than the limit."""
    num_entries: int
    num_bytes: int
    max_entries: int | None
    max_bytes: int | None

    @property
    def hit_rate(self) -> float:
        """Lookups that found something, fresh or stale, of all lookups; 0 before the first."""
        lookups = self.hits + self.stale_hits + self.misses
        return (self.hits + self.stale_hits) / lookups if lookups else 0.0
