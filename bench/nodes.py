"""Two nodes on one Redis beside one node without: what a delivery costs, how much later it comes, and a node's clients that all come to the other.

Nodes have the first core, Redis and the load generators the last one.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.process import LOAD_CORE, pause, pinned
from bench.redis_store import OUTSTANDING, requests_of, run_bare
from bench.report import Row
from bench.targets import Target
from syncd.testing.redis_process import RedisProcess
from syncd.testing.redis_server import RedisServer

if TYPE_CHECKING:
    from bench.scenarios import Plan
    from bench.targets import Lab

__all__ = ["nodes", "storm"]

_MICRO = 1e6
_SUBSCRIBERS = 1000
_SHORTER = 5
"""Rounds in place of one, each two fifths as long."""
_PACE_PER_S = 100.0
_STORM_CLIENTS = 5000
_STORM_CHANNELS = 100
_STORM_MISSED = 3
"""Events of each channel between the death of the node and its clients' return."""
_STORM_SPREAD_S = 5.0
"""First attempts come within half a second, those that meet a busy node or a dead one later; a load balancer spreads them further."""
_OTHERS = 100


@contextmanager
def _redis() -> Iterator[RedisProcess]:
    folder = Path(tempfile.mkdtemp(prefix="syncd-bench-nodes-"))
    with pinned(LOAD_CORE), RedisProcess(folder) as server:
        yield server
    shutil.rmtree(folder)


def nodes(lab: Lab, plan: Plan) -> list[Row]:
    """One channel with 1,000 subscribers on each of two nodes; the publisher is on the first."""
    with _redis() as redis:
        rows = [*_fanout(lab, plan, redis.url), *_latency(lab, plan, redis.url)]
        lab.stop()
        return [*rows, *_durable(lab, plan, redis.url)]


# ------------------------------------------------------------------------------------------------ a delivery


@dataclass(frozen=True)
class _Side:
    """Servers that deliver together, and the load generator of all of them."""

    target: Target
    servers: tuple[Target, ...]
    num_publishers: int = 1
    """On one server each, which say the same."""

    def cost_us(self, duration_s: float, window: int) -> float:
        """CPU of all servers for a delivery."""
        before = sum(server.cpu_s for server in self.servers)
        figures = self.target.call(
            "fanout", duration_s=duration_s, window=window, num_publishers=self.num_publishers
        )
        used = sum(server.cpu_s for server in self.servers) - before
        return float(used / figures["deliveries"] * _MICRO)


def _open(target: Target, count: int, channel: str) -> None:
    target.call("open_subscribers", count=count, channels=[channel])
    target.call("open_publishers", count=1)


def _fanout(lab: Lab, plan: Plan, url: str) -> list[Row]:
    """The same 2,000 subscribers on two nodes, on one, and on two that know nothing of each other; and 1,000 on one.

    The limit is held against each of them. Beside the same 2,000 one core sends to as many sockets either way; two single nodes also switch
    between two processes, and each is published to, which the second of two nodes is not. One with 1,000 takes less a `send` than two single
    ones with 1,000 each, as twice the kernel's state of sockets does not stay in the caches of one core; how much less is told beside its row.
    """
    sides = _sides(lab, url)
    rows = []
    for window in (1, 8):
        for side in sides:
            side.cost_us(0.3, window)
        rows += _fanout_rows(_interleaved(sides, plan, window), window)
    lab.stop()
    return rows


def _interleaved(sides: list[_Side], plan: Plan, window: int) -> list[list[float]]:
    """Return each round's costs in the order of the sides. Many short rounds, to and fro: half a second here is another machine than the next."""
    found = []
    for number in range(_SHORTER * plan.rounds):
        order = sides if number % 2 == 0 else sides[::-1]
        costs = [side.cost_us(plan.duration_s / _SHORTER * 2, window) for side in order]
        found.append(costs if order is sides else costs[::-1])
    return found


def _sides(lab: Lab, url: str) -> list[_Side]:
    """Two nodes, one with all of their subscribers, two single ones with half of them each, and one of those alone."""
    first, second, whole, half = lab.node(url), lab.node(url), lab.syncd(), lab.syncd()
    left, right = lab.syncd(), lab.syncd()
    for target, count in ((first, 1), (whole, 2), (left, 1), (half, 1)):
        _open(target, count * _SUBSCRIBERS, "mem:0")
    for target, other in ((first, second), (left, right)):
        port = other.server.port
        target.call("open_subscribers", count=_SUBSCRIBERS, channels=["mem:0"], port=port)
    left.call("open_publishers", count=1, port=right.server.port)
    return [
        _Side(first, (first, second)),
        _Side(whole, (whole,)),
        _Side(left, (left, right), num_publishers=2),
        _Side(half, (half,)),
    ]


def _fanout_rows(found: list[list[float]], window: int) -> list[Row]:
    """Rows of one window, from each round's costs in the order of the sides."""
    nodes, whole, apart, half = (statistics.median(each) for each in zip(*found, strict=True))
    over_whole, over_apart, over_half = (
        statistics.median(costs[0] / costs[number] for costs in found) for number in (1, 2, 3)
    )
    taken = statistics.median(costs[2] / costs[3] for costs in found)
    under = f"{window} outstanding"
    one = "a delivery of two nodes over"
    return [
        Row(
            "nodes",
            f"{one} one's with all {2 * _SUBSCRIBERS:,}, {under}",
            over_whole,
            "x",
            1.15,
            note=f"{nodes:.2f} over {whole:.2f} µs CPU",
        ),
        Row(
            "nodes",
            f"{one} two single ones', {under}",
            over_apart,
            "x",
            1.15,
            note=f"{nodes:.2f} over {apart:.2f} µs CPU",
        ),
        Row(
            "nodes",
            f"{one} one's with half of them, {under}",
            over_half,
            "x",
            1.15,
            note=f"{nodes:.2f} over {half:.2f} µs CPU; two single ones on this core take {taken:.3f} x",
        ),
    ]


