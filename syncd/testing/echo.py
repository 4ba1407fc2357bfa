"""The real gateway with sessions that echo text and binary messages: for conformance suites from outside.

    python -m syncd.testing.echo PORT [--driver epoll|stream]

Any path, any subprotocol or none, messages of up to 16 MiB in any number of fragments. Everything below syncd's own messages is what
a node runs: poller or stream drivers, request heads, frames, closing handshake, writer.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, cast

import click
import trio

from syncd.config import Address, Config, Limits, Timing
from syncd.gateway.connection import Connection
from syncd.gateway.gateway import Gateway, bind
from syncd.gateway.heads import Heads
from syncd.gateway.hub import Hub
from syncd.wire.frames import BINARY, TEXT, encode_frame
from syncd.wire.session import Phase

if TYPE_CHECKING:
    from syncd.gateway.sessions import Sessions

__all__ = ["EchoHub", "make_echo"]

MIB = 1_048_576

LIMITS = Limits(
    frame_bytes=16 * MIB,
    hello_bytes=16 * MIB,
    fragments=16 * MIB,
    outbox_bytes=128 * MIB,
    messages_per_s=1e9,
    messages_burst=1_000_000_000,
    read_bytes_per_tick=4 * MIB,
)
TIMING = Timing(hello_s=86_400.0, close_s=1.0, tick_s=0.1)
"""The session never says hello: `hello_s` is how long a connection may live."""


class EchoHub(Hub):
    """A hub without sessions: every message goes back to where it came from."""

    def receive_message(self, connection: Connection, payload: bytes) -> None:
        """Echo a binary message."""
        self._echo(connection, BINARY, payload)

    def receive_text(self, connection: Connection, payload: bytes) -> None:
        """Echo a text message."""
        self._echo(connection, TEXT, payload)

    def _echo(self, connection: Connection, opcode: int, payload: bytes) -> None:
        if connection.phase < Phase.CLOSING:
            self.num_messages_in += 1
            connection.queue(encode_frame(opcode, payload))


class _NoSessions:
    """Stands where a node has its sessions. No connection gets past OPENING, so nothing is asked of it."""


def make_echo(config: Config) -> Gateway:
    """Return a gateway that echoes; `run` it with listeners, or give it streams."""
    hub = EchoHub(config, now=trio.current_time, jitter=random.SystemRandom().random)
    heads = Heads(config, hub, serves_http=False, is_loopback=True, subprotocol=None, ws_path=None)
    return Gateway(config, hub, cast("Sessions", _NoSessions()), heads, serve_http=None)


def make_config(port: int, driver: str = "auto") -> Config:
    """Return a configuration of wide limits."""
    return Config(listen=Address("127.0.0.1", port), driver=driver, limits=LIMITS, timing=TIMING)


async def _serve(config: Config) -> None:
    listeners = bind(config.listen)
    gateway = make_echo(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(gateway.run, listeners))
        click.echo(f"echoing on ws://127.0.0.1:{listeners[0].getsockname()[1]}/")


@click.command()
@click.argument("port", type=int)
@click.option("--driver", type=click.Choice(["auto", "epoll", "stream"]), default="auto")
def main(port: int, driver: str) -> None:
    """Echo WebSocket messages on PORT (0: any) until interrupted."""
    trio.run(_serve, make_config(port, driver))


if __name__ == "__main__":
    main()
