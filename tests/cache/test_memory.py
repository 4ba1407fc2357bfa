"""The limit is one of memory, not of a sum: measured as what the process really holds."""

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 200_000_000


@pytest.mark.unmeasured
@pytest.mark.process
@pytest.mark.slow
def test_a_storm_of_large_values_stays_within_the_limit():
    """A tenth above for the gaps below the allocator's threshold and for the values in the hands of four threads."""
    storm = Path(__file__).with_name("storm.py")
    answer = subprocess.run(
        [sys.executable, storm, str(LIMIT), "2000"], check=True, capture_output=True, text=True
    )
    peak, charged, num_evicted = map(int, answer.stdout.split())
    assert num_evicted > 1_000
    assert 0.9 * LIMIT < charged <= LIMIT
    assert 0.8 * LIMIT < peak < 1.1 * LIMIT


def test_the_allocator_is_left_alone_where_the_environment_decides():
    code = (
        "from syncd.cache import LRUCache, allocator\n"
        "LRUCache(max_bytes=1 << 20); print(allocator._state['is_done'])\n"
        "LRUCache(max_bytes=1 << 30); print(allocator._state['is_done'])\n"
    )
    for environment, words in (
        ({}, ["False", "True"]),
        ({"GLIBC_TUNABLES": ""}, ["False", "False"]),
    ):
        answer = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert answer.stdout.split() == words
