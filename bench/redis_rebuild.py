"""How long the scripts of a rebuild hold Redis: nobody is answered while one runs.

    python -m bench.redis_rebuild [--rows N]

A redis-server of its own, nothing on disk, rows of 300 bytes with a tag. Of each step of a rebuild: how many scripts it took, the longest of them by `SLOWLOG`, which
counts waiting for a core too, the longest in CPU of the server's main thread, and the CPU of all. Linux alone tells the latter.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from bench.redis_store import open_store
from syncd.ids import ChannelName
from syncd.ports_state import EntryWrite, KeyName, MutationCommit
from syncd.store.rebuilds import RebuildLease, ScannedRow, SwapPlan
from syncd.store.redis_scripts import Script
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_server import RedisServer

T = TypeVar("T")

ORDERS = ChannelName("orders")
PLAN = SwapPlan(5, True, 1000, lambda _key, value: value or b"-", b"all")  # noqa: FBT003
KEEP = attrs.evolve(PLAN, deletes_missing=False)
NUM_PARTITIONS = 1_000
WANTED_MS = 30.0
"""Of CPU, for the longest script where the collection has no partitions: the swap that tells 1,000 changes, which takes some 20 on a quiet machine."""


def rows_of(numbers: range, value: bytes) -> list[ScannedRow]:
    filling = b"x" * 290
    return [
        ScannedRow(ORDERS, KeyName(f"k{n:07}"), value + b"%07d" % n + filling, ("t",))
        for n in numbers
    ]


class Meter:
    """Measures what a server's scripts take."""

    def __init__(self, server: RedisServer, store: RedisStore) -> None:
        self._client: Any = server.client()
        self._client.config_set("slowlog-max-len", 1_000_000)
        self._client.config_set("slowlog-log-slower-than", 0)
        pid = self._client.info("server")["process_id"]
        self._clock = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._cpu_ms: list[float] = []
        self.longest_ms = 0.0
        run = store.run

        def run_timed(script: Script, make: Callable[[], list[Any]]) -> Any:
            before = self._cpu()
            try:
                return run(script, make)
            finally:
                self._cpu_ms.append(self._cpu() - before)

        store.run = run_timed  # type: ignore[method-assign]

    def _cpu(self) -> float:
        return int(self._clock.read_text().split()[0]) / 1e6

    def step(self, name: str, work: Callable[[], T]) -> T:
        """Do something and print what it took."""
        self._client.slowlog_reset()
        self._cpu_ms.clear()
        started = time.perf_counter()
        result = work()
        took_s = time.perf_counter() - started
        entries = self._client.slowlog_get(1_000_000)
        waited = [e["duration"] / 1000 for e in entries if e["command"].startswith(b"EVAL")]
        longest = max(self._cpu_ms, default=0.0)
        self.longest_ms = max(self.longest_ms, longest)
        print(
            f"  {name:8}{took_s:7.2f} s  {len(waited):5} scripts, longest {max(waited, default=0.0):7.1f} ms,"
            f" of CPU {longest:6.1f} ms; CPU of all {sum(self._cpu_ms) / 1000:5.2f} s"
        )
        return result


@attrs.define
class Bench:
    """One store, rebuilt again and again."""

    store: RedisStore
    meter: Meter

    def rebuild(
        self, what: str, rows: Sequence[ScannedRow], plan: SwapPlan = PLAN, *, num_late: int = 0
    ) -> None:
        """Rebuild from rows; `num_late` entries are changed once the swap is prepared."""
        print(what)
        step, lease = self.meter.step, self._acquire(what)
        step("pages", lambda: self._write(lease, rows))
        step("prepare", lambda: self._prepare(lease, plan))
        self._change(num_late)
        swapped = step("swap", lambda: self.store.rebuilds.swap(lease, plan))
        assert swapped is not None
        step("sweep", self._sweep)
        print(f"  {swapped.num_changed} changed")

    def _acquire(self, job: str) -> RebuildLease:
        acquire = self.store.rebuilds.acquire
        found = self.meter.step(
            "acquire",
            lambda: acquire("orders", job, 0, lease_ms=10**7, resumes=False, fills=False),
        )
        assert isinstance(found, RebuildLease)
        return found

    def _write(self, lease: RebuildLease, rows: Sequence[ScannedRow]) -> None:
        for start in range(0, len(rows), 500):
            page = rows[start : start + 500]
            assert self.store.rebuilds.write_page(lease, page, page[-1].key, start + len(page))

    def _prepare(self, lease: RebuildLease, plan: SwapPlan) -> None:
        while self.store.rebuilds.prepare(lease, plan, 0.005):
            pass

    def _change(self, count: int) -> None:
        for start in range(0, count, 100):
            writes = [
                EntryWrite(ORDERS, KeyName(f"k{n:07}"), b"mine", b"r")
                for n in range(start, start + 100)
            ]
            self.store.begin_commit([MutationCommit(None, 0, [], writes, b"", 0)])
            self.store.commit()

    def _sweep(self) -> None:
        while self.store.trim(0, 0.005).has_more:
            pass


def run(bench: Bench, count: int) -> None:
    """Rebuild in all ways but with partitions, and leave the last rows."""
    whole, half = range(count), range(count // 2)
    bench.rebuild("a first fill", rows_of(whole, b"a"))
    bench.rebuild("nothing has changed", rows_of(whole, b"a"))
    bench.rebuild("all has changed", rows_of(whole, b"b"))
    mixed = rows_of(whole, b"b")
    mixed[::2] = rows_of(whole[::2], b"c")
    bench.rebuild("half has changed", mixed)
    bench.rebuild("half has vanished", mixed[: len(half)])
    bench.rebuild("half has come back", mixed)
    bench.rebuild("half was not scanned and stays", rows_of(half, b"d"), KEEP)
    bench.rebuild("a fifth was touched late", rows_of(whole, b"e"), num_late=count // 5)
    bench.rebuild("all is as the source has it", rows_of(whole, b"e"))
    few = min(1_000, count)
    bench.rebuild("1,000 have changed", rows_of(whole[:few], b"f") + rows_of(whole[few:], b"e"))


def partitions() -> list[ScannedRow]:
    names = [ChannelName(f"orders/{n}") for n in range(NUM_PARTITIONS)]
    return [ScannedRow(name, KeyName(key), b"p") for name in names for key in "ab"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--rows", type=int, default=100_000)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="syncd-redis-") as folder,
        RedisServer(Path(folder)) as server,
    ):
        store = open_store(server, "bench")
        meter = Meter(server, store)
        bench = Bench(store, meter)
        run(bench, asked.rows)
        longest_ms = meter.longest_ms
        bench.rebuild("1,000 partitions come", partitions(), KEEP)
        store.close()
    print(f"longest script {longest_ms:.1f} ms of CPU, wanted at most {WANTED_MS:g}")
    return 0 if longest_ms <= WANTED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
