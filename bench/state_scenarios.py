"""The scenarios of collections and mutations: what is measured and what is promised. As `bench.scenarios`."""

from __future__ import annotations

import statistics
import threading
from typing import TYPE_CHECKING

from bench.report import Row
from bench.state_fill import NUM_ENTRIES

if TYPE_CHECKING:
    from bench.scenarios import Plan
    from bench.targets import Lab, Target

__all__ = ["cold", "mutate", "watch"]

_MICRO = 1e6
_CLIENTS = 1000


def mutate(lab: Lab, plan: Plan) -> list[Row]:
    """1,000 clients with one durable mutation outstanding each, beside a bare SQLite loop of the same rows."""
    syncd = lab.syncd_state()
    syncd.call("open_publishers", count=_CLIENTS)
    duration = 2 * plan.duration_s
    syncd.call("touch_orders")

    def floor_us() -> float:
        figures = lab.state_floor(int(20_000 * plan.duration_s))
        return figures["cpu_s"] / figures["rows"] * _MICRO

    floors, found = [floor_us()], []
    for _ in range(plan.rounds):
        found.append(syncd.call("mutations", duration_s=duration))
        floors.append(floor_us())
    costs = [figures["cpu_s"] / figures["requests"] * _MICRO for figures in found]
    ratios = [2 * cost / (floors[n] + floors[n + 1]) for n, cost in enumerate(costs)]
    rates = [figures["requests"] / figures["wall_s"] for figures in found]
    per_core = [figures["requests"] / figures["cpu_s"] for figures in found]
    half = 0.5 * statistics.median(per_core)
    paced = [
        syncd.call("paced_mutations", duration_s=duration, per_s=half) for _ in range(plan.rounds)
    ]
    cost = statistics.median(costs)
    return [
        Row("mutate", "floor: bare SQLite, batches of 100", statistics.median(floors), "µs CPU"),
        Row(
            "mutate",
            "mutate -> outcome",
            statistics.median(ratios),
            "x floor",
            4.0,
            note=f"{cost:.1f} µs",
        ),
        Row(
            "mutate",
            "mutations per second of CPU",
            statistics.median(per_core),
            "/s",
            15_000,
            is_minimum=True,
        ),
        Row("mutate", "rate by the clock", statistics.median(rates), "/s"),
        Row(
            "mutate",
            "p99 at half load",
            statistics.median(f["p99_ms"] for f in paced),
            "ms",
            60.0,
            note=f"{half:.0f}/s",
        ),
    ]


def cold(lab: Lab, plan: Plan) -> list[Row]:
    """1,000 clients read one cold key at the same time; then 10,000 cold keys, ten a client."""
    del plan
    syncd = lab.syncd_state()
    syncd.call("open_publishers", count=_CLIENTS)
    before = syncd.call("read_one", collection="counts", key="calls")
    one = syncd.call("read_all", collection="slow", keys=[["one"]] * _CLIENTS)
    loads = syncd.call("read_one", collection="counts", key="calls") - before
    keys = [[f"k{client}-{number}" for number in range(10)] for client in range(_CLIENTS)]
    many = syncd.call("read_all", collection="slow", keys=keys)
    batches = syncd.call("read_one", collection="counts", key="calls") - before - loads
    return [
        Row(
            "cold",
            "loads for 1,000 reads of one key",
            loads,
            "",
            1.0,
            note=f"{1000 * one['seconds']:.0f} ms",
        ),
        Row(
            "cold",
            "loads for 10,000 keys",
            batches,
            "",
            200.0,
            note=f"{1000 * many['seconds']:.0f} ms",
        ),
    ]


def watch(lab: Lab, plan: Plan) -> list[Row]:
    """One client watches 100,000 entries, while 200 others receive an even stream."""
    syncd = lab.syncd_state(is_filled=True)
    watcher = lab.beside(syncd)
    watcher.call("open_publishers", count=1)
    syncd.call("open_subscribers", count=200, channels=["mem:0"])
    syncd.call("open_publishers", count=1)
    paces = {"duration_s": 3 * plan.duration_s, "per_s": 200.0}
    syncd.call("paced", **paces)
    found, quiet, busy = [], [], []
    for _ in range(plan.rounds):
        quiet.append(syncd.call("paced", **paces)["p99_ms"])
        thread = threading.Thread(target=_watch_on, args=(watcher, found))
        thread.start()
        busy.append(syncd.call("paced", **paces)["p99_ms"])
        thread.join()
    ratio = statistics.median(b / q for b, q in zip(busy, quiet, strict=True))
    note = f"{statistics.median(quiet):.1f} -> {statistics.median(busy):.1f} ms"
    first_ms = 1000 * statistics.median(each["first_s"] for each in found)
    all_ms = 1000 * statistics.median(each["all_s"] for each in found)
    return [
        Row("watch", "first page of 100,000 entries", first_ms, "ms", 50.0),
        Row("watch", "all of them", all_ms, "ms"),
        Row("watch", "others' p99, over that without", ratio, "x", 2.0, note=note),
    ]


def _watch_on(watcher: Target, found: list[dict[str, float]]) -> None:
    found.append(watcher.call("watch", num_entries=NUM_ENTRIES))
