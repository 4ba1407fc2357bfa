"""One session over everything that can carry it: the same answers, whatever lies below."""

import contextlib
import socket
import ssl
from functools import partial

import attrs
import pytest
import trio
import trio_websocket

from syncd.config import Address, Config, Timing
from syncd.server import open_node
from syncd.testing.raw_client import BINARY, RawClient, client_frame, pack_messages, request_head
from tests.integration.certificates import self_signed

KEY = "key-of-the-transport-tests"
PATIENT_S = 5.0
TIMING = Timing(tick_s=0.02, stop_s=0.4, close_s=0.5, presence_grace_s=0.05, presence_diff_s=0.01)


def make_config(**changes):
    settings = {
        "listen": Address("127.0.0.1", 0),
        "db": ":memory:",
        "api_keys": {"tests": KEY},
        "timing": TIMING,
        **changes,
    }
    return Config(**settings)


# ------------------------------------------------------------------------------------------------ the session


async def converse(first, second):
    """Hello, subscribe, publish, event, presence, close: what any two clients do."""
    with trio.fail_after(PATIENT_S):
        for client in (first, second):
            await client.upgrade()
        me = (await first.hello())["clients"][0]["client"]
        await second.hello()
        _, subscribed = await first.ask("subscribe", id=1, channel="demo:a", presence=True)
        assert subscribed["position"]["offset"] == 0
        assert (await first.receive_message("presence_state"))["members"] == []
        for number in range(3):
            kind, body = await second.ask(
                "publish", id=number, channel="demo:a", data={"n": number, "blob": b"\xff" * 300}
            )
            assert (kind, body["position"]["offset"]) == ("ok", number + 1)
        for number in range(3):
            event = await first.receive_message("event")
            assert (event["prev"], event["data"]["n"]) == (number, number)
        large = "x" * 60_000
        await second.ask("publish", id=10, channel="demo:a", data=large)
        assert (await first.receive_message("event"))["data"] == large
        await first.send_messages(("presence", {"id": 2, "channel": "demo:a", "state": "here"}))
        diff = await first.receive_message("presence_diff")
        assert [member["states"] for member in diff["joins"]] == [[{"client": me, "state": "here"}]]
        await second.ask("subscribe", id=11, channel="demo:a", presence=True)
        await first.send_close(1000)
        assert (await first.receive_close()).close_code == 1000
        assert await first.read_to_end() == b""
        assert (await second.receive_message("presence_diff"))["leaves"]
        _, page = await second.ask("history", id=12, channel="demo:a", limit=10)
        assert [event["offset"] for event in page["events"]] == [1, 2, 3, 4]


async def converse_over(open_stream):
    async with (
        RawClient.over(await open_stream()) as first,
        RawClient.over(await open_stream()) as second,
    ):
        await converse(first, second)


async def assert_http(open_stream):
    """The same way carries HTTP, and the node is well."""
    async with RawClient.over(await open_stream()) as client:
        await client.send(request_head("/health/ready", upgrade=False))
        response = await client.receive_response()
        assert (response.status, response.headers.get("connection")) == (200, "close")
        assert await client.read_to_end() == b""


async def hold(config, open_stream_of):
    """Run a node, two clients over streams of one kind, and HTTP beside them."""
    async with open_node(config) as node:
        open_stream = partial(open_stream_of, node)
        await converse_over(open_stream)
        await assert_http(open_stream)


# ------------------------------------------------------------------------------------------------ ways to get there


async def tcp(node):
    host, port = node.addresses[0][:2]
    return await trio.open_tcp_stream(host, port)


@pytest.mark.parametrize("driver", ["epoll", "stream", "auto"])
async def test_tcp(driver):
    await hold(make_config(driver=driver), tcp)


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_ipv6(driver):
    await hold(make_config(listen=Address("::1", 0), driver=driver), tcp)


async def unix(node):
    return await trio.open_unix_socket(node.addresses[0])


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_unix_socket(driver, tmp_path):
    path = str(tmp_path / "syncd.sock")
    config = make_config(listen=Address(path=path), driver=driver)

    await hold(config, unix)


async def test_a_unix_socket_left_behind_by_a_crash_is_replaced(tmp_path):
    path = str(tmp_path / "syncd.sock")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    await hold(make_config(listen=Address(path=path)), unix)


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_a_stream_in_memory(driver):
    async with open_node(make_config(driver=driver)) as node, trio.open_nursery() as nursery:

        async def memory():
            client, server = trio.testing.memory_stream_pair()
            nursery.start_soon(node.gateway.serve_stream, server)
            return client

        async with (
            RawClient.over(await memory()) as first,
            RawClient.over(await memory()) as second,
        ):
            await converse(first, second)
        await assert_http(memory)


