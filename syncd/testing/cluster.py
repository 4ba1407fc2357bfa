"""Several nodes over one Redis, each behind a proxy of its own, in real processes: what a test kills, stops and cuts.

Owner of: the processes and proxies. Waits block in threads; none is without a deadline.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio

from syncd.testing.chaos_proxy import ChaosProxy
from syncd.testing.process import ServerProcess, free_port
from syncd.testing.redis_server import RedisServer

__all__ = ["Cluster", "open_cluster"]


@attrs.define(eq=False)
class Cluster:
    """All of it. Made by `open_cluster`."""

    redis: RedisServer
    proxies: list[ChaosProxy]
    nodes: list[ServerProcess]

    @property
    def ports(self) -> list[int]:
        """Where clients connect."""
        return [node.port for node in self.nodes]

    async def start_node(self, index: int) -> None:
        """Start a node that is down, without waiting: it may have to wait for Redis."""
        await trio.to_thread.run_sync(self.nodes[index].spawn)

    async def kill_node(self, index: int) -> None:
        """End a node as a power switch would."""
        await trio.to_thread.run_sync(self.nodes[index].kill)

    async def kill_redis(self, *, forget: bool = False) -> None:
        """End Redis as a power switch would, and, if so told, lose its disk."""
        await trio.to_thread.run_sync(self.redis.kill)
        if forget:
            await trio.to_thread.run_sync(self.redis.forget)

    async def start_redis(self) -> None:
        """Start Redis and wait until it answers."""
        await trio.to_thread.run_sync(self.redis.start)

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until every node is ready for traffic; starts those that have ended by themselves."""
        for node in self.nodes:
            if node.returncode is not None:
                await trio.to_thread.run_sync(node.spawn)
        for node in self.nodes:
            await trio.to_thread.run_sync(node.wait_ready, timeout_s)


@contextlib.asynccontextmanager
async def open_cluster(
    folder: Path,
    count: int,
    *,
    config: str,
    app: str,
    appendfsync: str | None,
) -> AsyncIterator[Cluster]:
    """Start Redis and some nodes, and wait until all are ready; ends everything.

    Args:
        folder: Holds everything; its path must be short (a Unix socket's has 107 bytes at most).
        count: Nodes.
        config: Text of their configuration file.
        app: What `syncd serve` is given.
        appendfsync: Of Redis; None keeps nothing on disk.
    """
    port = free_port()
    redis = RedisServer(
        folder / "redis", "--port", str(port), "--bind", "127.0.0.1", appendfsync=appendfsync
    )
    proxies = [ChaosProxy("127.0.0.1", port) for _ in range(count)]
    cluster = Cluster(redis, proxies, [])
    with contextlib.ExitStack() as stack:
        stack.enter_context(redis)
        async with trio.open_nursery() as nursery:
            for index, proxy in enumerate(proxies):
                await nursery.start(proxy.run)
                own = folder / f"node{index}"
                own.mkdir()
                url = f"redis://127.0.0.1:{proxy.listen_port}"
                node = ServerProcess(own, config, arguments=("--redis", url, app))
                cluster.nodes.append(stack.enter_context(node))
                await cluster.start_node(index)
            await cluster.wait_ready(60.0)
            yield cluster
            nursery.cancel_scope.cancel("over")
