"""A cache for any Python program, without the server: `from syncd.cache import LRUCache, cached`. How to use it: docs/cache-library.md."""

from __future__ import annotations

from syncd.cache.decorator import CachedFunction, cached
from syncd.cache.errors import CircularLoad, LoadFailed, NotFound
from syncd.cache.lru_cache import LRUCache
from syncd.cache.statistics import CallStatistics, LoadStatistics
from syncd.model.lru_facts import LruStatistics, State
from syncd.model.value_sizes import size_of

__all__ = [
    "CachedFunction",
    "CallStatistics",
    "CircularLoad",
    "LRUCache",
    "LoadFailed",
    "LoadStatistics",
    "LruStatistics",
    "NotFound",
    "State",
    "cached",
    "size_of",
]
