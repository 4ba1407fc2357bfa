"""A64: the HTTP side of a node, on the port it shares with the WebSockets; each attack beside a session that is served."""

import json

import attrs
import pytest
import trio

from syncd.http import serving
from syncd.testing.raw_client import request_head
from tests.integration.hostile.kit import (
    BRISK,
    CALM,
    KEY,
    PATIENT_S,
    drivers,
    make_config,
    open_arena,
)

AUTH = f"Authorization: Bearer {KEY}"
JSON = "Content-Type: application/json"
GOOD = b'{"channel":"demo:a","data":1}'


def post(path, *lines, method="POST"):
    return request_head(path, *lines, method=method, upgrade=False)


async def status_of(arena, packet):
    async with arena.dial() as client:
        with trio.fail_after(PATIENT_S):
            await client.send(packet)
            return (await client.receive_response()).status


@drivers
async def test_a_body_of_one_byte_at_a_time_is_cut(driver):
    config = make_config(driver=driver, timing=attrs.evolve(CALM, http_request_s=0.3))
    async with open_arena(config) as arena, arena.dial() as client:
        await client.send(post("/api/publish", AUTH, JSON, "Content-Length: 10000"))

        async def drip():
            while True:
                try:
                    await client.send(b" ")
                except trio.BrokenResourceError:
                    return
                await trio.sleep(0.02)

        began = trio.current_time()
        with trio.fail_after(PATIENT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(drip)
                assert (await client.receive_response()).status == 408
                nursery.cancel_scope.cancel()
        assert trio.current_time() - began < 2.0
        await arena.until(lambda: arena.node.http.num_connections == 0)


@drivers
@pytest.mark.parametrize(
    "length",
    ["Content-Length: 1073741824", "Content-Length: 99999999999999999", "Content-Length: 1048577"],
)
async def test_a_body_of_a_gibibyte_is_refused_before_it_is_sent(driver, length):
    async with open_arena(make_config(driver=driver)) as arena:
        assert await status_of(arena, post("/api/publish", AUTH, JSON, length)) == 413


async def test_a_chunked_body_without_end_is_refused_at_the_limit():
    async with open_arena() as arena, arena.dial() as client:

        async def send():
            await client.send(post("/api/publish", AUTH, JSON, "Transfer-Encoding: chunked"))
            try:
                while True:
                    await client.send(b"8000\r\n" + b" " * 32_768 + b"\r\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        with trio.fail_after(PATIENT_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                assert (await client.receive_response()).status == 413
                nursery.cancel_scope.cancel()


@drivers
async def test_more_http_connections_than_there_is_room_for_leave_the_sockets_alone(driver):
    """Each holds a request that never ends; beyond the bound 503; a session meanwhile publishes as if nothing were."""
    async with open_arena(make_config(driver=driver)) as arena, arena.session() as other:
        half = post("/api/publish", AUTH, JSON, "Content-Length: 10") + b"{"
        streams = []
        for _ in range(serving.MAX_SHARED_CONNECTIONS):
            stream = await trio.open_tcp_stream("127.0.0.1", arena.port)
            streams.append(stream)
            await stream.send_all(half)
        await arena.until(lambda: arena.node.http.num_connections == serving.MAX_SHARED_CONNECTIONS)
        for _ in range(10):
            assert await status_of(arena, post("/health/live", method="GET")) == 503
        with trio.fail_after(PATIENT_S):
            assert (await other.ask("publish", id=1, channel="demo:witness", data="x"))[0] == "ok"
            assert (await arena.witness.receive_message("event"))["data"] == "x"
        for stream in streams:
            await stream.aclose()
        await arena.until(lambda: arena.node.http.num_connections == 0)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static/..%2f..%2fetc/passwd",
        "/static/%252e%252e/etc/passwd",
        "/static//etc/passwd",
        "/static/..\\..\\etc\\passwd",
        "/static/%00",
        "/..",
        "//etc/passwd",
        "/static/....//....//etc/passwd",
        "/syncd.db",
        "/static/__init__.py",
    ],
)
async def test_no_path_leaves_the_folder_of_the_pages(path):
    async with open_arena() as arena, arena.dial() as client:
        await client.send(post(path, method="GET"))
        response = await client.receive_response()
        assert response.status in (400, 404)
        assert b"root:" not in response.body


