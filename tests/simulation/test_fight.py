"""Two clients fight over one key with conflicting mutators for ten seconds, over links and a disk that work."""

import pytest

from syncd.testing.simulation.fight import fight


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_two_clients_that_fight_over_one_key_end_with_the_log_replayed(seed):
    result = fight(seed)
    assert result.breaches == []
    assert result.num_ok > 100
    assert result.num_rejected > 10
    assert result.shown == [result.replayed] * 2
    assert result.on_disk == result.replayed
