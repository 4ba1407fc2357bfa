"""Three node processes on a real Redis: who is present is the same on all, a killed node's members leave once, orders reach everybody.

Times are a fifth of the real ones: three seconds of silence is death, and two more are left to come back, where it is 15 and 10.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import trio

from syncd.http.metrics import BRIDGE_COUNTERS, BUS_COUNTERS
from syncd.testing.process import API_KEY, ServerProcess
from syncd.testing.raw_client import RawClient
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.cluster_nodes import ROOM, Nodes, until, until_answer

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]

SECRET = "0123456789abcdef0123456789abcdef"
CONFIG = f"""
[timing]
presence_grace_s = 3.0
node_beat_s = 1.0
node_dead_s = 3.0
node_orphan_s = 2.0

[namespaces.room]
presence = true
allow = {{ subscribe = ["anyone"], presence = ["anyone"] }}

[auth]
algorithms = ["HS256"]
hmac_secret = "{SECRET}"
"""
GONE_S = 30.0 / 5


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    folder = Path(tempfile.mkdtemp(prefix="syncd-"))
    try:
        with RedisServer(
            folder / "r", "--maxmemory-policy", "noeviction", appendfsync="always"
        ) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def nodes(
    redis_server: RedisServer, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Nodes]:
    servers = []
    prefix = f"t{abs(hash(request.node.name)) % 10**9}"
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        servers.append(_server(folder, redis_server, prefix))
    found = Nodes(redis_server, servers)
    try:
        for server in servers:
            server.spawn()
        for server in servers:
            await trio.to_thread.run_sync(server.wait_ready)
        for number in range(3):
            await _until_it_knows(found, number, 3)
        yield found
    finally:
        for server in servers:
            server.kill()


def _server(folder: Path, redis_server: RedisServer, prefix: str) -> ServerProcess:
    config = f'[server]\nredis_prefix = "{prefix}"\n{CONFIG}'
    return ServerProcess(folder, config, arguments=("--redis", redis_server.url))


async def _rows(nodes: Nodes, number: int) -> list[dict[str, Any]]:
    _, answer = await trio.to_thread.run_sync(nodes.servers[number].get, "/api/nodes")
    rows: list[dict[str, Any]] = answer["nodes"]
    return rows


async def _until_it_knows(nodes: Nodes, number: int, count: int) -> list[dict[str, Any]]:
    """Wait until a node knows so many, and has heard how each of them is."""
    return await until_answer(
        lambda: _rows(nodes, number),
        lambda rows: len(rows) == count and all(row["version"] for row in rows),
    )


async def test_nodes_are_listed_by_each_of_them_and_by_the_command_line(nodes):
    rows = await _until_it_knows(nodes, 1, 3)
    assert len({row["node"] for row in rows}) == 3
    assert {row["state"] for row in rows} == {"alive"}
    assert {row["address"] for row in rows} == {
        f"127.0.0.1:{server.port}" for server in nodes.servers
    }
    command = [sys.executable, "-m", "syncd.cli.main", "info", "--cluster", "--url", nodes.url(2)]
    result = await trio.run_process(
        [*command, "--api-key", API_KEY], capture_stdout=True, stderr=subprocess.STDOUT
    )
    assert len(result.stdout.splitlines()) == 3
    metrics = await _metrics(nodes, 0)
    assert "syncd_cluster_nodes 3.0" in metrics
    assert "syncd_cluster_faults_total 0.0" in metrics
    assert "syncd_cluster_bad_messages_total 0.0" in metrics
    assert "syncd_bus_up 1.0" in metrics
    told = {line.split()[0] for line in metrics if line and not line.startswith("#")}
    counters = {f"syncd_bus_{name}_total" for name, _, _ in (*BRIDGE_COUNTERS, *BUS_COUNTERS)}
    assert counters <= told


async def test_a_killed_nodes_members_leave_once_and_in_time_on_the_other_nodes(nodes):
    async with (
        nodes.client(1) as watcher,
        nodes.client(2) as other,
        nodes.client(0) as doomed,
        nodes.client(1) as safe,
    ):
        for client in (watcher, other):
            await client.watch()
        await doomed.announce({"name": "doomed"})
        await safe.announce({"name": "safe"})
        for client in (watcher, other):
            await until(lambda client=client: set(client.present) == {doomed.id, safe.id})
        killed_at = trio.current_time()
        nodes.servers[0].kill()
        for client in (watcher, other):
            await until(lambda client=client: set(client.present) == {safe.id})
        await trio.sleep(2 * GONE_S)
        for client in (watcher, other):
            [(at, name)] = client.leaves
            assert name == doomed.id
            assert at - killed_at <= GONE_S + 1.0  # a second for a machine that is busy
        assert len(await _rows(nodes, 1)) == 2


async def test_a_client_that_finds_another_node_after_a_kill_is_not_told_at_all(nodes):
    async with nodes.client(2) as watcher, nodes.client(0) as first:
        await watcher.watch()
        await first.announce("here")
        await until(lambda: watcher.present == {first.id: "here"})
        nodes.servers[0].kill()
        async with nodes.client(1, clients=first.claims) as again:
            assert again.id == first.id
            await again.announce("here")
            await trio.sleep(2 * GONE_S)
            assert watcher.present == {first.id: "here"}
            assert watcher.leaves == []
            assert watcher.joins == [first.id]


async def test_a_clean_stop_gives_its_clients_the_grace_and_no_leave_to_who_comes_back(nodes):
    async with nodes.client(2) as watcher, nodes.client(0) as first, nodes.client(0) as away:
        await watcher.watch()
        for client in (first, away):
            await client.announce("here")
        await until(lambda: len(watcher.present) == 2)
        nodes.servers[0].signal(signal.SIGTERM)
        for client in (first, away):
            await until(lambda client=client: client.closed)
            assert client.closed == "closed with 4000"
            await client.raw.send_close()
        async with nodes.client(1, clients=first.claims) as again:
            await again.announce("here")
            assert await trio.to_thread.run_sync(nodes.servers[0].wait, 15.0) == 0
            await until(lambda: set(watcher.present) == {first.id})
            assert [name for _, name in watcher.leaves] == [away.id]
            assert watcher.joins.count(first.id) == 1
        assert len(await _rows(nodes, 1)) == 2, "it said that it leaves"


async def test_a_newer_hello_on_another_node_takes_the_client_over(nodes):
    async with nodes.client(0) as older, nodes.client(2) as watcher:
        await watcher.watch()
        await older.announce("old")
        await until(lambda: watcher.present == {older.id: "old"})
        async with nodes.client(1, clients=older.claims) as newer:
            await until(lambda: older.closed)
            assert older.closed == "closed with 4504"
            await newer.announce("new")
            await until(lambda: watcher.present == {older.id: "new"})
            assert watcher.leaves == []


async def test_a_node_that_stood_still_is_taken_back_and_has_told_nobody_of_a_death(nodes):
    async with (
        nodes.client(0) as watcher,
        nodes.client(0) as here,
        nodes.client(1) as there,
        nodes.client(1) as there_watcher,
    ):
        for client in (watcher, there_watcher):
            await client.watch()
        await here.announce("here")
        await there.announce("there")
        for client in (watcher, there_watcher):
            await until(lambda client=client: set(client.present) == {here.id, there.id})
        nodes.servers[1].signal(signal.SIGSTOP)
        await until(lambda: set(watcher.present) == {here.id})
        nodes.servers[1].signal(signal.SIGCONT)
        await until(lambda: set(watcher.present) == {here.id, there.id})
        await trio.sleep(GONE_S)
        assert there_watcher.leaves == []
        assert [name for _, name in watcher.leaves] == [there.id]


async def test_a_lower_term_of_a_group_mutates_no_more_whichever_node_the_newer_one_is_on(nodes):
    async with nodes.client(0, group="tabs", term=1) as older:
        assert await older.mutate() == "decided"
        async with nodes.client(1, group="tabs", term=2) as newer:
            await until_answer(older.mutate, lambda code: code == "stale_term")
            assert await newer.mutate() == "decided"
    async with (
        nodes.client(1, group="desk", term=5),
        nodes.client(2, group="desk", term=4) as late,
    ):
        await until_answer(late.mutate, lambda code: code == "stale_term")


async def test_disconnect_and_revoke_reach_sessions_of_all_nodes_and_are_counted(nodes):
    token = jwt.encode({"sub": "ada", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    async with contextlib.AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(nodes.client(n, token=token)) for n in range(3)]
        body = {"user": "ada", "reconnect": True}
        assert await _post(nodes, 0, "/api/disconnect", body) == {
            "num_sessions": 3,
            "nodes_answered": 3,
            "nodes": 3,
        }
        for client in clients:
            await until(lambda client=client: client.closed)
            assert client.closed == "closed with 4007"
    async with nodes.client(2, token=token) as client:
        answer = await _post(nodes, 1, "/api/revoke", {"user": "ada"})
        assert (answer["num_sessions"], answer["nodes_answered"]) == (1, 3)
        await until(lambda: client.closed)
        assert client.closed == "closed with 4401"
    for number in range(3):
        with pytest.raises(EOFError, match="4401"):
            await _greet(nodes, number, token)


async def test_an_unsubscription_reaches_sessions_of_nodes_that_were_not_asked(nodes):
    token = jwt.encode({"sub": "ada", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    async with contextlib.AsyncExitStack() as opened:
        enter = opened.enter_async_context
        hers = [await enter(nodes.client(number, token=token)) for number in (1, 2)]
        others = [await enter(nodes.client(number)) for number in (1, 2)]
        for client in (*hers, *others):
            await client.watch()
        assert await _post(nodes, 0, "/api/unsubscribe", {"user": "ada", "channel": ROOM}) == {
            "num_sessions": 2,
            "nodes_answered": 3,
            "nodes": 3,
        }
        for client in hers:
            await until(lambda client=client: client.ended)
            assert client.ended == [(ROOM, "unsubscribed")]
        await others[0].announce("here")
        for client in others:
            await until(lambda client=client: client.present)
            assert client.ended == []
        for client in hers:
            # Its answer comes behind all that was told before.
            assert await client.ask("subscribe", channel="room:b") == "ok"
            assert (client.present, client.closed) == ({}, "")
            await client.watch()
            await until(lambda client=client: client.present == {others[0].id: "here"})


async def test_revocations_survive_the_restart_of_every_node_one_after_the_other(nodes):
    token = jwt.encode({"sub": "eve", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    await _post(nodes, 0, "/api/revoke", {"user": "eve"})
    for number in range(3):
        nodes.servers[number].kill()
        nodes.servers[number].spawn()
        await trio.to_thread.run_sync(nodes.servers[number].wait_ready)
        await until_answer(
            lambda number=number: _rows(nodes, number),
            lambda rows: sum(row["state"] == "alive" for row in rows) >= 3,
        )
        await until_answer(lambda number=number: _is_refused(nodes, number, token), bool)
    for number in range(3):
        assert await _is_refused(nodes, number, token)


async def test_while_redis_is_away_presence_goes_on_and_afterwards_it_is_the_same_everywhere(nodes):
    async with nodes.client(0) as here, nodes.client(1) as there, nodes.client(2) as watcher:
        await watcher.watch()
        await here.announce("here")
        await there.announce("there")
        await until(lambda: set(watcher.present) == {here.id, there.id})
        nodes.redis.kill()
        await trio.sleep(2 * GONE_S)
        assert watcher.leaves == [], "nobody dies while nobody can be heard"
        await here.announce("changed")
        nodes.redis.start()
        await until(lambda: watcher.present == {here.id: "changed", there.id: "there"})
        await trio.sleep(GONE_S)
        assert watcher.leaves == []


async def _post(nodes: Nodes, number: int, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=20) as client:
        answer = await client.post(
            nodes.url(number) + path, json=body, headers={"Authorization": f"Bearer {API_KEY}"}
        )
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def _metrics(nodes: Nodes, number: int) -> list[str]:
    async with httpx.AsyncClient(timeout=20) as client:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        answer = await client.get(f"{nodes.url(number)}/metrics", headers=headers)
    return answer.text.splitlines()


async def _greet(nodes: Nodes, number: int, token: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", nodes.servers[number].port)
    async with RawClient.over(stream) as raw:
        await raw.upgrade()
        await raw.hello(token=token)


async def _is_refused(nodes: Nodes, number: int, token: str) -> bool:
    try:
        await _greet(nodes, number, token)
    except EOFError as error:
        assert "4401" in str(error)  # noqa: PT017 - any other end is a failure
        return True
    return False
