"""What docs/ops/compose.yml starts, without containers: two nodes on one Redis behind nginx, each with the files and options it has there."""

import http.client
import json
from pathlib import Path

import pytest
import trio
import yaml

from syncd.testing.process import API_KEY, ServerProcess, free_port
from syncd.testing.raw_client import RawClient
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.nginx import NGINX, running_nginx

OPS = Path("docs/ops")
PATIENT_S = 30.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        NGINX is None or redis_executable() is None,
        reason="nginx and redis-server are not installed (make test installs them)",
    ),
]


@pytest.fixture
def redis_server(tmp_path_factory):
    """With the options that compose gives it."""
    command = yaml.safe_load((OPS / "compose.yml").read_text())["services"]["redis"]["command"]
    with RedisServer(tmp_path_factory.mktemp("r"), *command[1:]) as server:
        yield server


@pytest.fixture
def nodes(tmp_path, redis_server):
    config = (OPS / "compose-syncd.toml").read_text()
    started = []
    try:
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            environment = {"SYNCD_REDIS": redis_server.url}
            started.append(ServerProcess(folder, config, environment=environment))
            started[-1].start()
        yield started
    finally:
        for node in started:
            node.kill()


@pytest.fixture
def port(tmp_path, nodes):
    """Of nginx with the file that compose gives it, names of its network apart."""
    port = free_port()
    site = (
        (OPS / "compose-nginx.conf").read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    )
    for name, node in zip(("node-a", "node-b"), nodes, strict=True):
        assert f"{name}:8400" in site
        site = site.replace(f"{name}:8400", f"127.0.0.1:{node.port}")
    with running_nginx(tmp_path / "nginx", site):
        yield port


async def session(port):
    """A client through nginx, which may still be starting."""
    with trio.fail_after(PATIENT_S):
        while True:
            try:
                client = RawClient(await trio.open_tcp_stream("127.0.0.1", port))
            except OSError:
                await trio.sleep(0.02)
                continue
            await client.upgrade()
            await client.hello()
            return client


def publish(port, data):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    body = json.dumps({"channel": "news:all", "data": data, "uid": str(data)})
    connection.request("POST", "/api/publish", body, headers)
    answer = connection.getresponse()
    told = answer.status, json.loads(answer.read())
    connection.close()
    return told


async def test_both_nodes_serve_one_feed_and_one_alone_goes_on(port, nodes):
    with trio.fail_after(2 * PATIENT_S):
        clients = [await session(port) for _ in range(4)]
        for client in clients:
            await client.ask("subscribe", id=1, channel="news:all")
        for number in range(4):
            status, answer = await trio.to_thread.run_sync(publish, port, number)
            assert (status, answer["position"]["offset"]) == (200, number + 1)
        for client in clients:
            told = [(await client.receive_message("event"))["data"] for _ in range(4)]
            assert told == [0, 1, 2, 3]
            await trio.aclose_forcefully(client.stream)
        counts = [await trio.to_thread.run_sync(node.get, "/api/info") for node in nodes]
        assert [status for status, _ in counts] == [200, 200]
        await trio.to_thread.run_sync(nodes[0].kill)
        status, answer = await trio.to_thread.run_sync(publish, port, 4)
        assert (status, answer["position"]["offset"]) == (200, 5), "nginx asks the other one"
        client = await session(port)
        position = {**answer["position"], "offset": 0}
        _, answer = await client.ask("subscribe", id=1, channel="news:all", position=position)
        assert [event["data"] for event in answer["events"]] == [0, 1, 2, 3, 4]
        await trio.aclose_forcefully(client.stream)