async def test_a_stream_that_takes_and_gives_one_byte_at_a_time(autojump_clock):
    """Lockstep streams buffer nothing: every send waits until the other side reads."""
    async with open_node(make_config()) as node, trio.open_nursery() as nursery:

        async def lockstep():
            client, server = trio.testing.lockstep_stream_pair()
            nursery.start_soon(node.gateway.serve_stream, _Drops(server))
            return client

        async with RawClient.over(await lockstep()) as client:
            await client.upgrade()
            await client.hello()
            assert (await client.ask("publish", id=1, channel="live:a", data=1))[0] == "ok"


@attrs.define(eq=False)
class _Drops(trio.abc.HalfCloseableStream):
    """A stream that hands bytes over one at a time, both ways."""

    inner: trio.StapledStream

    async def send_all(self, data):
        for byte in bytes(data):
            await self.inner.send_all(bytes([byte]))

    async def receive_some(self, max_bytes=None):
        return await self.inner.receive_some(1)

    async def wait_send_all_might_not_block(self):
        await self.inner.wait_send_all_might_not_block()

    async def send_eof(self):
        await self.inner.send_eof()

    async def aclose(self):
        await self.inner.aclose()


class _Splitter(RawClient):
    """A client whose every byte is a packet of its own."""

    async def send(self, data):
        for byte in data:
            await self.stream.send_all(bytes([byte]))


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_every_byte_in_a_packet_of_its_own(driver):
    async with (
        open_node(make_config(driver=driver)) as node,
        _Splitter.over(await tcp(node)) as client,
    ):
        client.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with trio.fail_after(PATIENT_S):
            await client.upgrade()
            await client.hello()
            await client.ask("subscribe", id=1, channel="demo:a")
            await client.ask("publish", id=2, channel="demo:a", data="one byte at a time")
            await client.send_close()
            assert (await client.receive_close()).close_code == 1000


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_two_halves_cut_at_every_place(driver):
    """The upgrade, hello and a probe in one run of bytes, in two packets, cut everywhere."""
    hello = client_frame(BINARY, pack_messages(("hello", {"v": 1}), ("probe", {"nonce": 1})))
    ping = client_frame(BINARY, pack_messages(("probe", {"nonce": 2})))
    run = request_head() + hello + ping
    async with open_node(make_config(driver=driver)) as node:
        for place in range(1, len(run)):
            async with RawClient.over(await tcp(node)) as client:
                with trio.fail_after(PATIENT_S):
                    await client.send(run[:place])
                    await trio.lowlevel.checkpoint()
                    await client.send(run[place:])
                    assert (await client.receive_response()).status == 101
                    await client.receive_message("welcome")
                    while (await client.receive_message("pong"))["nonce"] != 2:
                        pass


# ------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Paths of a self-signed certificate for localhost and its key."""
    return tuple(map(str, self_signed(tmp_path_factory.mktemp("tls"))))


def tls_config(certificate, **changes):
    return make_config(tls_cert=certificate[0], tls_key=certificate[1], **changes)


async def tls(certificate, node, context=None):
    context = context or ssl.create_default_context(cafile=certificate[0])
    stream = trio.SSLStream(
        await tcp(node), context, server_hostname="localhost", https_compatible=True
    )
    await stream.do_handshake()
    return stream


async def test_tls(certificate):
    await hold(tls_config(certificate), partial(tls, certificate))


async def test_tls_with_trio_websocket(certificate):
    context = ssl.create_default_context(cafile=certificate[0])
    async with open_node(tls_config(certificate)) as node:
        url = f"wss://localhost:{node.addresses[0][1]}/ws"
        with trio.fail_after(PATIENT_S):
            await assert_served_by_trio_websocket(url, ssl_context=context)


async def test_a10_a_tls_handshake_that_stalls_is_cut_in_the_time_of_the_head(certificate):
    timing = attrs.evolve(TIMING, handshake_s=0.3)
    async with open_node(tls_config(certificate, timing=timing)) as node:
        began = trio.current_time()
        silent = await tcp(node)
        half = await tcp(node)
        await half.send_all(b"\x16\x03\x01\x02\x00\x01")
        slow_head = await tls(certificate, node)
        await slow_head.send_all(b"GET /ws HTTP/1.1\r\n")
        with trio.fail_after(PATIENT_S):
            for stream in (silent, half, slow_head):
                async with RawClient.over(stream) as client:
                    assert await client.read_to_end() == b""
        assert 0.3 <= trio.current_time() - began < 1.5
        assert not node.hub.connections
        await assert_http(partial(tls, certificate, node))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\x00\x08hi there",
        b"\x15\x03\x01\x00\x02\x02\x28",
    ],
)
async def test_a10_bytes_that_are_no_tls_end_that_connection_alone(certificate, data):
    async with (
        open_node(tls_config(certificate)) as node,
        RawClient.over(await tls(certificate, node)) as other,
    ):
        await other.upgrade()
        await other.hello()
        for _ in range(5):
            async with RawClient.over(await tcp(node)) as client:
                await client.send(data)
                with trio.fail_after(PATIENT_S):
                    await client.read_to_end()
        assert (await other.ask("publish", id=1, channel="demo:a", data=1))[0] == "ok"


