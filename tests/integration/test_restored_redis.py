"""An older copy of Redis's files is brought back under two living nodes: their clients are told so, and no position has two contents."""

import shutil
import tempfile
from pathlib import Path

import pytest
import trio

from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.two_nodes import data_of, mutate, publish, subscribe, two_nodes, until_done

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]


@pytest.fixture
def server():
    with (
        tempfile.TemporaryDirectory(prefix="syncd-") as folder,
        RedisServer(Path(folder) / "r", appendfsync="always") as redis,
    ):
        yield redis


def bring_back(server, copy):
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    shutil.copytree(copy, server.folder / "appendonlydir")
    server.start()


async def test_what_was_told_is_not_told_again_under_the_same_position(server, tmp_path):
    """Found by an audit: the nodes saw that the log had lost its end, and went on in its epoch."""
    (tmp_path / "nodes").mkdir()
    async with two_nodes(server.url, tmp_path / "nodes") as world:
        author, reader = await world.connect(0), await world.connect(1)
        other = await world.connect(1)
        await subscribe(reader, "log:a")
        for data in ("one", "two"):
            await publish(author, "log:a", data)
        outcome = await mutate(author, "orders.incr", key="n")
        copy = shutil.copytree(server.folder / "appendonlydir", tmp_path / "copy")
        for data in ("three", "four"):
            told = await publish(author, "log:a", data)
        assert await data_of(reader, 4) == ["one", "two", "three", "four"]
        await trio.to_thread.run_sync(bring_back, server, copy)
        _, renewed = await reader.expect("subscribed")
        assert not renewed["recovered"]
        assert renewed["position"]["epoch"] != told["epoch"]
        again = await publish(author, "log:a", "THREE")
        assert again == {"epoch": renewed["position"]["epoch"], "offset": 3}
        assert await data_of(reader, 1) == ["THREE"]
        late = await subscribe(other, "log:a", position=told)
        assert not late["recovered"]
        assert late["position"] == again
        read = await until_done(other, "read", collection="orders", keys=["n"])
        assert read["entries"][0]["value"] == 1, "what the copy has is there"
        assert read["position"]["epoch"] != outcome["positions"]["orders"]["epoch"]
