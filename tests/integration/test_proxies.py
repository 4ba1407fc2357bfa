"""Connections per address, with and without a proxy of ours in between."""

import attrs
import pytest
import trio

from syncd.config import Address, Config, Limits
from syncd.server import open_node

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: syncd.v1\r\nX-Forwarded-For: %s\r\n\r\n"
)
CONFIG = Config(
    listen=Address("127.0.0.1", 0), db=":memory:", limits=Limits(connections_per_address=2)
)


async def status_of(node, forwarded_for):
    stream = await trio.open_tcp_stream(*node.addresses[0])
    await stream.send_all(REQUEST % forwarded_for)
    answer = await stream.receive_some(4096)
    return stream, int(answer.split(b" ", 2)[1])


@pytest.fixture(params=["epoll", "stream"])
def config(request):
    return attrs.evolve(CONFIG, driver=request.param)


async def test_behind_a_trusted_proxy_each_client_address_has_a_limit_of_its_own(config):
    config = attrs.evolve(config, trusted_proxies=("127.0.0.0/8",))
    with trio.fail_after(10):
        async with open_node(config) as node:
            streams = []
            statuses = []
            for address in (b"192.0.2.1", b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"):
                stream, status = await status_of(node, address)
                streams.append(stream)
                statuses.append(status)
            assert statuses == [101, 101, 503, 101]
            await streams[0].aclose()
            status = 503
            while status == 503:  # until the server has seen the first one go
                stream, status = await status_of(node, b"192.0.2.1")
                streams.append(stream)
            assert status == 101
            for stream in streams:
                await stream.aclose()


async def test_forwarded_addresses_of_a_stranger_are_ignored(config):
    with trio.fail_after(10):
        async with open_node(config) as node:
            results = [await status_of(node, b"192.0.2.%d" % n) for n in range(3)]
            assert [status for _stream, status in results] == [101, 101, 503]
            for stream, _status in results:
                await stream.aclose()
