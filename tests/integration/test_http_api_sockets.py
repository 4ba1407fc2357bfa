"""HTTP connections over real sockets: kept or closed, slow, hostile; the server outlives all of them."""

import json
import socket
import ssl

import pytest
import structlog
import trio
import trio.testing

from syncd.http.connection import Patience
from syncd.http.serving import HttpServer
from tests.integration.certificates import self_signed
from tests.integration.http_fakes import (
    FAST,
    KEY,
    RawClient,
    World,
    assert_alive,
    dial,
    make_config,
    open_server,
)

GOOD = json.dumps({"channel": "demo:a", "data": 1}).encode()
AUTH = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
HURRY = Patience(head_s=0.2, request_s=0.2, idle_s=0.2, linger_s=0.2)
"""For peers that are to be cut."""
BRISK = Patience(head_s=10, request_s=10, idle_s=0.05, linger_s=0.05)
"""For peers that are to be answered, and then left."""
PATIENT_S = 5.0
"""For a condition that must come true; nothing waits this long when all is well."""


@pytest.fixture
def world():
    return World(make_config())


def head_of(method, path, *lines):
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


POST_HEAD = (f"Authorization: Bearer {KEY}", "Content-Type: application/json")


async def until(condition):
    with trio.fail_after(PATIENT_S):
        while not condition():  # noqa: ASYNC110 - the server under test has no such event
            await trio.sleep(0.005)


# ------------------------------------------------------------------------------------------------ kept or closed


async def test_an_address_of_its_own_keeps_connections(world):
    async with open_server(world) as (server, port), dial(port) as client:
        for offset in (1, 2, 3):
            status, headers, body = await client.ask("POST", "/api/publish", GOOD, **AUTH)
            assert (status, json.loads(body)["position"]["offset"]) == (200, offset)
            assert "connection" not in headers
        assert server.num_connections == 1


async def test_the_shared_port_answers_one_request_and_closes(world):
    """A proxy with upstream keep-alive must not send an upgrade on a connection that HTTP holds."""
    async with open_server(world, keep_alive=False) as (server, port):
        async with dial(port) as client:
            status, headers, _ = await client.ask("POST", "/api/publish", GOOD, **AUTH)
            assert (status, headers["connection"]) == (200, "close")
            assert await client.read_to_end() == b""
        await until(lambda: server.num_connections == 0)
        async with dial(port) as client:
            two = head_of("GET", "/health/live") * 2
            await client.send(two)
            assert (await client.read_to_end()).count(b"HTTP/1.1 200") == 1


async def test_pipelined_requests_are_answered_in_order(world):
    async with open_server(world) as (_, port), dial(port) as client:
        end = head_of("GET", "/health/live", "Connection: close")
        await client.send(head_of("GET", "/openapi.json") + head_of("GET", "/nope") + end)
        received = await client.read_to_end()
        statuses = [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [b"200", b"404", b"200"]


async def test_a_peer_that_half_closes_still_gets_its_answer(world):
    async with open_server(world) as (_, port), dial(port) as client:
        await client.send(head_of("GET", "/health/live"))
        await client.stream.send_eof()
        assert b'{"status":"ok"}' in await client.read_to_end()


async def test_a_head_read_before_and_a_body_that_follows_are_one_request(world):
    async with open_server(world, keep_alive=False) as (_, port), dial(port) as client:
        await client.send(
            head_of("POST", "/api/publish", *POST_HEAD, f"Content-Length: {len(GOOD)}")
        )
        for byte in GOOD:
            await client.send(bytes([byte]))
        assert b"HTTP/1.1 200" in await client.read_to_end()


async def test_any_trio_stream_will_do(world, autojump_clock):
    client, server_end = trio.testing.memory_stream_pair()
    async with HttpServer(world.app, world.config) as server, trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, server_end)
        answer = await RawClient(client).ask("POST", "/api/publish", GOOD, **AUTH)
        assert answer[0] == 200
        await client.aclose()


