"""A node, a client that behaves, and the question asked after each attack: is everybody else still served?"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio

from syncd.config import Address, AuthSettings, Config, Limits, Timing
from syncd.server import Node, open_node
from syncd.testing.raw_client import RawClient, Response, request_head

KEY = "key-of-the-hostile-tests"
SECRET = "a secret of the hostile tests, long enough"
PATIENT_S = 10.0
"""For what must happen; nothing waits this long when all is well."""

BRISK = Timing(
    handshake_s=0.3,
    hello_s=0.3,
    close_s=0.5,
    slow_client_s=0.5,
    stop_s=0.4,
    http_request_s=0.5,
    tick_s=0.02,
)
"""Everybody who is to be cut is cut soon; the ratios are those of the defaults, more or less."""

CALM = Timing(close_s=1.0, stop_s=0.4, tick_s=0.02)
"""Nobody is cut for being slow: for cases where something else must end the connection."""


def make_config(**changes: Any) -> Config:
    settings: dict[str, Any] = {
        "listen": Address("127.0.0.1", 0),
        "db": ":memory:",
        "api_keys": {"tests": KEY},
        "timing": CALM,
        **changes,
    }
    return Config(**settings)


def with_tokens(**changes: Any) -> AuthSettings:
    """Tokens are wanted; the good client has one."""
    return AuthSettings(algorithms=("HS256",), hmac_secret=SECRET, anonymous=False, **changes)


drivers = pytest.mark.parametrize("driver", ["epoll", "stream"])
"""The same attack on both ways to drive a connection."""


@attrs.define(eq=False)
class Arena:
    """A running node and a client that was connected before the attack."""

    node: Node
    port: int
    witness: RawClient
    _numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))

    @contextlib.asynccontextmanager
    async def dial(self) -> AsyncIterator[RawClient]:
        """Connect over TCP and say nothing."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with RawClient.over(stream) as client:
            yield client

    @contextlib.asynccontextmanager
    async def session(self, **hello: Any) -> AsyncIterator[RawClient]:
        """Connect and open a session."""
        async with self.dial() as client:
            await client.upgrade()
            await client.hello(**hello)
            yield client

    async def http(
        self, path: str, *lines: str, method: str = "GET", body: bytes = b""
    ) -> Response:
        """Ask over HTTP, with the good key."""
        head = request_head(
            path, f"Authorization: Bearer {KEY}", *lines, method=method, upgrade=False
        )
        async with self.dial() as client:
            await client.send(head + body)
            return await client.receive_response()

    async def assert_alive(self) -> None:
        """The node is ready, and the client that was there before gets what another one publishes."""
        with trio.fail_after(PATIENT_S):
            assert (await self.http("/health/ready")).status == 200
            number = next(self._numbers)
            kind, _ = await self.witness.ask(
                "publish", id=number, channel="demo:other", data=number
            )
            assert kind == "ok"
            async with self.session(**self.hello) as other:
                await other.ask("publish", id=1, channel="demo:witness", data=number)
            while (await self.witness.receive_message("event"))["data"] != number:
                pass

    hello: dict[str, Any] = attrs.field(factory=dict)
    """What a good client says of itself."""

    async def until(self, condition: Any) -> None:
        """Wait for something inside the node to come true."""
        with trio.fail_after(PATIENT_S):
            while not condition():  # noqa: ASYNC110 - the node has no event for it
                await trio.sleep(0.005)

    async def until_gone(self, num_left: int = 1) -> None:
        """Wait until only the witness (or so many) are connected."""
        await self.until(lambda: len(self.node.hub.connections) <= num_left)


@contextlib.asynccontextmanager
async def open_arena(config: Config | None = None, **hello: Any) -> AsyncIterator[Arena]:
    """Run a node with a good client; when the block is left without error, both must be well."""
    async with open_node(config or make_config()) as node:
        port = node.addresses[0][1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with RawClient.over(stream) as witness:
            await witness.upgrade()
            await witness.hello(**hello)
            await witness.ask("subscribe", id=0, channel="demo:witness")
            arena = Arena(node, port, witness, hello=hello)
            yield arena
            await arena.assert_alive()
            await witness.send_close()


def limits(**changes: Any) -> Limits:
    return Limits(**changes)
