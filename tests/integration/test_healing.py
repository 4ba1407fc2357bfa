"""HEALED: health and log tell of a crash, too many end the node, and random ones under load lose and double nothing."""

import contextlib
import json
import random

import pytest
import structlog
import trio

from syncd.actors.broadcaster.actor import Broadcaster
from syncd.actors.broadcaster.delivering import Delivering
from syncd.actors.kit import Health, NodeFailed
from syncd.config import HistoryKind
from syncd.server import open_node
from syncd.testing.crowd import read_log
from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import ServerProcess
from tests.integration.chaos_scenario import live_through
from tests.integration.nodes import MEMORY, make_config, namespace, running
from tests.integration.planted_faults import Fault, health_of, restarted

CRASHER = """
import sys
from syncd.actors.broadcaster.delivering import Delivering
from syncd.cli.main import main

async def deliver(self):
    if self._publishing.take_touched():
        raise RuntimeError("planted")

Delivering.deliver = deliver
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


async def test_health_and_log_tell_of_a_crash(tmp_path, monkeypatch, log_lines):
    async with running(make_config(tmp_path, MEMORY)) as (node, connect):
        client = await connect()
        seen = []
        original = Broadcaster.recover

        def recover(this):
            seen.append((health_of(node, "broadcaster").state, list(node.reasons_not_ready())))
            original(this)

        monkeypatch.setattr(Broadcaster, "recover", recover)
        Fault(monkeypatch, Delivering, "deliver")
        await client.ask("publish", channel="mem:c", data=1)
        await restarted(node, "broadcaster")
        assert seen == [(Health.RESTARTING, ["The actor broadcaster is restarting."])]
        status, body = await get_health(node)
        assert status == 200
        actors = {actor["name"]: actor for actor in body["actors"]}
        assert actors["broadcaster"]["num_restarts"] == 1
        assert actors["broadcaster"]["last_error"] == "PlantedFault"
        assert actors["store"]["num_restarts"] == 0
    told = [line for line in log_lines if line["event"] == "actor_restarted"]
    assert [line["actor"] for line in told] == ["broadcaster"]
    assert told[0]["log_level"] == "error"
    assert "PlantedFault" in repr(told[0]["exc_info"])


async def get_health(node):
    stream = await trio.open_tcp_stream("127.0.0.1", node.addresses[0][1])
    async with stream:
        await stream.send_all(b"GET /health/ready HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        data = b""
        async for chunk in stream:
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_the_fourth_crash_in_ten_seconds_ends_the_node(tmp_path, monkeypatch, log_lines):
    planted = Fault(monkeypatch, Delivering, "deliver", times=4)
    failures = []
    with trio.fail_after(20):
        try:
            async with open_node(make_config(tmp_path, MEMORY)) as node:
                client = await PlainClient.connect(node.addresses[0][1])
                await client.hello()
                try:
                    with contextlib.suppress(Closed):
                        while True:
                            await client.ask("publish", channel="mem:c", data=1)
                finally:
                    await client.aclose()
                await trio.sleep_forever()
        except* NodeFailed as group:
            failures += group.exceptions
    assert planted.num_raised == 4
    assert "broadcaster" in repr(failures)
    assert [line["event"] for line in log_lines if line["event"].startswith("actor_")] == [
        "actor_restarted",
        "actor_restarted",
        "actor_restarted",
        "actor_failed",
    ]


@pytest.mark.slow
@pytest.mark.process
async def test_a_node_that_cannot_heal_exits_with_an_error_and_loses_nothing(tmp_path):
    script = tmp_path / "crasher.py"
    script.write_text(CRASHER)
    with ServerProcess(tmp_path, program=(str(script),)) as server:
        await trio.to_thread.run_sync(server.start)
        num_told = 0
        client = await PlainClient.connect(server.port)
        await client.hello()
        await client.ask("subscribe", channel="demo:c")
        with contextlib.suppress(Closed), trio.move_on_after(20):
            while True:
                kind, body = await client.ask("publish", channel="demo:c", data=1)
                assert (kind, body["code"]) == ("error", "internal_error")
                num_told += 1
        code = await trio.to_thread.run_sync(server.wait, 20)
        assert code not in (0, -9)
        events = [line["event"] for line in server.log_lines()]
        assert events.count("actor_restarted") == 3
        assert "actor_failed" in events
        assert "node_failed" in events
        assert num_told == 3
        await client.aclose()
    with ServerProcess(tmp_path) as server:
        await trio.to_thread.run_sync(server.start)
        _, events = await read_log(server.port, "demo:c")
        assert [event["offset"] for event in events] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_random_crashes_under_load_lose_and_double_nothing(tmp_path, monkeypatch, seed):
    kind = namespace("log", HistoryKind.DURABLE, history_size=1_000_000)
    async with running(make_config(tmp_path, kind)) as (node, _connect):
        num_fired = await live_through(
            node,
            node.addresses[0][1],
            monkeypatch,
            random.Random(seed),
            num_faults=12,
            num_peers=8,
        )
    assert num_fired >= 6
