"""The scenarios of "Speed and memory": what is started, in which turns it is measured, and what is promised.

Every CPU figure is a ratio against a floor measured just before and just after it, in rounds that visit all targets in turn; the
figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.bus import bus_rows
from bench.cache import rows as cache_rows
from bench.nodes import nodes, storm
from bench.process import SERVER_CORE, pause, pinned
from bench.rebuild import MEMORY_ROWS, rebuild_rows
from bench.report import Row
from bench.state_scenarios import cold, mutate, watch
from bench.targets import Lab, Target, payload_bytes

__all__ = ["SCENARIOS", "Scenario"]

_MICRO = 1e6


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    rounds: int
    duration_s: float
    idle_s: float


QUICK = Plan(rounds=3, duration_s=0.5, idle_s=30.0)
FULL = Plan(rounds=7, duration_s=1.0, idle_s=60.0)


@dataclass(frozen=True)
class Scenario:
    """A named measurement with its time budget."""

    name: str
    run: Callable[[Lab, Plan], list[Row]]
    budget_s: float
    """Of a quick run; a full one takes about four times as long."""


def _per_delivery_us(figures: dict[str, float]) -> float:
    return figures["cpu_s"] / figures["deliveries"] * _MICRO


@dataclass
class _Turn:
    """One thing to measure in every round."""

    label: str
    target: Target
    window: int


def _rounds(
    floor: Target, turns: list[_Turn], plan: Plan
) -> tuple[list[float], dict[str, list[tuple[float, float]]]]:
    """Measure the floor, each turn, the floor again, and so on.

    Returns:
        The floor's µs of CPU per delivery, and per label (µs of CPU, ratio against the mean of the floors around it).
    """

    def measure(target: Target, window: int) -> float:
        return _per_delivery_us(target.call("fanout", duration_s=plan.duration_s, window=window))

    floors = [measure(floor, 1)]
    found: dict[str, list[tuple[float, float]]] = {turn.label: [] for turn in turns}
    for _ in range(plan.rounds):
        costs = [measure(turn.target, turn.window) for turn in turns]
        floors.append(measure(floor, 1))
        reference = (floors[-2] + floors[-1]) / 2
        for turn, cost in zip(turns, costs, strict=True):
            found[turn.label].append((cost, cost / reference))
    return floors, found


def _disturbance(found: list[dict[str, float]], sides: tuple[str, ...] = ("server", "load")) -> str:
    """How much of the time others kept the server and the load generator from their cores; wall times suffer by it."""
    shares = [
        f"{side} {statistics.median(f[f'{side}_waited_s'] / f['wall_s'] for f in found):.0%}"
        for side in sides
    ]
    return f"waited for a core: {', '.join(shares)}"


def _open(target: Target, count: int, channels: list[str]) -> None:
    target.call("open_subscribers", count=count, channels=channels)
    target.call("open_publishers", count=1)


def _ratio_rows(
    scenario: str,
    floors: list[float],
    found: dict[str, list[tuple[float, float]]],
    limits: dict[str, float],
) -> list[Row]:
    rows = [Row(scenario, "floor: one send per delivery", statistics.median(floors), "µs CPU")]
    for label, pairs in found.items():
        cost = statistics.median(pair[0] for pair in pairs)
        ratio = statistics.median(pair[1] for pair in pairs)
        spread = f"{cost:.2f} µs, {min(p[1] for p in pairs):.3f}-{max(p[1] for p in pairs):.3f}"
        rows.append(Row(scenario, label, ratio, "x floor", limits.get(label), note=spread))
    return rows


def fanout_1k(lab: Lab, plan: Plan) -> list[Row]:
    """1,000 subscribers of one channel, one and eight outstanding, memory and durable, beside two rivals."""
    memory, durable = lab.syncd(), lab.syncd()
    _open(memory, 1000, ["mem:0"])
    _open(durable, 1000, ["dur:0"])
    size = payload_bytes(memory)
    durable.call("fanout", duration_s=0.3, window=1)
    floor, websockets, trio = (
        lab.floor(size),
        lab.rival("websockets", size),
        lab.rival("trio", size),
    )
    for target in (floor, websockets, trio):
        _open(target, 1000, ["raw:0"])
    turns = [
        _Turn(f"{name}, {window} outstanding", target, window)
        for window in (1, 8)
        for name, target in (
            ("syncd memory", memory),
            ("syncd durable", durable),
            ("websockets broadcast()", websockets),
            ("trio-websocket", trio),
        )
    ]
    floors, found = _rounds(floor, turns, plan)
    limits = {"syncd memory, 1 outstanding": 1.2, "syncd memory, 8 outstanding": 0.22}
    rows = _ratio_rows("fanout-1k", floors, found, limits)
    for window in (1, 8):
        pairs = zip(
            found[f"syncd durable, {window} outstanding"],
            found[f"syncd memory, {window} outstanding"],
            strict=True,
        )
        ratio = statistics.median(ours[0] / other[0] for ours, other in pairs)
        rows.append(
            Row("fanout-1k", f"durable over memory, {window} outstanding", ratio, "x", 1.25)
        )
    return rows


def channels(lab: Lab, plan: Plan) -> list[Row]:
    """100 channels of 10 subscribers, 16 publications outstanding, one a channel at most."""
    memory = lab.syncd()
    _open(memory, 1000, [f"mem:{index}" for index in range(100)])
    size = payload_bytes(memory)
    floor, shaped = lab.floor(size), lab.floor(size)
    _open(floor, 1000, ["raw:0"])
    _open(shaped, 1000, [f"raw:{index}" for index in range(100)])
    turns = [
        _Turn("syncd memory, 16 outstanding", memory, 16),
        _Turn("floor in the same 100 channels", shaped, 16),
    ]
    floors, found = _rounds(floor, turns, plan)
    return _ratio_rows("channels", floors, found, {"syncd memory, 16 outstanding": 1.2})


def fanout_10k(lab: Lab, plan: Plan) -> list[Row]:
    """10,000 subscribers of one channel."""
    memory = lab.syncd()
    _open(memory, 10_000, ["mem:0"])
    floor = lab.floor(payload_bytes(memory))
    _open(floor, 10_000, ["raw:0"])
    turns = [_Turn(f"syncd memory, {window} outstanding", memory, window) for window in (1, 8)]
    floors, found = _rounds(floor, turns, plan)
    limits = {"syncd memory, 1 outstanding": 1.2, "syncd memory, 8 outstanding": 0.22}
    return _ratio_rows("fanout-10k", floors, found, limits)


def publish(lab: Lab, plan: Plan) -> list[Row]:
    """1,000 clients publish in a closed loop to ephemeral channels without subscribers, beside a raw echo."""
    syncd, echo = lab.syncd(), lab.echo_floor()
    names = [f"live:{index}" for index in range(1000)]
    frame = bytes(range(200))
    for target in (syncd, echo):
        target.call("open_publishers", count=1000)
    syncd.call("requests", duration_s=0.3, channels=names)

    def echo_us() -> float:
        return _per_request_us(echo.call("echo", duration_s=plan.duration_s, frame=frame))

    floors, found = [echo_us()], []
    for _ in range(plan.rounds):
        found.append(syncd.call("requests", duration_s=plan.duration_s, channels=names))
        floors.append(echo_us())
    ratios = _ratios([_per_request_us(figures) for figures in found], floors)
    cost = statistics.median(_per_request_us(figures) for figures in found)
    return [
        Row("publish", "floor: raw epoll echo", statistics.median(floors), "µs CPU"),
        Row(
            "publish",
            "publish -> ok",
            statistics.median(ratios),
            "x echo",
            3.0,
            note=f"{cost:.1f} µs",
        ),
        Row("publish", "rate", _rate(found), "/s", note=_disturbance(found)),
    ]


def durable(lab: Lab, plan: Plan) -> list[Row]:
    """256 publishers with `uid`, one outstanding each, over 100 durable channels, beside a bare insert loop.

    The server's loop and its writer thread wait for each other's core, which says nothing about others on the machine.
    """
    syncd = lab.syncd()
    syncd.call("open_publishers", count=256)
    names = [f"dur:{index}" for index in range(100)]
    duration = 2 * plan.duration_s
    syncd.call("requests", duration_s=0.5, channels=names, durable=True)

    def floor_per_s() -> float:
        figures = lab.sqlite_floor(duration)
        return figures["rows"] / figures["wall_s"]

    floors, found = [floor_per_s()], []
    for _ in range(plan.rounds):
        found.append(syncd.call("requests", duration_s=duration, channels=names, durable=True))
        floors.append(floor_per_s())
    ratios = _ratios([figures["requests"] / figures["wall_s"] for figures in found], floors)
    cost = statistics.median(_per_request_us(figures) for figures in found)
    ratio = statistics.median(ratios)
    return [
        Row("durable", "floor: bare SQLite, batches of 100", statistics.median(floors), "/s"),
        Row("durable", "durable publish -> ok", ratio, "x floor", 0.25, is_minimum=True),
        Row(
            "durable",
            "rate",
            _rate(found),
            "/s",
            note=f"{cost:.1f} µs CPU; {_disturbance(found, ('load',))}",
        ),
    ]


def _per_request_us(figures: dict[str, float]) -> float:
    return figures["cpu_s"] / figures["requests"] * _MICRO


def _rate(found: list[dict[str, float]]) -> float:
    return statistics.median(figures["requests"] / figures["wall_s"] for figures in found)


def _ratios(values: list[float], floors: list[float]) -> list[float]:
    """Each round's value over the mean of the floors before and after it."""
    return [2 * value / (floors[index] + floors[index + 1]) for index, value in enumerate(values)]


