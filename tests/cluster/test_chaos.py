"""The promises of DESIGN section 2 over three nodes, kept through a minute of everything that can happen to them.

The plan of what happens is made of a seed, which is printed with it; what clients do besides depends on when it happens.
"""

import tempfile
from pathlib import Path

import pytest

from tests.cluster.faults import LOSSY_KINDS, NODE_KINDS, REDIS_KINDS, make_plan
from tests.cluster.scenario import following, live_through, roll

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture
def folder():
    """A short path: a Unix socket lies in it."""
    with tempfile.TemporaryDirectory(prefix="syncd-") as name:
        yield Path(name)


async def test_nothing_is_lost_doubled_or_disordered(folder):
    """DURABLE, ONCE, ORDER, RECOVER and READ-YOUR-WRITES where Redis keeps every write before it answers."""
    kinds = NODE_KINDS + REDIS_KINDS
    plan = make_plan(1, 40, num_nodes=3, longest_s=4, kinds=kinds)
    assert {fault.kind for fault in plan} == set(kinds)
    world = await live_through(folder, 1, following(plan))
    assert world.counters.num_decided > 500
    assert sum(adder.num_known for adder in world.adders) > 0, "some outcome was lost on its way"
    assert sum(watcher.view.num_recovered for watcher in world.watchers) > 0


async def test_what_redis_loses_is_told_as_lost(folder):
    """Where Redis may lose what it has answered: new epochs, clients that begin again, and no offset with other content."""
    plan = make_plan(2, 20, num_nodes=3, longest_s=2, kinds=(*LOSSY_KINDS, "kill_node", "hold"))
    world = await live_through(folder, 2, following(plan), appendfsync="everysec", may_lose=True)
    assert len(world.counters.epochs) > 2
    assert world.counters.num_lost > 0
    assert sum(watcher.view.num_renewed for watcher in world.watchers) > 0


async def test_a_rolling_restart_loses_and_doubles_nothing(folder):
    world = await live_through(folder, 3, roll)
    assert world.counters.num_decided > 200
