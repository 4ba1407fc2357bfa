"""The bus through a real Redis: what a message of 200 bytes costs the node that receives it, beside redis-py's own pub/sub and a bare loop.

Run by itself (`python -m bench.bus`) or as the scenario `bus`. Every round visits all receivers in turn, each fed by the same publisher
(`RedisBus`, 100 a tick). The receiver has the first core alone; Redis and the publisher share the last one, so that the rate by the clock is theirs
where the machine has two cores: what the receiving core could sustain is told beside it.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.process import LOAD_CORE, SERVER_CORE, pinned
from bench.report import Row, table
from syncd.testing.redis_process import RedisProcess

if TYPE_CHECKING:
    from bench.scenarios import Plan

__all__ = ["bus_rows"]

_MICRO = 1e6
_RECEIVERS = ("receive", "redis-py", "bare")
_TIMEOUT_S = 120.0

Figures = dict[str, float]


@contextmanager
def _redis() -> Iterator[RedisProcess]:
    folder = Path(tempfile.mkdtemp(prefix="syncd-bench-bus-"))
    # Slow receivers are measured, not cut.
    with (
        pinned(LOAD_CORE),
        RedisProcess(folder, "--client-output-buffer-limit", "pubsub 0 0 0") as server,
    ):
        yield server
    shutil.rmtree(folder)


def _start(role: str, port: int, count: int, core: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.bus_worker", role, str(port), str(count)]
    with pinned(core):
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _run(receiver: str, port: int, count: int) -> tuple[Figures, Figures]:
    """One round of one receiver: its figures, and the publisher's."""
    receiving = _start(receiver, port, count, SERVER_CORE)
    assert receiving.stdout is not None
    if receiving.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{receiver} did not subscribe")
    publishing = _start("publish", port, count, LOAD_CORE)
    try:
        sent, _ = publishing.communicate(timeout=_TIMEOUT_S)
        got, _ = receiving.communicate(timeout=_TIMEOUT_S)
    finally:
        publishing.kill()
        receiving.kill()
    return json.loads(got), json.loads(sent)


def _cost_us(figures: Figures) -> float:
    return figures["cpu_s"] / figures["messages"] * _MICRO


def bus_rows(plan: Plan) -> list[Row]:
    """Measure all receivers in turn; figures are medians over the rounds."""
    count = int(200_000 * plan.duration_s)
    costs: dict[str, list[float]] = {name: [] for name in _RECEIVERS}
    rates, sending = [], []
    with _redis() as server:
        for _ in range(plan.rounds):
            for name in _RECEIVERS:
                got, sent = _run(name, server.port, count)
                costs[name].append(_cost_us(got))
                if name == "receive":
                    rates.append(got["messages"] / got["wall_s"])
                    sending.append(_cost_us(sent))
    own, rival, floor = (statistics.median(costs[name]) for name in _RECEIVERS)
    by_round = zip(costs["redis-py"], costs["receive"], strict=True)
    times = statistics.median(theirs / ours for theirs, ours in by_round)
    return [
        Row("bus", "floor: bare socket and hiredis", floor, "µs CPU"),
        Row("bus", "received, before fan-out", own, "µs CPU", 10.0),
        Row("bus", "a receiving core sustains", _MICRO / own, "1/s", 100_000, is_minimum=True),
        Row("bus", "redis-py's own pub/sub", rival, "µs CPU"),
        Row("bus", "redis-py / syncd", times, "x", 4.0, is_minimum=True),
        Row("bus", "published", statistics.median(sending), "µs CPU"),
        Row("bus", "by the clock, all on two cores", statistics.median(rates), "1/s"),
    ]


if __name__ == "__main__":
    from bench.scenarios import QUICK

    print(table(bus_rows(QUICK)))
