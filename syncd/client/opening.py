"""How a client begins and ends: the nursery round it, and what leaves it as an exception."""

from __future__ import annotations

import contextlib
import random
import secrets
from collections.abc import AsyncGenerator, Mapping

import trio

from syncd.client.connection import ConnectionSettings
from syncd.client.core import ClientCore
from syncd.client.engine import TokenSource
from syncd.client.local_tx import LocalMutator
from syncd.client.shell import Client
from syncd.client.transport import StreamOpener, target_from_url

__all__ = ["open_client"]


@contextlib.asynccontextmanager
async def open_client(
    url: str,
    *,
    token: str | TokenSource | None = None,
    mutators: Mapping[str, LocalMutator | None] | None = None,
    group: str | None = None,
    settings: ConnectionSettings | None = None,
    open_stream: StreamOpener | None = None,
    rng: random.Random | None = None,
) -> AsyncGenerator[Client]:
    """Connect to a node, and stay connected, while the block runs. Returns at once; calls wait for the connection.

    A lost connection is re-established for as long as the block runs and raises nothing.

    Args:
        url: `ws://HOST:PORT` or `wss://HOST`; the path defaults to `/ws`.
        token: JWT, or a function (plain or async) that returns a fresh one: it is called before the first connection and
            whenever the server refuses the last. It may return None: not logged in.
        mutators: What predicts mutations at once, by full name: plain functions `(tx, **args)`, the same as at the server. None
            in place of one: predict nothing. The built-in ones are predicted without.
        group: Name of this user's clients on this device.
        settings: Durations.
        open_stream: Connects instead of TCP or TLS: a proxy, a Unix socket, a test.
        rng: Source of jitter.

    Raises:
        ValueError: the URL is none.
        Unauthorized: no token was accepted.
        ConnectionStopped: the server told this client not to come back.

    Cancellation: presence is left and the connection closed within a second.
    """
    target = target_from_url(url)
    source = token if callable(token) else None
    core = ClientCore(
        rng or random.Random(secrets.randbits(64)),  # noqa: S311 - jitter needs no secrecy
        lambda: secrets.token_urlsafe(16),
        token=token if isinstance(token, str) else None,
        has_token_source=source is not None,
        settings=settings or ConnectionSettings(group=group),
        mutators=mutators,
    )
    client = Client(core, target, open_stream or target.open_stream, source)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        client.start(nursery)
        try:
            yield client
        except Exception as error:  # noqa: BLE001 - carried past the nursery, which would wrap it in a group
            failure = error
        finally:
            await client.aclose()
            nursery.cancel_scope.cancel(reason="the client was closed")
    if failure is not None:
        raise failure
    if core.error is not None:
        raise core.error