def connect(lab: Lab, plan: Plan) -> list[Row]:
    """Connect, hello and subscribe, as fast as the server takes them; the first round only warms up."""
    count = int(4000 * plan.duration_s)
    names = [f"mem:{index}" for index in range(100)]
    syncd = lab.syncd()
    found = []
    for _ in range(plan.rounds + 1):
        found.append(syncd.call("open_subscribers", count=count, channels=names))
        syncd.call("close_all")
        pause(0.3)
    del found[0]
    rate = statistics.median(count / figures["wall_s"] for figures in found)
    cost = statistics.median(figures["cpu_s"] / count * _MICRO for figures in found)
    note = f"{cost:.0f} µs CPU; {_disturbance(found)}"
    return [
        Row("connect", "connect + hello + subscribe", rate, "/s", 3000, is_minimum=True, note=note)
    ]


def idle(lab: Lab, plan: Plan) -> list[Row]:
    """10,000 connections past hello, each subscribed to one of 100 channels, that do nothing."""
    syncd = lab.syncd()
    names = [f"mem:{index}" for index in range(100)]
    syncd.call("open_subscribers", count=200, channels=names)
    syncd.call("close_all")
    pause(0.5)
    before = syncd.rss_kib
    syncd.call("open_subscribers", count=10_000, channels=names)
    pause(1.0)
    after = syncd.rss_kib
    figures = syncd.call("idle", duration_s=plan.idle_s)
    return [
        Row("idle", "resident memory per connection", (after - before) / 10_000, "KiB", 3.0),
        Row("idle", "server with 10,000 connections", after / 1024, "MiB"),
        Row(
            "idle",
            "CPU of a core, 10,000 connections",
            100 * figures["cpu_s"] / figures["wall_s"],
            "%",
            2.0,
        ),
    ]


