"""The promises of DESIGN section 2 over three nodes, kept through a minute of everything that can happen to them.

The plan of what happens is made of a seed, which is printed with it; what clients do besides depends on when it happens.
"""

import tempfile
from pathlib import Path

import pytest

from syncd.testing.crowd import wait_until
from tests.cluster.faults import LOSSY_KINDS, NODE_KINDS, REDIS_KINDS, make_plan
from tests.cluster.returns import Absences, are_connected, open_guests
from tests.cluster.scenario import following, live_through, roll

pytestmark = [pytest.mark.slow, pytest.mark.process]

SLOT_S = 2.5
"""A quarter of `stop_s`."""
EARLY_S = 0.05
"""Slots are told in whole milliseconds, and counted from the end of the connection, which is not before `bye`."""
LATE_S = 2.0
"""To connect and to be greeted, beside a node that starts on a busy machine."""


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


async def test_a_rolling_restart_loses_and_doubles_nothing(folder, monkeypatch):
    """And clients that do as they are told come back, each in the slot it was given: not before it, and not later."""
    absences = Absences()

    async def roll_under_guests(cluster):
        async with open_guests(cluster, 24) as guests:
            absences.watch(monkeypatch)
            await roll(cluster)
            await wait_until(lambda: are_connected(guests), 20, "all guests are back")

    world = await live_through(folder, 3, roll_under_guests)
    assert world.counters.num_decided > 200
    assert len(absences.all) >= 24, "each node sends away whom it has"
    assert max(absence.slot_s for absence in absences.all) <= SLOT_S
    late_s = [absence.lasted_s - absence.slot_s for absence in absences.all]
    assert min(late_s) > -EARLY_S
    assert max(late_s) < LATE_S
