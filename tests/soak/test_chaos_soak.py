"""Random crashes for longer, over many seeds."""

import random

import pytest
import structlog

from syncd.config import HistoryKind
from tests.integration.chaos_scenario import live_through
from tests.integration.nodes import make_config, namespace, running

pytestmark = pytest.mark.soak


@pytest.mark.parametrize("seed", range(100, 110))
async def test_two_hundred_crashes_lose_and_double_nothing(tmp_path, monkeypatch, seed):
    kind = namespace("log", HistoryKind.DURABLE, history_size=10_000_000)
    config = make_config(tmp_path, kind, limits={"recovery_events": 1_000_000})
    with structlog.testing.capture_logs():
        async with running(config, limit_s=600) as (node, _connect):
            num_fired = await live_through(
                node,
                node.addresses[0][1],
                monkeypatch,
                random.Random(seed),
                num_faults=200,
                num_peers=10,
            )
    assert num_fired >= 120
