"""Two nodes on one Redis behind nginx, round robin and without stickiness: a client may land on either, after every reconnect.

The configuration is the one of docs/ops/compose-nginx.conf with other addresses.
"""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import ServerProcess, free_port
from syncd.testing.redis_process import RedisProcess, redis_executable

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
SHIPPED = Path(__file__).parents[2] / "docs" / "ops" / "compose-nginx.conf"
PATIENT_S = 40.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (make test installs it)"),
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
CONFIG = """
[namespaces.demo]
history = "durable"
allow = { subscribe = ["anyone"], publish = ["anyone"], history = ["anyone"] }
"""
AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {shipped}
}}
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


@pytest.fixture
def port(tmp_path, nodes):
    """Of a running nginx before both nodes."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    port = free_port()
    shipped = SHIPPED.read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    for name, node in zip(("node-a", "node-b"), nodes, strict=True):
        assert f"{name}:8400" in shipped
        shipped = shipped.replace(f"{name}:8400", f"127.0.0.1:{node.port}")
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, shipped=shipped))
    command = [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def connect(port):
    """Connect and say hello; nginx may still be starting, or have to leave a node out that is gone."""
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
