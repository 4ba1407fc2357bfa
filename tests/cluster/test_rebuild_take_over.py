"""Two node processes on one real Redis: a rebuild whose node is killed or stands still goes on on the other, and is swapped in once (REBUILD)."""

import collections
import contextlib
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest
import trio

from syncd.client import open_client
from syncd.model.tokens import TokenClaims, make_token
from syncd.testing.crowd import wait_until
from syncd.testing.process import API_KEY, ServerProcess
from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.process]

SECRET = "correct horse battery staple, at length"
CONFIG = f"""
[auth]
algorithms = ["HS256"]
hmac_secret = "{SECRET}"
"""
NUM_ROWS = 300
ROW_S = 0.02
"""Both as in the application."""
APP = "tests/cluster/rebuild_app.py"
TAKEN_S = 15.0
"""From the holder's death until another goes on."""
SLACK_S = 5.0
"""A busy machine's."""
PAGE = 10


@attrs.define(eq=False)
class World:
    """The nodes, and what of the source each process has read."""

    nodes: list[ServerProcess]
    record: Path

    def scanned(self):
        """Rows read, by process."""
        lines = self.record.read_text().splitlines() if self.record.exists() else []
        return collections.Counter(int(line.split()[0]) for line in lines)

    @contextlib.asynccontextmanager
    async def client(self, number):
        token = make_token(TokenClaims("ann", roles=("admin",)), SECRET, now_s=time.time())
        url = f"ws://127.0.0.1:{self.nodes[number].port}"
        async with open_client(url, token=token) as client:
            yield client

    @contextlib.asynccontextmanager
    async def asking(self, number):
        headers = {"Authorization": f"Bearer {API_KEY}"}
        url = f"http://127.0.0.1:{self.nodes[number].port}"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield client


@pytest.fixture
async def world(monkeypatch):
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-")))
        redis = stack.enter_context(RedisServer(folder / "redis", appendfsync="always"))
        monkeypatch.setenv("REBUILD_RECORD", str(folder / "record"))
        nodes = []
        for name in "ab":
            own = folder / name
            own.mkdir()
            node = ServerProcess(own, CONFIG, arguments=("--redis", redis.url, APP))
            nodes.append(stack.enter_context(node))
            node.spawn()
        for node in nodes:
            await trio.to_thread.run_sync(node.wait_ready)
        with trio.fail_after(90):
            yield World(nodes, folder / "record")


async def until_done(client, job):
    """Ask a node until it knows the job's end, and return that."""

    async def ask():
        return (await client.get(f"/api/rebuild/{job}")).json()

    return await wait_for(ask, lambda told: told.get("state") == "done")


async def ends_told(client):
    """Ask a node how rebuilds have ended, as the audit log has it."""
    told = (await client.get("/api/audit")).json()["entries"]
    return [entry["outcome"] for entry in told if entry["what"] == "rebuild_end"]


async def half_done(progress):
    """Follow a job until half of its rows are read."""
    async for job in progress:
        assert not job.is_ended, job
        if job.done >= NUM_ROWS // 2:
            return job
    raise AssertionError("its progress ended")


async def test_a_job_goes_on_from_its_checkpoint_when_its_node_is_killed(world):
    holder, _ = world.nodes
    async with (
        world.client(1) as other,
        world.asking(1) as asking,
        other.rebuild_progress("orders") as progress,
    ):
        async with world.asking(0) as first:
            asked = (await first.post("/api/rebuild", json={"collection": "orders"})).json()
        seen = await half_done(progress)
        assert seen.job == asked["job"]
        await trio.to_thread.run_sync(holder.kill)
        died_at, seqs = trio.current_time(), [seen.seq]
        taken_at = None
        async for job in progress:
            assert job.job == asked["job"]
            seqs.append(job.seq)
            if taken_at is None and job.resumed_at:
                taken_at = trio.current_time()
            if job.is_ended:
                break
        done_at = trio.current_time()
        assert (job.state, job.done, job.changed) == ("done", NUM_ROWS, NUM_ROWS)
        assert job.resumed_at >= NUM_ROWS // 2
        assert taken_at - died_at <= TAKEN_S
        left_s = (NUM_ROWS - job.resumed_at) * ROW_S
        assert done_at - died_at <= TAKEN_S + left_s + SLACK_S
        assert sum(world.scanned().values()) <= NUM_ROWS + 2 * PAGE
        assert seqs == sorted(set(seqs))
        facts = await until_done(asking, job.job)
        assert (facts["who"], facts["resumed_at"]) == ("service:default", job.resumed_at)
        metrics = (await asking.get("/metrics")).text
        assert "syncd_rebuilds_taken_over_total 1.0" in metrics


async def test_a_holder_that_stood_still_is_fenced_and_there_is_one_swap(world):
    holder, taker = world.nodes
    async with (
        world.client(1) as other,
        other.rebuild_progress("orders") as progress,
        other.collection("orders").watch(all=True) as view,
    ):
        async with world.asking(0) as first:
            asked = (await first.post("/api/rebuild", json={"collection": "orders"})).json()
        seen = await half_done(progress)
        holder.signal(signal.SIGSTOP)
        stopped_at = trio.current_time()
        had_read = world.scanned()[holder.pid]
        while not seen.resumed_at:
            seen = await anext(progress)
        assert trio.current_time() - stopped_at <= TAKEN_S
        holder.signal(signal.SIGCONT)  # while the other is at it: whatever it writes is late
        while not seen.is_ended:
            newer = await anext(progress)
            assert (newer.job, newer.seq > seen.seq) == (asked["job"], True)
            assert newer.resumed_at == seen.resumed_at
            seen = newer
        assert (seen.state, seen.changed) == ("done", NUM_ROWS)
        await wait_until(lambda: len(view.items()) == NUM_ROWS, 20, "the new entries are told")
        authors = collections.Counter(value["by"] for _, value in view.items())
        assert set(authors) == {holder.pid, taker.pid}
        assert authors[taker.pid] == NUM_ROWS - seen.resumed_at
        scanned = world.scanned()
        assert scanned[holder.pid] <= had_read + 2 * PAGE
        assert scanned[taker.pid] <= NUM_ROWS - seen.resumed_at + PAGE
        for number in (0, 1):
            async with world.asking(number) as client:
                facts = await until_done(client, asked["job"])
                assert facts["changed"] == NUM_ROWS
                # Each tells what both have entered: the holder entered nothing when it woke up.
                assert await wait_for(partial(ends_told, client), bool) == ["done"]
