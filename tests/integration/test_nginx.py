"""Behind nginx with upstream keep-alive: WebSocket and HTTP through one pool of connections, and a node that restarts.

The trap: a proxy keeps a connection that served HTTP and sends the next request on it, which may be an upgrade. On the shared port
syncd closes after each answer, so there is nothing to mix up.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from syncd.testing.process import API_KEY, ServerProcess, free_port
from syncd.testing.raw_client import RawClient, Refused, request_head

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
PATIENT_S = 20.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (make test installs it)"),
]

DOCUMENTED = Path("docs/nginx.md").read_text().partition("```nginx\n")[2].partition("```")[0]

CONFIG = """
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
    {site}
}}
"""


def documented(upstream, port):
    """What docs/nginx.md shows, but for its two addresses."""
    site = DOCUMENTED
    for shown, ours in (
        ("127.0.0.1:8400", f"127.0.0.1:{upstream}"),
        ("443 ssl", f"127.0.0.1:{port}"),
    ):
        assert site.count(shown) == 1
        site = site.replace(shown, ours)
    return site


@pytest.fixture
def server(tmp_path):
    with ServerProcess(tmp_path) as started:
        started.start()
        yield started


@pytest.fixture
def proxy(tmp_path, server):
    """A running nginx before the node; its port."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, site=documented(server.port, port)))
    command = [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def dial(port):
    """Connect; nginx may still be starting."""
    with trio.fail_after(PATIENT_S):
        while True:
            try:
                return RawClient(await trio.open_tcp_stream("127.0.0.1", port))
            except OSError:
                await trio.sleep(0.02)


async def http(port, path, *lines, method="GET", body=b"", client=None):
    """Ask once, over a kept connection if one is given."""
    own = client or await dial(port)
    head = request_head(
        path,
        f"Authorization: Bearer {API_KEY}",
        f"Content-Length: {len(body)}",
        *lines,
        method=method,
        upgrade=False,
    )
    try:
        await own.send(head + body)
        return await own.receive_response()
    finally:
        if client is None:
            await trio.aclose_forcefully(own.stream)


async def session(port):
    client = await dial(port)
    await client.upgrade()
    await client.hello()
    return client


async def test_websockets_and_http_alternate_over_one_pool_without_mixing_up(proxy):
    with trio.fail_after(PATIENT_S):
        watcher = await session(proxy)
        await watcher.ask("subscribe", id=1, channel="demo:a")
        kept = await dial(proxy)
        for number in range(40):
            body = b'{"channel":"demo:a","data":%d}' % number
            response = await http(
                proxy,
                "/api/publish",
                "Content-Type: application/json",
                method="POST",
                body=body,
                client=kept,
            )
            assert (response.status, response.headers["content-type"]) == (200, "application/json")
            assert (await http(proxy, "/health/live", client=kept)).status == 200
            client = await session(proxy)
            kind, answer = await client.ask("history", id=9, channel="demo:a", limit=0)
            assert (kind, answer["position"]["offset"]) == ("ok", number + 1)
            await client.send_close()
            assert (await client.receive_close()).close_code == 1000
            await trio.aclose_forcefully(client.stream)
            assert (await watcher.receive_message("event"))["data"] == number
        for client in (watcher, kept):
            await trio.aclose_forcefully(client.stream)


async def test_many_at_once_over_one_pool(proxy):
    """Eight tasks that ask and open sessions in turn, over a pool of four connections."""
    num_sessions = 0

    async def alternate(number):
        nonlocal num_sessions
        for turn in range(10):
            response = await http(proxy, "/nowhere" if turn % 2 else "/health/live")
            assert response.status == (404 if turn % 2 else 200)
            client = await session(proxy)
            kind, _ = await client.ask("publish", id=turn, channel=f"live:{number}", data=turn)
            assert kind == "ok"
            num_sessions += 1
            await trio.aclose_forcefully(client.stream)

    with trio.fail_after(PATIENT_S):
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(alternate, number)
    assert num_sessions == 80


async def test_a_refused_upgrade_does_not_poison_the_pool(proxy):
    with trio.fail_after(PATIENT_S):
        for head, status in (
            (request_head("/ws", subprotocol=None), 400),
            (request_head("/ws", "Origin: https://evil.example"), 403),
            (request_head("/elsewhere"), 404),
        ):
            for _ in range(5):
                client = await dial(proxy)
                with pytest.raises(Refused) as refused:
                    await client.upgrade(head)
                assert refused.value.response.status == status
                await trio.aclose_forcefully(client.stream)
            assert (await http(proxy, "/health/ready")).status == 200
            await trio.aclose_forcefully((await session(proxy)).stream)


async def test_a_restart_of_the_node_behind_the_proxy(proxy, server):
    with trio.fail_after(2 * PATIENT_S):
        client = await session(proxy)
        await client.ask("subscribe", id=1, channel="demo:a")
        _, before = await client.ask("publish", id=2, channel="demo:a", data="before")
        await trio.to_thread.run_sync(server.kill)
        with pytest.raises(EOFError):
            await client.receive_message("never")
        await trio.aclose_forcefully(client.stream)
        assert (await http(proxy, "/health/live")).status == 502
        await trio.to_thread.run_sync(server.start)
        again = await session(proxy)
        _, answer = await again.ask(
            "subscribe", id=1, channel="demo:a", position={**before["position"], "offset": 0}
        )
        assert answer["recovered"]
        assert [event["data"] for event in answer["events"]] == ["before"]
        assert (await http(proxy, "/health/ready")).status == 200
        await trio.aclose_forcefully(again.stream)


async def test_a_node_that_stops_tells_its_clients_through_the_proxy(proxy, server):
    with trio.fail_after(2 * PATIENT_S):
        client = await session(proxy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, server.stop)
            bye = await client.receive_message("bye")
            assert (bye["code"], bye["reconnect"]) == (4000, True)
            assert (await client.receive_close()).close_code == 4000
            await trio.aclose_forcefully(client.stream)


async def test_the_proxy_without_http_1_1_is_told_what_to_change(server):
    with trio.fail_after(PATIENT_S):
        client = await dial(server.port)
        await client.send(request_head("/ws", version="HTTP/1.0"))
        response = await client.receive_response()
        assert response.status == 505
        assert b"proxy_http_version 1.1" in response.body
        await trio.aclose_forcefully(client.stream)


def test_nginx_finds_nothing_wrong_with_the_documented_configuration(tmp_path):
    config = tmp_path / "nginx.conf"
    config.write_text(CONFIG.format(folder=tmp_path, site=documented(free_port(), free_port())))
    command = [
        NGINX,
        "-t",
        "-q",
        "-c",
        str(config),
        "-p",
        str(tmp_path),
        "-e",
        str(tmp_path / "log"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


async def test_one_request_id_goes_through_both(proxy):
    with trio.fail_after(PATIENT_S):
        response = await http(proxy, "/health/live", "X-Request-Id: from-the-caller")
        assert len(response.headers["x-request-id"]) == 32, "nginx gives each request its own"
