"""The kill test for longer: a hundred kills in the life of one log."""

import random

import pytest

from syncd.testing.process import ServerProcess
from tests.integration.kill_scenario import CONFIG, kill_under_load

pytestmark = [pytest.mark.soak, pytest.mark.process]


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_hundred_kills_lose_and_double_nothing(tmp_path, seed):
    with ServerProcess(tmp_path, CONFIG) as server:
        crowd = await kill_under_load(server, 100, 1500, random.Random(seed))
    assert min(peer.num_connections for peer in crowd.subscribers) > 80
