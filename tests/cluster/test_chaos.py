"""The promises of DESIGN section 2 over three nodes, kept through a minute of everything that can happen to them."""

import tempfile
from pathlib import Path

import pytest

from tests.cluster.faults import NODE_KINDS, REDIS_KINDS, make_plan
from tests.cluster.scenario import live_through

pytestmark = [pytest.mark.slow, pytest.mark.process]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="syncd-") as name:
        yield Path(name)


async def test_nothing_is_lost_doubled_or_disordered(folder):
    plan = make_plan(1, 40, num_nodes=3, longest_s=4, kinds=NODE_KINDS + REDIS_KINDS)
    await live_through(folder, 1, plan)
