"""What a durable append costs, and where its statements should run.

    python -m bench.store_commit [--events N] [--batch N] [--json FILE]

First the floor: a bare SQLite loop that inserts the same rows (event and idempotency row) in transactions of `--batch`. Then
the store by itself, then group commit beside a loop that is busy with small sends, with the statements on the loop and only
COMMIT in the thread (what `StoreActor` does), or everything in the thread. Last the actor as a whole, and a second table for
mutations beside a floor of their own (`store_mutations`). The file lies in the current folder's file system: what is measured is that disk's fsync.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import platform
import secrets
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import trio

from bench import store_mutations
from syncd.actors.store import StoreActor
from syncd.actors.store_worker import ThreadWorker
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey
from syncd.store.base import Retention, StoreOptions
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_file import open_file

RECORD = b"\x82" + bytes(159)
NUM_SPEAKERS = 256
NUM_CHANNELS = 100
NUM_SENDS_A_TURN = 32
"""Sends the busy loop does before it lets others run: some 0.1 ms, as a tick of fan-out."""

OPTIONS = StoreOptions(lambda _: Retention(size=1_000_000, age_s=86_400.0))


@attrs.frozen
class Row:
    """One line of the table. Latency is that of a transaction, from its first statement to the answer."""

    name: str
    events_per_s: float
    cpu_us: float
    """Of the whole process, per event; the busy loop included where there is one."""
    latency_ms: float
    latency_p99_ms: float
    sends_per_s: float
    """What the busy loop got done meanwhile."""


@attrs.define
class Meter:
    """Times one run."""

    name: str
    num_events: int
    latencies_s: list[float] = attrs.field(factory=list)
    num_sends: int = 0
    started: float = attrs.field(factory=time.perf_counter)
    cpu_started: float = attrs.field(factory=time.process_time)

    def row(self) -> Row:
        elapsed = time.perf_counter() - self.started
        cpu = time.process_time() - self.cpu_started
        ordered = sorted(self.latencies_s)
        return Row(
            self.name,
            self.num_events / elapsed,
            1e6 * cpu / self.num_events,
            1e3 * statistics.fmean(ordered),
            1e3 * ordered[int(len(ordered) * 0.99)],
            self.num_sends / elapsed,
        )


def make_requests(count: int) -> list[AppendRequest]:
    channels = [ChannelName(f"bench:{n}") for n in range(NUM_CHANNELS)]
    speakers = [f"client:{secrets.token_hex(8)}" for _ in range(NUM_SPEAKERS)]
    now_ms = int(time.time() * 1000)
    return [
        AppendRequest(
            channels[n % NUM_CHANNELS],
            RECORD,
            now_ms + n // 40,
            None,
            IdempotencyKey(
                speakers[n % NUM_SPEAKERS], "publish", secrets.token_urlsafe(16), bytes(16)
            ),
        )
        for n in range(count)
    ]


def batches(requests: list[AppendRequest], size: int) -> Iterator[list[AppendRequest]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]


# ------------------------------------------------------------------------------------------------ alone


def run_bare(folder: Path, requests: list[AppendRequest], batch: int) -> Row:
    """The floor: the same rows, offsets from a dict, nothing looked up, nothing answered."""
    connection = open_file(folder / "bare.db", lock_wait_s=0.0)
    tops = dict.fromkeys((r.channel for r in requests), 0)
    ids = {channel: n for n, channel in enumerate(tops)}
    meter = Meter("bare SQLite loop", len(requests))
    for group in batches(requests, batch):
        started = time.perf_counter()
        events, known = [], []
        for r in group:
            offset = tops[r.channel] = tops[r.channel] + 1
            events.append((ids[r.channel], offset, r.at_ms, r.key, r.record))
            i = r.idempotency
            assert i is not None
            known.append(
                (i.identity, i.operation, i.key, i.request_hash, ids[r.channel], offset, r.at_ms)
            )
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?)", events)
        connection.executemany("INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?)", known)
        connection.execute("COMMIT")
        meter.latencies_s.append(time.perf_counter() - started)
    row = meter.row()
    connection.close()
    return row


def run_store(folder: Path, requests: list[AppendRequest], batch: int) -> Row:
    with opened(folder / "store.db") as store:
        meter = Meter("store, one thread", len(requests))
        for group in batches(requests, batch):
            started = time.perf_counter()
            store.begin(group)
            store.commit()
            meter.latencies_s.append(time.perf_counter() - started)
        return meter.row()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, OPTIONS)
    store.open()
    try:
        yield store
    finally:
        store.close()


# ------------------------------------------------------------------------------------------------ beside a busy loop


async def keep_busy(meter: Meter) -> None:
    """Send small frames over and over, as fan-out does: Python, a system call without the lock, Python."""
    left, right = socket.socketpair()
    left.settimeout(0)
    right.settimeout(0)
    frame, room = bytes(160), bytearray(160 * NUM_SENDS_A_TURN)
    with left, right:
        while True:
            for _ in range(NUM_SENDS_A_TURN):
                left.send(frame)
            right.recv_into(room)
            meter.num_sends += NUM_SENDS_A_TURN
            await trio.lowlevel.checkpoint()


def on_the_loop(store: SqliteStore, group: list[AppendRequest]) -> Callable[[], None]:
    store.begin(group)
    return store.commit


def in_the_thread(store: SqliteStore, group: list[AppendRequest]) -> Callable[[], None]:
    def work() -> None:
        store.begin(group)
        store.commit()

    return work


async def run_beside_busy_loop(
    path: Path,
    requests: list[AppendRequest],
    batch: int,
    where: Callable[[SqliteStore, list[AppendRequest]], Callable[[], None]],
) -> Row:
    with opened(path) as store:
        worker = ThreadWorker("bench")
        worker.start()
        meter = Meter(f"busy loop, statements {where.__name__.replace('_', ' ')}", len(requests))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_busy, meter)
            for group in batches(requests, batch):
                started = time.perf_counter()
                await worker.submit(where(store, group)).wait()
                meter.latencies_s.append(time.perf_counter() - started)
            nursery.cancel_scope.cancel()
        worker.stop()
        return meter.row()


async def run_actor(
    path: Path, requests: list[AppendRequest], num_publishers: int, *, is_busy: bool
) -> Row:
    """Publishers with one request outstanding each; latency is theirs, from asking to the answer."""
    store = SqliteStore(path, OPTIONS)
    store.open()
    actor = StoreActor(store, ThreadWorker("bench"))
    busy = "busy loop" if is_busy else "idle loop"
    meter = Meter(f"actor, {num_publishers} publishers, {busy}", len(requests))
    waiting = iter(requests)
    finished = trio.Event()
    num_running = num_publishers

    def publish() -> None:
        nonlocal num_running
        request = next(waiting, None)
        if request is None:
            num_running -= 1
            if not num_running:
                finished.set()
            return
        started = time.perf_counter()

        def done(answer: object) -> None:
            assert isinstance(answer, list), answer
            meter.latencies_s.append(time.perf_counter() - started)
            publish()

        actor.append([request], done)

    async with trio.open_nursery() as nursery:
        await nursery.start(actor.run)
        if is_busy:
            nursery.start_soon(keep_busy, meter)
        for _ in range(num_publishers):
            publish()
        await finished.wait()
        row = meter.row()
        nursery.cancel_scope.cancel()
    return row


# ------------------------------------------------------------------------------------------------ the table


def run_all(num_events: int, batch: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        folder = Path(name)
        rows.append(run_bare(folder, make_requests(num_events), batch))
        rows.append(run_store(folder, make_requests(num_events), batch))
        for number, where in enumerate((on_the_loop, in_the_thread, on_the_loop, in_the_thread)):
            requests = make_requests(num_events)
            path = folder / f"busy{number}.db"
            rows.append(trio.run(run_beside_busy_loop, path, requests, batch, where))
        for is_busy in (False, True):
            path = folder / f"actor{is_busy}.db"
            run = functools.partial(run_actor, is_busy=is_busy)
            rows.append(trio.run(run, path, make_requests(num_events), 256))
    return rows


def run_mutations(num_mutations: int, batch: int) -> list[Row]:
    mutations = store_mutations.make_mutations(num_mutations)
    forwarded = store_mutations.make_mutations(num_mutations, is_forwarded=True)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        bare = store_mutations.run_bare(Path(name) / "bare.db", mutations, batch)
        rows = [_row_of("mutations, bare SQLite loop", num_mutations, bare)]
        for title, made, group_size in (
            ("mutations, store, one thread", mutations, batch),
            ("mutations, store, each a group", mutations, 1),
            ("mutations, store, all forwarded", forwarded, batch),
        ):
            path = Path(name) / f"store{len(rows)}.db"
            timing = store_mutations.run_store(path, OPTIONS, made, batch, group_size)
            rows.append(_row_of(title, num_mutations, timing))
    return rows


def _row_of(name: str, count: int, timing: store_mutations.Timing) -> Row:
    ordered = sorted(timing.latencies_s)
    return Row(
        name,
        count / timing.elapsed_s,
        1e6 * timing.cpu_s / count,
        1e3 * statistics.fmean(ordered),
        1e3 * ordered[int(len(ordered) * 0.99)],
        0.0,
    )


def machine() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.platform(),
    }


def print_table(rows: list[Row]) -> None:
    floor = rows[0].events_per_s
    print(f"{'':46}{'events/s':>9}{'x floor':>9}{'CPU us':>8}{'ms':>7}{'p99 ms':>8}{'sends/s':>9}")
    for r in rows:
        print(
            f"{r.name:46}{r.events_per_s:9.0f}{r.events_per_s / floor:9.2f}{r.cpu_us:8.1f}"
            f"{r.latency_ms:7.2f}{r.latency_p99_ms:8.2f}{r.sends_per_s:9.0f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    rows = run_all(options.events, options.batch)
    print_table(rows)
    mutations = run_mutations(options.events, options.batch)
    print_table(mutations)
    rows += mutations
    if options.json is not None:
        report = {
            "machine": machine(),
            "batch": options.batch,
            "events": options.events,
            "rows": [attrs.asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
