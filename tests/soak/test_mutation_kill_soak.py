"""The kills of `tests/integration/test_mutation_kill.py`, more of them."""

import random

import pytest

from syncd.testing.process import ServerProcess
from tests.integration.mutation_scenario import mutate_under_kills
from tests.integration.test_mutation_kill import APP, PROGRAM

pytestmark = [pytest.mark.soak, pytest.mark.process]


async def test_every_acknowledged_increment_counts_once_over_thirty_kills(tmp_path, monkeypatch):
    switch = tmp_path / "kill"
    monkeypatch.setenv("SYNCD_KILL_AT", str(switch))
    rng = random.Random()
    with ServerProcess(tmp_path, arguments=(APP,), program=(PROGRAM,)) as server:

        def kill():
            if rng.random() < 0.6:
                switch.touch()
                server.wait(10)
            else:
                server.kill()

        tally, _ = await mutate_under_kills(server, 30, 2000, rng, kill)
    assert tally.num_known > 0