async def test_a10_connections_in_their_tls_handshake_count_against_the_cap(certificate):
    limits = attrs.evolve(Config().limits, connections=5)
    async with open_node(tls_config(certificate, limits=limits)) as node:
        silent = [await tcp(node) for _ in range(5)]
        with trio.fail_after(PATIENT_S):
            while len(node.hub.connections) < 5:  # noqa: ASYNC110 - the node has no event for it
                await trio.sleep(0.01)
            async with RawClient.over(await tls(certificate, node)) as late:
                assert (await late.receive_response()).status == 503
        for stream in silent:
            await stream.aclose()


async def test_a10_old_tls_versions_and_renegotiation_are_not_spoken(certificate):
    async with open_node(tls_config(certificate)) as node:
        context = node.gateway._ssl
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION


# ------------------------------------------------------------------------------------------------ another client


async def assert_served_by_trio_websocket(url, **options):
    async with trio_websocket.open_websocket_url(
        url, subprotocols=["syncd.v1"], **options
    ) as client:
        assert client.subprotocol == "syncd.v1"
        await client.send_message(pack_messages(("hello", {"v": 1})))
        await client.get_message()
        await client.send_message(pack_messages(("subscribe", {"id": 1, "channel": "demo:a"})))
        await client.get_message()
        await client.ping(b"x")
        await client.send_message(
            pack_messages(("publish", {"id": 2, "channel": "demo:a", "data": "z" * 50_000}))
        )
        received = b""
        while len(received) < 50_000:
            received += await client.get_message()
    assert client.closed.code == 1000


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_trio_websocket_as_client(driver):
    async with open_node(make_config(driver=driver)) as node:
        with trio.fail_after(PATIENT_S):
            await assert_served_by_trio_websocket(f"ws://127.0.0.1:{node.addresses[0][1]}/ws")


# ------------------------------------------------------------------------------------------------ two addresses

KILLER = request_head("/anything") + b"x"
"""An upgrade and one byte: what ends Hypercorn's own server."""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_with_an_address_of_its_own_http_is_there_and_websocket_here(driver):
    api = Address("127.0.0.1", free_port())
    async with open_node(make_config(driver=driver, api_listen=api)) as node:

        async def api_stream(_node=None):
            return await trio.open_tcp_stream(api.host, api.port)

        await converse_over(partial(tcp, node))
        for path in ("/health/ready", "/api/info", "/"):
            async with RawClient.over(await tcp(node)) as client:
                await client.send(request_head(path, upgrade=False))
                assert (await client.receive_response()).status == 404
        async with RawClient.over(await api_stream()) as client:
            for _ in range(3):
                await client.send(request_head("/health/ready", upgrade=False))
                response = await client.receive_response()
                assert (response.status, "connection" in response.headers) == (200, False)
            await client.send(request_head("/ws"))
            assert (await client.receive_response()).status in (404, 426)
        async with RawClient.over(await api_stream()) as client:
            await client.send(KILLER)
            assert (await client.receive_response()).status == 404
        async with RawClient.over(await api_stream()) as client:
            await client.send(request_head("/health/ready", upgrade=False))
            assert (await client.receive_response()).status == 200


async def test_a_crash_of_the_http_side_stays_there(monkeypatch):
    """The killer packet is refused before it gets there; a bug behind it is made by hand."""
    async with open_node(make_config()) as node:
        async with RawClient.over(await tcp(node)) as other:
            await other.upgrade()
            await other.hello()
            await other.ask("subscribe", id=1, channel="demo:a")
            async with RawClient.over(await tcp(node)) as client:
                await client.send(KILLER)
                assert (await client.receive_response()).status == 404

            def crash(self, data):
                raise RuntimeError("a bug of ours")

            with monkeypatch.context() as patch:
                patch.setattr("h11.Connection.receive_data", crash)
                async with RawClient.over(await tcp(node)) as client:
                    await client.send(request_head("/health/ready", upgrade=False))
                    with trio.fail_after(PATIENT_S):
                        assert await client.read_to_end() == b""
            assert (await other.ask("publish", id=2, channel="demo:a", data=1))[0] == "ok"
        await assert_http(partial(tcp, node))
