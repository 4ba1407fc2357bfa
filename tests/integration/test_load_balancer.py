"""Two nodes on one Redis behind a load balancer without stickiness: a client may land on either, after every reconnect.

The configurations are those of docs/ops/compose-nginx.conf and docs/haproxy.md with other addresses.
"""

import contextlib
from pathlib import Path

import httpx
import pytest
import trio

from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import API_KEY, ServerProcess, free_port
from syncd.testing.redis_process import RedisProcess, redis_executable
from tests.integration import haproxy, nginx

SHIPPED = Path(__file__).parents[2] / "docs" / "ops" / "compose-nginx.conf"
PATIENT_S = 40.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
CONFIG = """
[namespaces.demo]
history = "durable"
allow = { subscribe = ["anyone"], publish = ["anyone"], history = ["anyone"] }
"""


@pytest.fixture
def nodes(tmp_path):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisProcess(tmp_path))
        started = []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            arguments = ("--redis", redis.url)
            node = stack.enter_context(ServerProcess(folder, CONFIG, arguments=arguments))
            node.start()
            started.append(node)
        yield started


def behind_nginx(folder, port, nodes):
    """Run nginx with the `server` block of the compose file."""
    site = SHIPPED.read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    for name, node in zip(("node-a", "node-b"), nodes, strict=True):
        assert f"{name}:8400" in site
        site = site.replace(f"{name}:8400", f"127.0.0.1:{node.port}")
    return nginx.running_nginx(folder, site)


def behind_haproxy(folder, port, nodes):
    """Run HAProxy as documented."""
    config = haproxy.documented(port, [node.port for node in nodes])
    return haproxy.running_haproxy(folder, config)


@pytest.fixture(
    params=[
        pytest.param(
            behind_nginx,
            id="nginx",
            marks=pytest.mark.skipif(nginx.NGINX is None, reason=nginx.MISSING),
        ),
        pytest.param(
            behind_haproxy,
            id="haproxy",
            marks=pytest.mark.skipif(haproxy.HAPROXY is None, reason=haproxy.MISSING),
        ),
    ]
)
def port(request, tmp_path, nodes):
    """Of a running load balancer before both nodes."""
    port = free_port()
    with request.param(tmp_path / "balancer", port, nodes):
        yield port


async def connect(port):
    """Connect and say hello; the balancer may still be starting, or have to leave a node out that is gone."""
    with trio.fail_after(PATIENT_S):
        while True:
            try:
                client = await PlainClient.connect(port)
                await client.hello()
            except (OSError, Closed):
                await trio.sleep(0.05)
            else:
                return client


async def test_a_client_lands_anywhere_and_goes_on_from_its_position(port, nodes):
    with trio.fail_after(2 * PATIENT_S):
        clients = [await connect(port) for _ in range(6)]
        assert len({client.session.partition("-")[0] for client in clients}) == 2, "one node only"
        listeners, speakers = clients[:4], clients[4:]
        assert len({client.session.partition("-")[0] for client in speakers}) == 2
        for client in listeners:
            assert (await client.ask("subscribe", channel="demo:a"))[0] == "subscribed"
        positions = []
        for number in range(20):
            speaker = speakers[number % 2]
            kind, answer = await speaker.ask("publish", channel="demo:a", data=number)
            assert kind == "ok"
            positions.append(answer["position"])
        assert [each["offset"] for each in positions] == list(range(1, 21))
        for client in listeners:
            seen = [(await client.expect("event"))[1]["data"] for _ in range(20)]
            assert seen == list(range(20))
        await trio.to_thread.run_sync(nodes[0].kill)
        # Whoever comes back lands on the other one and misses nothing.
        for position in positions[:4]:
            again = await connect(port)
            kind, answer = await again.ask("subscribe", channel="demo:a", position=position)
            assert kind == "subscribed"
            assert answer["recovered"] is True
            missed = [each["data"] for each in answer["events"]]
            assert missed == list(range(position["offset"], 20))
            await again.aclose()
        for client in clients:
            await client.aclose()


async def test_calls_of_the_api_land_anywhere_and_are_one_log(port):
    with trio.fail_after(2 * PATIENT_S):
        listener = await connect(port)
        assert (await listener.ask("subscribe", channel="demo:b"))[0] == "subscribed"
        # Each call has a connection of its own, so the balancer gives it to whichever node it is the turn of.
        headers = {"Authorization": f"Bearer {API_KEY}", "Connection": "close"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers) as http:
            for number in range(4):
                answer = await http.post("/api/publish", json={"channel": "demo:b", "data": number})
                assert answer.status_code == 200
                assert answer.headers["x-request-id"]
                assert answer.json()["position"]["offset"] == number + 1
        seen = [(await listener.expect("event"))[1]["data"] for _ in range(4)]
        assert seen == [0, 1, 2, 3]
        await listener.aclose()
