"""Rebuilds: how fast beside a bare SQLite bulk insert, how much memory, and what others notice.

Also by itself: `python -m bench.rebuild [--rows 100000]... [--json]`. The floor is one transaction that inserts the same keys and encoded values into
one table of the same disk, in a process that does nothing else; the rebuild is a first fill, from `POST /api/rebuild` to the end of its job,
checkpoints and swap included.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgpack
import trio

from bench.process import Server, cpu_s, free_port, pause, rss_kib
from bench.rebuild_app import VALUE
from bench.report import Row, table
from syncd.backend import Publisher
from syncd.client import Client, open_client

__all__ = ["MEMORY_ROWS", "rebuild_rows"]

KEY = "key-of-the-benchmark"
APP = Path(__file__).parent / "rebuild_app.py"
FLOOR_ROUNDS = 3
NUM_MUTATING = 10
MUTATE_EVERY_S = 0.02
QUIET_S = 3.0
LOOK_S = 0.25
"""Between two looks at a job; each costs the server half a millisecond."""
MIN_RATIO_ROWS = 100_000
"""Where the ratio is promised."""
MEMORY_ROWS = 1_000_000
"""Where the memory is promised."""


def floor_s(folder: Path, num_rows: int) -> tuple[float, float]:
    """Return wall and CPU seconds of the best of some bulk inserts."""
    value = msgpack.packb(VALUE)
    rows = [(f"k{number:07}", value) for number in range(num_rows)]
    found = []
    for number in range(FLOOR_ROUNDS):
        connection = sqlite3.connect(folder / f"floor{number}.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
        began, cpu_began = time.perf_counter(), time.process_time()
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        connection.execute("COMMIT")
        found.append((time.perf_counter() - began, time.process_time() - cpu_began))
        connection.close()
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


@contextmanager
def _server(folder: Path, num_rows: int) -> Iterator[Server]:
    port = free_port()
    os.environ.update(BENCH_ROWS=str(num_rows), SYNCD_API_KEY=KEY)
    command = ["serve", str(APP), "--listen", f"127.0.0.1:{port}", "--db", str(folder / "x.db")]
    command += ["--log-level", "warning"]
    process = Server("syncd", ["-m", "syncd.cli.main", *command], port, log=folder / "server.log")
    try:
        process.wait_ready()
        yield process
    finally:
        process.stop()


def _ended(publisher: Publisher, job: dict[str, Any]) -> dict[str, Any]:
    while job["state"] in ("queued", "running", "swapping"):
        pause(LOOK_S)
        job = publisher.rebuild_job(job["job"])
    if job["state"] != "done":
        raise RuntimeError(f"the rebuild {job['state']}: {job['error']}")
    return job


def _peak_kib(pid: int) -> int:
    match = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1])


def _size_rows(folder: Path, num_rows: int) -> list[Row]:
    """Measure one size on a server of its own."""
    name = "rebuild"
    wall_s, floor_cpu_s = floor_s(folder, num_rows)
    with _server(folder, num_rows) as server, Publisher(_url(server), KEY) as publisher:
        publisher.rebuild_jobs()
        pause(0.5)
        start_kib, cpu_began = rss_kib(server.pid), cpu_s(server.pid)
        job = _ended(publisher, publisher.rebuild("orders"))
        used_s = cpu_s(server.pid) - cpu_began
        took_s = max((job["ended_at_ms"] - job["asked_at_ms"]) / 1000, 0.001)
        grown_mib = max(_peak_kib(server.pid) - start_kib, 0) / 1024
    promised = 0.3 if num_rows == MIN_RATIO_ROWS else None
    memory = 50.0 if num_rows == MEMORY_ROWS else None
    note = f"bare insert {wall_s:.3f} s"
    label = f"{num_rows:,} rows"
    return [
        Row(name, f"{label}: rows a second", num_rows / took_s, "/s"),
        Row(
            name,
            f"{label}: of a bare insert's speed",
            wall_s / took_s,
            "x",
            promised,
            is_minimum=True,
            note=note,
        ),
        Row(name, f"{label}: by CPU", floor_cpu_s / used_s, "x", note=f"{used_s:.2f} s of CPU"),
        Row(name, f"{label}: memory above the start", grown_mib, "MiB", memory),
    ]


def _url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


# ------------------------------------------------------------------------------------------------ what others notice


@asynccontextmanager
async def _clients(url: str) -> AsyncIterator[list[Client]]:
    async with trio.open_nursery() as nursery:
        found: list[Client] = []

        async def hold(*, task_status: trio.TaskStatus[None]) -> None:
            async with open_client(url.replace("http", "ws", 1)) as client:
                found.append(client)
                task_status.started()
                await trio.sleep_forever()

        for _ in range(NUM_MUTATING):
            await nursery.start(hold)
        yield found
        nursery.cancel_scope.cancel()


async def _latencies_ms(clients: list[Client], until: trio.Event) -> list[float]:
    """Return how long mutations took that were asked for meanwhile, evenly."""
    found: list[float] = []

    async def mutate(number: int, client: Client) -> None:
        notes = client.collection("notes")
        await trio.sleep(number * MUTATE_EVERY_S / NUM_MUTATING)
        while not until.is_set():
            began = time.perf_counter()
            await notes.put(f"n{number}", began).server()
            found.append((time.perf_counter() - began) * 1000)
            await trio.sleep(MUTATE_EVERY_S)

    async with trio.open_nursery() as nursery:
        for number, client in enumerate(clients):
            nursery.start_soon(mutate, number, client)
    return found


async def _others(url: str) -> tuple[list[float], list[float]]:
    """Return latencies of a quiet server, and during a rebuild."""
    async with _clients(url) as clients:
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_set_after, over, QUIET_S)
            quiet = await _latencies_ms(clients, over)
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_rebuild, url, over)
            busy = await _latencies_ms(clients, over)
    return quiet, busy


async def _visible_ms(url: str) -> float:
    """Return how long after it was asked for a follower of rebuilds hears of the job."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        token = (await http.post("/api/admin/session")).raise_for_status().json()["token"]
        async with (
            open_client(url.replace("http", "ws", 1), token=token) as client,
            client.rebuild_progress("orders") as progress,
        ):
            began = time.perf_counter()
            asked = await http.post("/api/rebuild", json={"collection": "orders"})
            job = asked.raise_for_status().json()["job"]
            while (await anext(progress)).job != job:
                pass
            seen_ms = (time.perf_counter() - began) * 1000
            await progress.until_ended(job)
    return seen_ms


