"""A clock that tests turn, and patience without sleeping."""

import threading
import time

import pytest


class Clock:
    """Seconds, as many as the test says."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def until():
    """Give other threads the processor until something is so."""

    def wait(condition, patience_s=20.0):
        deadline = time.monotonic() + patience_s
        never = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            never.wait(0.001)

    return wait


def adds_up(stats, *, calls=None):
    """Hold the counts of a cached function to what the documentation promises."""
    cache, loads = stats.cache, stats.loads
    ended = loads.succeeded + loads.not_found + loads.failed + loads.abandoned
    assert loads.started == ended + loads.running
    started = loads.started - loads.refreshes
    assert cache.misses == started + loads.joined + loads.refused + loads.circular
    gone = cache.evictions + cache.expirations + cache.removals
    assert cache.insertions == gone + cache.num_entries
    if calls is not None:
        assert cache.hits + cache.stale_hits + cache.misses == calls
    return True


@pytest.fixture(name="adds_up")
def _adds_up():
    return adds_up
