"""The chaos of `tests/cluster`, for five minutes each, with a seed that is printed."""

import random
import tempfile
from pathlib import Path

import pytest

from tests.cluster.faults import LOSSY_KINDS, NODE_KINDS, REDIS_KINDS, Fault, make_plan
from tests.cluster.scenario import following, live_through

pytestmark = [pytest.mark.soak, pytest.mark.process]

MINUTES = 5
STOPPED_S = 20.0
"""Longest that anything is stopped, held or away."""
LEAST_DECIDED = 5000
"""A fifth of what a machine with two cores does besides."""


@pytest.fixture
def seed():
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return seed


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="syncd-") as name:
        yield Path(name)


async def test_five_minutes_of_everything_lose_nothing(folder, seed):
    kinds = NODE_KINDS + REDIS_KINDS
    plan = make_plan(seed, MINUTES * 60, num_nodes=3, longest_s=STOPPED_S, kinds=kinds)
    # Longer than a lease: what the others have taken over in the meantime is theirs.
    stopped = Fault("stop_node", seed % 3, STOPPED_S, 1.0)
    world = await live_through(folder, seed, following([stopped, *plan]))
    assert world.counters.num_decided > LEAST_DECIDED


async def test_five_minutes_of_losses_are_told_as_such(folder, seed):
    kinds = NODE_KINDS + REDIS_KINDS + LOSSY_KINDS
    plan = make_plan(seed, MINUTES * 60, num_nodes=3, longest_s=8.0, kinds=kinds)
    world = await live_through(folder, seed, following(plan), appendfsync="everysec", may_lose=True)
    assert world.counters.num_decided > LEAST_DECIDED
    assert len(world.counters.epochs) > 2
