"""Slow clients for longer: memory must not creep, round after round."""

import pytest

from tests.integration.slow_scenario import slow_beside_fast

pytestmark = [pytest.mark.soak, pytest.mark.process]


def test_thirty_crowds_that_never_read_leave_no_memory_behind(tmp_path):
    slow_beside_fast(tmp_path, num_readers=800, num_mutes=200, num_rounds=30, num_events=100)
