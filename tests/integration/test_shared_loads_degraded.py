"""Loads that nodes share while their Redis is away: each node asks the source for itself, and says only what it may.

Invariant: what the source has as it was is served; what it has changed gets no version before it is in the store, so nobody is told it.
"""

import tempfile
from pathlib import Path

import pytest
import trio

from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.loads_world import expired, reading, two_nodes
from tests.integration.nodes import wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]

TTL_S = 0.1


@pytest.fixture
def server():
    with (
        tempfile.TemporaryDirectory(prefix="syncd-") as folder,
        RedisServer(Path(folder), appendfsync="always") as redis,
    ):
        yield redis


async def test_each_node_loads_for_itself_what_it_has_while_redis_is_away(server, tmp_path):
    async with two_nodes(server, tmp_path, ttl=TTL_S) as world:
        world.source.gate.set()
        for number in range(2):
            assert await world.read(number, "a") == [1]
        await expired(world)
        server.kill()
        del world.source.calls[:]
        for number in range(2):
            assert await world.read(number, "a") == [1]
        assert world.source.calls == [(0, ["a"]), (1, ["a"])]
        await expired(world)
        world.source.values["a"] = "new"
        for number in range(2):
            assert await world.read(number, "a") == "store_unavailable"
            assert await world.read(number, "b") == "store_unavailable", "no node has it"
        server.start()
        await wait_for(lambda: world.read(0, "a"), lambda found: found == ["new"])
        await wait_for(lambda: world.read(1, "a"), lambda found: found == ["new"])


async def test_what_was_waited_for_is_loaded_here_when_redis_goes_away(server, tmp_path):
    async with two_nodes(server, tmp_path, ttl=TTL_S) as world:
        world.source.gate.set()
        for number in range(2):
            assert await world.read(number, "a") == [1]
        await expired(world)
        world.source.gate = trio.Event()
        del world.source.calls[:]
        async with reading(world, "a") as (loader, answers):
            # The other may wait before this one has heard that it is to load.
            await wait_for(trio.lowlevel.checkpoint, lambda _: len(world.source.calls) == 1)
            server.kill()
            await wait_for(trio.lowlevel.checkpoint, lambda _: len(world.source.calls) == 2)
            world.source.gate.set()
        assert answers == [[1]] * 2
        assert world.source.calls == [(loader, ["a"]), (1 - loader, ["a"])]


async def test_no_more_loads_run_at_once_than_the_collection_allows(server, tmp_path):
    keys = [f"k{number:02}" for number in range(12)]
    how = {"ttl": TTL_S, "load_batch": 2, "load_concurrency": 3}
    async with two_nodes(server, tmp_path, **how) as world:
        world.source.values.update(dict.fromkeys(keys, 1))
        world.source.gate.set()
        assert await world.read(0, *keys) == [1] * len(keys)
        for key in keys:
            await expired(world, key)
        server.kill()
        world.source.gate = trio.Event()
        del world.source.calls[:]
        answers = []

        async def read():
            answers.append(await world.read(0, *keys))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_for(trio.lowlevel.checkpoint, lambda _: len(world.source.calls) == 3)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert len(world.source.calls) == 3
            world.source.gate.set()
        assert answers == [[1] * len(keys)]
        assert sorted(key for _, asked in world.source.calls for key in asked) == keys
