"""What a cached function has done so far. All counts are taken at one moment and add up exactly."""

from __future__ import annotations

import attrs

from syncd.model.lru_facts import LruStatistics

__all__ = ["CallStatistics", "LoadStatistics"]


@attrs.frozen(kw_only=True)
class LoadStatistics:
    """Loads of a cached function.

    started = succeeded + not_found + failed + abandoned + running;
    misses of the cache = started - refreshes + joined + refused + circular, as long as nobody reads the cache directly.
    """

    started: int
    succeeded: int
    not_found: int
    """The loader raised `NotFound`, or returned None under a `negative_ttl`."""
    failed: int
    abandoned: int
    """Ended without a result: nobody waited any more, or the program was interrupted."""
    running: int
    refreshes: int
    """Those started in the background while a stale value was served."""
    reruns: int
    """Loads done again because the key changed meanwhile; not counted in `started`."""
    joined: int
    """Callers who waited for a load that another had started."""
    refused: int
    """Callers who got the last error at once, as it was too early to try again."""
    circular: int
    """Callers who would have waited for themselves."""
    seconds: float
    """Time all ended loads took together, on the cache's clock."""
    longest_s: float

    @property
    def mean_s(self) -> float:
        """How long a load took on average; 0 before the first."""
        num_ended = self.started - self.running
        return self.seconds / num_ended if num_ended else 0.0


@attrs.frozen(kw_only=True)
class CallStatistics:
    """Of a cached function: calls = cache.hits + cache.stale_hits + cache.misses, as long as nobody reads the cache directly."""

    cache: LruStatistics
    loads: LoadStatistics
