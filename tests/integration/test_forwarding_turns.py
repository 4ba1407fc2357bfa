"""Two nodes that share a Redis: one of them tells the application of changes, whichever node committed them, and hears of them at once."""

import contextlib
import tempfile
from pathlib import Path

import pytest
import trio

from syncd import App
from syncd.actors.cache_owner import turns
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import make_config, wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]


def make_app(number, told):
    app = App()
    orders = app.collection("orders", read="anyone", write="anyone")

    @orders.on_commit
    async def keep(change):
        told.append((number, change.key, change.value))
        await trio.lowlevel.checkpoint()

    return app


async def test_the_node_whose_turn_it_is_hears_of_changes_of_others_without_looking(
    tmp_path, monkeypatch
):
    """Nothing of the collection is in its memory: it never read it."""
    told, nodes, apps = [], [], []
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-"))
        redis = stack.enter_context(RedisServer(Path(folder)))
        for number in range(2):
            config = make_config(tmp_path, redis=redis.url)
            app = make_app(number, told)
            apps.append(app)
            node = await stack.enter_async_context(
                open_node(config, app_in_force(app.definition(), config))
            )
            nodes.append(node)

            def is_decided(_, number=number):
                holding = nodes[0].cache_owner.holdings.by_name["orders"]
                return nodes[0].cache_owner.turns.is_ours(holding)

            with trio.fail_after(30):
                await wait_for(trio.lowlevel.checkpoint, is_decided)
        monkeypatch.setattr(turns, "READ_DIRTY_S", 3600.0)
        looks = nodes[0].cache_owner.turns._read_at
        # The next look is an hour away.
        await wait_for(
            trio.lowlevel.checkpoint, lambda _: looks["orders"] > trio.current_time() + 3000
        )
        for count in range(1, 4):
            await apps[1].mutate("orders.put", {"key": "a", "value": count})
            await wait_for(trio.lowlevel.checkpoint, lambda _, n=count: (0, "a", n) in told)
        assert {number for number, _, _ in told} == {0}
