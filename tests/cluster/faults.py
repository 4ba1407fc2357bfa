"""What happens to a cluster: a plan made of a seed, and how each of its faults is done and undone."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable

import attrs
import trio

from syncd.testing.cluster import Cluster

NODE_KINDS = ("kill_node", "stop_node", "cut", "hold", "delay")
REDIS_KINDS = ("kill_redis", "stop_redis", "kill_pubsub")
LOSSY_KINDS = ("empty_redis", "roll_back_redis")
"""After these acknowledged work is gone, and nothing may go on as if it were not."""


@attrs.frozen
class Fault:
    """One thing that goes wrong, and for how long."""

    kind: str
    node: int
    lasts_s: float
    pause_s: float
    """Until the next one."""


def make_plan(
    seed: int, duration_s: float, *, num_nodes: int, longest_s: float, kinds: tuple[str, ...]
) -> list[Fault]:
    """Return faults that together take about so long. Pure: the same seed gives the same plan.

    Every kind comes once, in random order, before any comes again.
    """
    rng = random.Random(seed)
    plan: list[Fault] = []
    left_s, bag = duration_s, list[str]()
    while left_s > 0:
        if not bag:
            bag = list(kinds)
            rng.shuffle(bag)
        fault = Fault(
            bag.pop(),
            rng.randrange(num_nodes),
            round(rng.uniform(0.1, longest_s), 2),
            round(rng.uniform(0.2, 2.0), 2),
        )
        plan.append(fault)
        left_s -= fault.lasts_s + fault.pause_s
    return plan


async def do(cluster: Cluster, fault: Fault) -> None:
    """Do a fault, and undo it after its time."""
    await _DO[fault.kind](cluster, fault)


async def _kill_node(cluster: Cluster, fault: Fault) -> None:
    await cluster.kill_node(fault.node)
    await trio.sleep(fault.lasts_s)
    await cluster.start_node(fault.node)


async def _stop_node(cluster: Cluster, fault: Fault) -> None:
    node = cluster.nodes[fault.node]
    if node.returncode is not None:
        return
    node.signal(signal.SIGSTOP)
    try:
        await trio.sleep(fault.lasts_s)
    finally:
        node.signal(signal.SIGCONT)


async def _cut(cluster: Cluster, fault: Fault) -> None:
    cluster.proxies[fault.node].cut()


async def _hold(cluster: Cluster, fault: Fault) -> None:
    proxy = cluster.proxies[fault.node]
    proxy.black_hole()
    try:
        await trio.sleep(fault.lasts_s)
    finally:
        proxy.heal()


async def _delay(cluster: Cluster, fault: Fault) -> None:
    proxy = cluster.proxies[fault.node]
    proxy.delay_s = 0.05
    try:
        await trio.sleep(fault.lasts_s)
    finally:
        proxy.delay_s = 0.0


async def _kill_redis(cluster: Cluster, fault: Fault) -> None:
    await cluster.kill_redis()
    await trio.sleep(fault.lasts_s / 2)
    await cluster.start_redis()


async def _empty_redis(cluster: Cluster, fault: Fault) -> None:
    await cluster.kill_redis(forget=True)
    await trio.sleep(fault.lasts_s / 2)
    await cluster.start_redis()


async def _roll_back_redis(cluster: Cluster, fault: Fault) -> None:
    await cluster.kill_redis()
    # Up to some hundred commits, by a number that the plan has.
    await trio.to_thread.run_sync(cluster.redis.lose_tail, int(fault.lasts_s * 20_000))
    await trio.sleep(fault.lasts_s / 2)
    await cluster.start_redis()


async def _stop_redis(cluster: Cluster, fault: Fault) -> None:
    with cluster.redis.stopped():
        await trio.sleep(fault.lasts_s)


async def _kill_pubsub(cluster: Cluster, fault: Fault) -> None:
    def kill() -> None:
        client = cluster.redis.client()
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        client.close()

    await trio.to_thread.run_sync(kill)


_DO: dict[str, Callable[[Cluster, Fault], Awaitable[None]]] = {
    "kill_node": _kill_node,
    "stop_node": _stop_node,
    "cut": _cut,
    "hold": _hold,
    "delay": _delay,
    "kill_redis": _kill_redis,
    "empty_redis": _empty_redis,
    "roll_back_redis": _roll_back_redis,
    "stop_redis": _stop_redis,
    "kill_pubsub": _kill_pubsub,
}