def latency(lab: Lab, plan: Plan) -> list[Row]:
    """Delivery to 1,000 subscribers, published evenly at half of what the server's core can carry."""
    syncd = lab.syncd()
    _open(syncd, 1000, ["mem:0"])
    payload_bytes(syncd)
    full = syncd.call("fanout", duration_s=plan.duration_s, window=1)
    per_s = 0.5 * full["publications"] / full["cpu_s"]
    found = [
        syncd.call("paced", duration_s=2 * plan.duration_s, per_s=per_s) for _ in range(plan.rounds)
    ]
    rows = [Row("latency", "publications at half load", per_s, "/s", note=_disturbance(found))]
    for name, limit in (("p50_ms", None), ("p99_ms", 10.0), ("p999_ms", None)):
        value = statistics.median(figures[name] for figures in found)
        rows.append(Row("latency", f"delivery, {name.removesuffix('_ms')}", value, "ms", limit))
    return rows


def cache(_lab: Lab, plan: Plan) -> list[Row]:
    """The cache library in a process of its own, beside cachetools."""
    command = [sys.executable, "-m", "bench.cache", "--json", "--rounds", str(plan.rounds)]
    with pinned(SERVER_CORE):
        answer = subprocess.run(command, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"bench.cache failed:\n{answer.stderr}")
    return cache_rows(json.loads(answer.stdout))


def rebuild(_lab: Lab, plan: Plan) -> list[Row]:
    """Rebuilds of several sizes, each on a server of its own; the largest in a full run alone."""
    sizes = [1_000, 10_000, 100_000]
    return rebuild_rows(sizes if plan is QUICK else [*sizes, MEMORY_ROWS])


SCENARIOS = [
    Scenario("fanout-1k", fanout_1k, 25),
    Scenario("channels", channels, 10),
    Scenario("fanout-10k", fanout_10k, 30),
    Scenario("publish", publish, 10),
    Scenario("durable", durable, 15),
    Scenario("connect", connect, 10),
    Scenario("idle", idle, 45),
    Scenario("latency", latency, 10),
    Scenario("mutate", mutate, 30),
    Scenario("cold", cold, 5),
    Scenario("watch", watch, 30),
    Scenario("cache", cache, 35),
    Scenario("rebuild", rebuild, 30),
    Scenario("bus", lambda _, plan: bus_rows(plan), 40),
    Scenario("nodes", nodes, 40),
    Scenario("storm", storm, 30),
]