def _latency(lab: Lab, plan: Plan, url: str) -> list[Row]:
    """Published on one node, delivered on the other, beside published and delivered on a node alone."""
    one, first, second = lab.syncd(), lab.node(url), lab.node(url)
    for target, port in ((one, one.server.port), (first, second.server.port)):
        target.call("open_subscribers", count=10, channels=["mem:0"], port=port)
        target.call("open_publishers", count=1)
        target.call("fanout", duration_s=0.3, window=1)

    def p50_ms(target: Target) -> float:
        paced = target.call("paced", duration_s=2 * plan.duration_s, per_s=_PACE_PER_S)
        return float(paced["p50_ms"])

    pairs = [(p50_ms(one), p50_ms(first)) for _ in range(2 * plan.rounds - 1)]
    added = statistics.median(b - a for a, b in pairs)
    note = f"{statistics.median(a for a, _ in pairs):.2f} ms on one node"
    lab.stop()
    return [Row("nodes", "the bridge adds to a delivery, p50", added, "ms", 1.5, note=note)]


def _durable(lab: Lab, plan: Plan, url: str) -> list[Row]:
    """256 publishers of durable events over a whole node, beside the script alone."""
    node = lab.node(url)
    node.call("open_publishers", count=OUTSTANDING)
    names = [f"dur:{index}" for index in range(100)]
    node.call("requests", duration_s=0.5, channels=names, durable=True)
    through, bare = [], []
    with tempfile.TemporaryDirectory(prefix="syncd-bench-bare-") as folder:
        with pinned(LOAD_CORE):
            server = RedisServer(Path(folder))
            server.start()
        try:
            for number in range(3 * plan.rounds):
                figures = node.call(
                    "requests", duration_s=plan.duration_s, channels=names, durable=True
                )
                through.append(figures["requests"] / figures["wall_s"])
                requests = requests_of(int(10_000 * plan.duration_s), f"demo:{number}-")
                bare.append(run_bare(server, requests))
        finally:
            server.kill()
    ratio = statistics.median(a / b for a, b in zip(through, bare, strict=True))
    note = f"{statistics.median(through):,.0f}/s; the load generator shares Redis's core"
    return [
        Row("nodes", "floor: bare script, 256 in a pipeline", statistics.median(bare), "/s"),
        Row("nodes", "durable publish -> ok", ratio, "x floor", 0.5, is_minimum=True, note=note),
    ]


# ------------------------------------------------------------------------------------------------ a storm


def storm(lab: Lab, plan: Plan) -> list[Row]:
    """5,000 clients of a node that was killed come to the other and recover, beside 100 that are there already."""
    del plan
    with _redis() as redis:
        killed, left = lab.node(redis.url), lab.node(redis.url)
        names = [f"dur:{index}" for index in range(_STORM_CHANNELS)]
        killed.call("open_publishers", count=1)
        killed.call("open_subscribers", count=_STORM_CLIENTS, channels=names)
        killed.call("fanout", duration_s=0.5, window=16)
        others = lab.beside(left)
        others.call("open_subscribers", count=_OTHERS, channels=["mem:others"])
        others.call("open_publishers", count=1)
        others.call("fanout", duration_s=0.3, window=1)
        quiet = others.call("paced", duration_s=_STORM_SPREAD_S, per_s=_PACE_PER_S)
        killed.server.kill()
        _miss(lab.beside(left), names)
        pause(1.0)
        return _storm_rows(killed, left, others, redis, quiet)


def _miss(publisher: Target, names: list[str]) -> None:
    """Publish while nobody is there."""
    publisher.call("open_publishers", count=1)
    publisher.call("publish_unseen", channels=names * _STORM_MISSED)


def _storm_rows(
    killed: Target, left: Target, others: Target, redis: RedisProcess, quiet: dict[str, Any]
) -> list[Row]:
    during: dict[str, Any] = {}

    def watch() -> None:
        during.update(others.call("paced", duration_s=_STORM_SPREAD_S, per_s=_PACE_PER_S))

    watching = threading.Thread(target=watch)
    commands, cpu_began = _commands(redis), left.cpu_s
    watching.start()
    back = killed.call(
        "come_back", port=left.server.port, num_missed=_STORM_MISSED, within_s=_STORM_SPREAD_S
    )
    watching.join()
    per_client = (_commands(redis) - commands) / _STORM_CLIENTS
    cpu_us = (left.cpu_s - cpu_began) / _STORM_CLIENTS * _MICRO
    note = f"{quiet['p99_ms']:.1f} ms before, {during['p99_ms']:.1f} ms meanwhile"
    return [
        Row("storm", "until all 5,000 are live", back["live_s"], "s", 15.0),
        Row("storm", "a client's return", cpu_us, "µs CPU", note="with what the others cost"),
        Row("storm", "Redis commands a client", per_client, "", 6.0, note="all of the server's"),
        Row(
            "storm",
            "p99 of others over that before",
            during["p99_ms"] / quiet["p99_ms"],
            "x",
            3.0,
            note=note,
        ),
    ]


def _commands(redis: RedisProcess) -> int:
    """How many commands this Redis has run, those of scripts included."""
    lines = redis.ask("INFO", "commandstats").decode().splitlines()
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines if "calls=" in line)