async def _set_after(event: trio.Event, seconds: float) -> None:
    await trio.sleep(seconds)
    event.set()


async def _rebuild(url: str, over: trio.Event) -> None:
    def rebuild() -> None:
        with Publisher(url, KEY) as publisher:
            _ended(publisher, publisher.rebuild("orders"))

    await trio.to_thread.run_sync(rebuild)
    over.set()


def _others_rows(folder: Path, num_rows: int) -> list[Row]:
    with _server(folder, num_rows) as server:
        quiet, busy = trio.run(_others, _url(server))
        seen_ms = trio.run(_visible_ms, _url(server))
    before, during = (statistics.quantiles(found, n=100)[98] for found in (quiet, busy))
    label = f"mutations of others, {num_rows:,} rows"
    note = f"{before:.1f} ms quiet, {len(busy):,} mutations"
    return [
        Row("rebuild", f"{label}: p99", during, "ms", note=note),
        Row("rebuild", f"{label}: p99 of a quiet server's", during / before, "x", 3.0),
        Row("rebuild", f"{label}: longest", max(busy), "ms"),
        Row("rebuild", f"{num_rows:,} rows: progress is visible after", seen_ms, "ms", 200.0),
    ]


def rebuild_rows(sizes: list[int]) -> list[Row]:
    """Measure each size, and what others notice of the promised one."""
    rows = []
    for num_rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows += _size_rows(Path(folder), num_rows)
    with tempfile.TemporaryDirectory() as folder:
        rows += _others_rows(Path(folder), min(MIN_RATIO_ROWS, max(sizes)))
    return rows


def main() -> None:
    """Measure, and print the table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.rebuild", description=__doc__)
    parser.add_argument("--rows", type=int, action="append", help="a size (repeatable)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = rebuild_rows(arguments.rows or [1_000, 10_000, 100_000])
    if arguments.json:
        print(json.dumps([row.__dict__ for row in rows]))
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
