"""Two node processes on one real Redis that share an expensive load: it is one however long it takes, and a killed node holds up nobody for long."""

import contextlib
import tempfile
from pathlib import Path

import attrs
import pytest
import trio

from syncd.actors.cache_owner.claiming import LEASE_S
from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess
from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.process]

APP = "tests/cluster/loads_app.py"
TAKEN_S = LEASE_S + 3.0
"""From a node's death until another asks the source: its lease, a poll, and what a busy machine takes."""


@attrs.define(eq=False)
class World:
    """The nodes, and the folder of their source."""

    nodes: list[ServerProcess]
    folder: Path
    answers: dict = attrs.field(factory=dict)

    def calls(self):
        """Processes that have asked the source."""
        record = self.folder / "record"
        return [int(line) for line in record.read_text().split()] if record.exists() else []

    async def called(self, count):
        await wait_for(trio.lowlevel.checkpoint, lambda _: len(self.calls()) == count)

    async def read(self, number):
        async with contextlib.AsyncExitStack() as stack:
            client = await PlainClient.connect(self.nodes[number].port)
            stack.push_async_callback(client.aclose)
            await client.hello()
            with contextlib.suppress(Exception):  # its node is killed
                self.answers[number] = await client.ask("read", collection="reports", keys=["a"])


@pytest.fixture
async def world(monkeypatch):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-")))
        redis = stack.enter_context(RedisServer(folder / "redis", appendfsync="always"))
        monkeypatch.setenv("LOADS_FOLDER", str(folder))
        nodes = []
        for name in "ab":
            own = folder / name
            own.mkdir()
            node = ServerProcess(own, "", arguments=("--redis", redis.url, APP))
            nodes.append(stack.enter_context(node))
            node.spawn()
        for node in nodes:
            await trio.to_thread.run_sync(node.wait_ready)
        with trio.fail_after(90):
            yield World(nodes, folder)


async def test_a_load_is_one_for_as_long_as_its_node_lives_and_no_longer(world):
    """The source may take twelve times the lease."""
    holder, other = world.nodes
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.read, 0)
        await world.called(1)
        nursery.start_soon(world.read, 1)
        await trio.sleep(LEASE_S + 2.0)
        assert world.calls() == [holder.pid], "the claim of a node that lives is renewed"
        await trio.to_thread.run_sync(holder.kill)
        died_at = trio.current_time()
        await world.called(2)
        assert trio.current_time() - died_at <= TAKEN_S
        (world.folder / "gate").touch()
    kind, told = world.answers[1]
    assert kind == "ok", told
    assert [entry["value"] for entry in told["entries"]] == [{"by": other.pid, "of": "a"}]