# ------------------------------------------------------------------------------------------------ hostile


KILLER = head_of(
    "GET",
    "/nowhere",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
H2C = head_of(
    "GET",
    "/health/live",
    "Upgrade: h2c",
    "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAMAAABkAAQAAP__",
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize(
    ("packet", "statuses"),
    [
        (KILLER + b"x", (404,)),
        (KILLER + KILLER, (404,)),
        (KILLER + b"\x81\x80\x00\x00\x00\x00", (404,)),
        (H2C, (200,)),
        (H2C + b"x", (200,)),
        (PREFACE, (505, 400)),
        (b"\x16\x03\x01\x02\x00\x01\x00", (400,)),
        (b"\x00" * 5000, (400,)),
        (b"GET / HTTP/1.1\r\n\r\n", (400,)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400,)),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", (505,)),
        (b"GET ? HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400,)),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400,)),
        (b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400,)),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", (400,)),
        (head_of("GET", "/" + "x" * 8192), (414,)),
        (head_of("GET", "/", *["A: b"] * 129), (431,)),
        (head_of("GET", "/", "A: " + "b" * 20_000), (431, 400)),
        (head_of("POST", "/", "Content-Length: -1"), (400,)),
        (head_of("POST", "/", "Content-Length: 1", "Content-Length: 2"), (400,)),
        (
            head_of("POST", "/api/publish", *POST_HEAD, "Transfer-Encoding: chunked") + b"zz\r\n",
            (400,),
        ),
        (head_of("GET", "/static/../../../etc/passwd"), (404,)),
        (head_of("GET", "//static/index.html"), (404,)),
        (head_of("GET", "/static/%2e%2e/%2e%2e/etc/passwd"), (404,)),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
async def test_a_hostile_packet_is_refused_and_others_are_served(
    world, packet, statuses, keep_alive
):
    """A8, A64; the first is Hypercorn issue 225, which kills a server of its own."""
    with structlog.testing.capture_logs() as logs:
        async with open_server(world, keep_alive=keep_alive, patience=BRISK) as (server, port):
            async with dial(port) as client:
                await client.send(packet)
                with trio.fail_after(PATIENT_S):
                    received = await client.read_to_end()
            assert received.startswith(tuple(b"HTTP/1.1 %d " % status for status in statuses))
            assert b"root:" not in received
            await assert_alive(port)
            await until(lambda: server.num_connections == 0)
    assert logs == []


async def test_a_peer_that_vanishes_in_the_middle_costs_its_own_connection(world):
    whole = head_of("POST", "/api/publish", *POST_HEAD, f"Content-Length: {len(GOOD)}") + GOOD
    async with open_server(world) as (server, port):
        for cut in range(0, len(whole), 7):
            async with dial(port) as client:
                await client.send(whole[:cut])
        await until(lambda: server.num_connections == 0)
        await assert_alive(port)


async def test_a_head_that_drips_is_cut(world):
    """A4."""
    async with open_server(world, patience=HURRY) as (server, port), dial(port) as client:
        with trio.fail_after(PATIENT_S):
            received = await drip(client, b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000)
        assert received == b""
        await until(lambda: server.num_connections == 0)


async def test_a_body_that_drips_is_told_and_cut():
    """A64: one byte at a time does not keep a request open beyond its time."""
    world = World(make_config(timing=FAST))
    async with open_server(world, patience=HURRY) as (server, port), dial(port) as client:
        await client.send(head_of("POST", "/api/publish", *POST_HEAD, "Content-Length: 1000"))
        with trio.fail_after(PATIENT_S):
            received = await drip(client, b" " * 1000)
        assert received.startswith(b"HTTP/1.1 408 ")
        await until(lambda: server.num_connections == 0)


async def drip(client, data):
    """Send byte by byte until the server has closed; return what it said."""
    received = []

    async def read():
        received.append(await client.read_to_end())
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for byte in data:
            try:
                await client.send(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(0.02)
        await trio.sleep_forever()
    return received[0]


@pytest.mark.parametrize(
    "extra",
    [("Content-Length: 1073741824",), ("Content-Length: 1073741824", "Expect: 100-continue")],
)
async def test_a_gibibyte_is_refused_before_it_is_sent(world, extra):
    """A64."""
    async with open_server(world) as (_, port), dial(port) as client:
        await client.send(head_of("POST", "/api/publish", *POST_HEAD, *extra))
        with trio.fail_after(PATIENT_S):
            received = await client.read_to_end()
        assert b"HTTP/1.1 413 " in received
        assert b'"too_large"' in received
        await assert_alive(port)


async def test_a_chunked_body_without_end_is_refused_at_the_limit(world):
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    async with open_server(world) as (server, port), dial(port) as client:
        num_sent = 0

        async def send():
            nonlocal num_sent
            await client.send(
                head_of("POST", "/api/publish", *POST_HEAD, "Transfer-Encoding: chunked")
            )
            while True:
                await client.send(chunk)
                num_sent += 1

        with trio.fail_after(PATIENT_S):
            async with trio.open_nursery() as nursery:

                async def read():
                    received.append(await client.stream.receive_some(65_536))
                    nursery.cancel_scope.cancel()

                received = []
                nursery.start_soon(read)
                nursery.start_soon(send)
        assert received[0].startswith(b"HTTP/1.1 413 ")
        await client.stream.aclose()
        await until(lambda: server.num_connections == 0)
        await assert_alive(port)


async def test_an_early_refusal_reaches_a_peer_that_is_still_sending(world):
    """Closing at once would reset the connection and destroy the answer."""
    async with open_server(world) as (_, port), dial(port) as client:
        await client.send(head_of("POST", "/api/publish", "Content-Length: 500000"))
        await client.send(b"x" * 500_000)
        with trio.fail_after(PATIENT_S):
            assert (await client.answer_after_request("POST"))[0] == 401


async def test_an_idle_connection_is_closed(world):
    async with open_server(world, patience=BRISK) as (_, port), dial(port) as client:
        assert (await client.ask("GET", "/health/live"))[0] == 200
        with trio.fail_after(PATIENT_S):
            assert await client.read_to_end() == b""


async def test_a_peer_that_never_reads_is_cut(tmp_path):
    """Hypercorn shields its writes without a deadline; ours have one."""
    (tmp_path / "big.js").write_bytes(b"x" * 4_000_000)
    world = World(make_config(), tmp_path)
    async with open_server(world, patience=HURRY) as (server, port), dial(port) as client:
        for _ in range(8):
            await client.send(head_of("GET", "/static/big.js"))
        await until(lambda: server.num_connections == 1)
        await until(lambda: server.num_connections == 0)
        await assert_alive(port)


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_connections_beyond_the_bound_get_503_and_those_within_are_served(world, keep_alive):
    """A64: ten thousand connections are held to the bound, and room comes back."""
    bound = {"max_own": 2} if keep_alive else {"max_shared": 2}
    async with open_server(world, keep_alive=keep_alive, **bound) as (server, port):
        async with dial(port) as first, dial(port) as second:
            part = head_of("POST", "/api/publish", *POST_HEAD, f"Content-Length: {len(GOOD)}")
            for client in (first, second):
                await client.send(part)
            await until(lambda: server.num_connections == 2)
            async with dial(port) as third:
                await third.send(head_of("GET", "/health/live"))
                with trio.fail_after(PATIENT_S):
                    received = await third.read_to_end()
            assert received.startswith(b"HTTP/1.1 503 ")
            body = received.partition(b"\r\n\r\n")[2]
            assert json.loads(body)["error"]["code"] == "overloaded"
            assert b"Content-Length: %d\r\n" % len(body) in received
            await first.send(GOOD)
            assert (await first.stream.receive_some(65_536)).startswith(b"HTTP/1.1 200")
        await until(lambda: server.num_connections == 0)
        await assert_alive(port)


async def test_a_crash_of_the_protocol_ends_one_connection_and_is_logged_once(world, monkeypatch):
    def crash(self, data):
        raise RuntimeError("a bug of ours")

    async with open_server(world) as (server, port):
        with monkeypatch.context() as patch, structlog.testing.capture_logs() as logs:
            patch.setattr("h11.Connection.receive_data", crash)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET")
                assert await RawClient(stream).read_to_end() == b""
            await until(lambda: server.num_connections == 0)
        assert [entry["event"] for entry in logs] == ["http_connection_failed"]
        await assert_alive(port)


# ------------------------------------------------------------------------------------------------ stopping


async def test_stopping_ends_idle_connections_and_finishes_busy_ones(world):
    async with open_server(world) as (server, port):
        async with dial(port) as idle, dial(port) as busy:
            assert (await idle.ask("GET", "/health/live"))[0] == 200
            await busy.send(
                head_of("POST", "/api/publish", *POST_HEAD, f"Content-Length: {len(GOOD)}")
            )
            await until(lambda: server.num_connections == 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.drain)
                assert await idle.read_to_end() == b""
                await busy.send(GOOD)
                assert (await busy.read_to_end()).startswith(b"HTTP/1.1 200")
            assert server.num_connections == 0
        async with dial(port) as late:
            await late.send(head_of("GET", "/health/live"))
            assert (await late.read_to_end()).startswith(b"HTTP/1.1 503")


# ------------------------------------------------------------------------------------------------ other streams


def make_contexts(folder):
    """Return a server's and a client's TLS context around one self-signed certificate."""
    certificate, key = self_signed(folder)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


async def test_tls_streams_are_served_and_closed_properly(world, tmp_path):
    server_context, client_context = make_contexts(tmp_path)
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")
    port = listeners[0].transport_listener.socket.getsockname()[1]
    async with HttpServer(world.app, world.config) as server, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve_stream, listeners)
        transport = await trio.open_tcp_stream("127.0.0.1", port)
        async with trio.SSLStream(transport, client_context, server_hostname="localhost") as tls:
            client = RawClient(tls)
            assert (await client.ask("POST", "/api/publish", GOOD, **AUTH))[0] == 200
            assert (await client.ask("GET", "/health/live", Connection="close"))[0] == 200
            assert await client.read_to_end() == b""
        nursery.cancel_scope.cancel()


async def test_plain_bytes_on_a_tls_port_end_that_connection_alone(world, tmp_path):
    server_context, _ = make_contexts(tmp_path)
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")
    port = listeners[0].transport_listener.socket.getsockname()[1]
    with structlog.testing.capture_logs() as logs:
        async with HttpServer(world.app, world.config) as server, trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, server.serve_stream, listeners)
            async with dial(port) as client:
                await client.send(head_of("GET", "/health/live"))
                await client.read_to_end()
            await until(lambda: server.num_connections == 0)
            nursery.cancel_scope.cancel()
    assert logs == []


async def test_unix_sockets_are_served(world, tmp_path):
    path = str(tmp_path / "api.sock")
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    listener = trio.SocketListener(sock)
    async with HttpServer(world.app, world.config) as server, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.serve_stream, [listener])
        async with await trio.open_unix_socket(path) as stream:
            status, _, _ = await RawClient(stream).ask("POST", "/api/publish", GOOD, **AUTH)
            assert status == 200
        nursery.cancel_scope.cancel()


async def test_a_stream_cut_by_the_node_raises_nothing_but_the_cancellation(world):
    async with open_server(world) as (server, port), dial(port) as client:
        await client.send(b"GET / HT")
        await until(lambda: server.num_connections == 1)
        peer, own = trio.testing.memory_stream_pair()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve_stream, own)
                await until(lambda: server.num_connections == 2)
                scope.cancel()
        await until(lambda: server.num_connections == 1)
        assert await peer.receive_some(1) == b""