@pytest.mark.parametrize(
    ("method", "path", "lines"),
    [
        ("GET", "/api/publish", ()),
        ("GET", "/api/publish", ("X-HTTP-Method-Override: POST",)),
        ("PUT", "/api/publish", ()),
        ("DELETE", "/api/channels", ()),
        ("POST", "/api/channels", ("X-HTTP-Method-Override: GET",)),
        ("POST", "/api/info?_method=GET", ()),
        ("PATCH", "/", ()),
    ],
)
async def test_a_method_is_what_the_request_line_says(method, path, lines):
    async with open_arena() as arena:
        packet = post(path, AUTH, JSON, "Content-Length: 0", *lines, method=method)
        assert await status_of(arena, packet) == 405


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Type: text/plain",),
        ("Content-Type: application/x-www-form-urlencoded",),
        ("Content-Type: multipart/form-data; boundary=x",),
        (),
        ("Content-Type: text/plain", "Cookie: key=" + KEY),
        ("Content-Type: text/plain", "Origin: http://localhost.evil.example"),
        ("Content-Type: application/json", "Sec-Fetch-Site: cross-site"),
    ],
)
async def test_a_page_of_another_site_cannot_post(lines):
    """Whatever a browser sends by itself holds no key, and a key in a cookie is none."""
    async with open_arena() as arena:
        packet = post("/api/publish", f"Content-Length: {len(GOOD)}", *lines) + GOOD
        assert await status_of(arena, packet) == 401


async def test_a_preflight_admits_nobody():
    async with open_arena() as arena, arena.dial() as client:
        lines = ("Origin: https://evil.example", "Access-Control-Request-Method: POST")
        await client.send(post("/api/publish", *lines, method="OPTIONS"))
        response = await client.receive_response()
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8400"]
)
@pytest.mark.parametrize("path", ["/", "/api/info", "/health/live", "/static/index.html"])
async def test_a_name_that_points_here_since_a_moment_ago_is_not_answered(host, path):
    """DNS rebinding: the address is ours, the name is not."""
    async with open_arena() as arena:
        assert (
            await status_of(arena, request_head(path, AUTH, method="GET", host=host, upgrade=False))
            == 403
        )


async def test_wrong_keys_are_slowed_down_and_the_right_one_elsewhere_is_not():
    async with open_arena() as arena:
        statuses = set()
        for number in range(60):
            head = post("/api/info", f"Authorization: Bearer guess-{number}", method="GET")
            statuses.add(await status_of(arena, head))
        assert statuses == {401, 429}
        assert (await arena.witness.ask("publish", id=99, channel="demo:a", data=1))[0] == "ok"


@drivers
async def test_a_request_cut_at_every_place_leaves_nothing_behind(driver):
    whole = post("/api/publish", AUTH, JSON, f"Content-Length: {len(GOOD)}") + GOOD
    config = make_config(driver=driver, timing=BRISK)
    async with open_arena(config) as arena:
        for place in range(1, len(whole), 3):
            async with arena.dial() as client:
                await client.send(whole[:place])
                if place % 2:
                    await client.reset()
        await arena.until(lambda: arena.node.http.num_connections == 0)
        await arena.until_gone()


async def test_a_publication_over_http_reaches_the_sockets():
    """The tests above end with a good client's publication over WebSocket; this is the same over HTTP."""
    async with open_arena() as arena:
        body = json.dumps({"channel": "demo:witness", "data": "from http"}).encode()
        response = await arena.http(
            "/api/publish", JSON, f"Content-Length: {len(body)}", method="POST", body=body
        )
        assert response.status == 200
        assert (await arena.witness.receive_message("event"))["data"] == "from http"
