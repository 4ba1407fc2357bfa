"""The cache library beside `cachetools`, in one process and one thread: what an operation costs, and the longest one while a million expire.

Run by itself (`python -m bench.cache`) or as the scenario `cache`. Every round visits all caches in turn; a figure is the CPU time of
the round in which it took least, as others on the machine can only add to it. `cachetools` runs as it is, without the lock that threads
would need and without counting bytes; `LRUCache` always does both. Keys come in random order; the loop itself is not taken off.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

from bench.report import Row, table
from syncd.cache import LRUCache

__all__ = ["measure", "rows"]

NUM_ENTRIES = 100_000
NUM_EXPIRING = 1_000_000
NUM_PROBES = 200_000
"""Operations timed while the million expires: twice as many as it takes to clear it away at 16 a call."""

_LIFE_S = 600.0
_GET_LIMIT_US, _SET_LIMIT_US, _PAUSE_LIMIT_MS = 1.5, 3.0, 5.0
_MICRO = 1e6

Figures = dict[str, float]
_Set = Callable[[str, Any], Any]


def _caches() -> dict[str, Any]:
    """What is compared, each full after its first loop of `set`. All limits are out of reach but the number of entries."""
    import cachetools  # noqa: PLC0415 - the bench extra only; the scenario list is read without it

    return {
        "syncd": LRUCache(NUM_ENTRIES, max_bytes=1 << 40),
        "syncd ttl": LRUCache(NUM_ENTRIES, max_bytes=1 << 40, ttl=_LIFE_S),
        "LRUCache": cachetools.LRUCache(NUM_ENTRIES),
        "TTLCache": cachetools.TTLCache(NUM_ENTRIES, _LIFE_S),
    }


def _get_loop(cache: Any, keys: list[str]) -> float:
    get = cache.get
    started = time.process_time()
    for key in keys:
        get(key)
    return (time.process_time() - started) / len(keys) * _MICRO


def _set_loop(cache: Any, keys: list[str], value: object) -> float:
    store: _Set = cache.set if isinstance(cache, LRUCache) else cache.__setitem__
    started = time.process_time()
    for key in keys:
        store(key, value)
    return (time.process_time() - started) / len(keys) * _MICRO


def _set_sized_loop(cache: LRUCache[str, Any], keys: list[str]) -> float:
    value = {"status": "shipped"}
    store = cache.set
    started = time.process_time()
    for key in keys:
        store(key, value, size=232)
    return (time.process_time() - started) / len(keys) * _MICRO


def _round(caches: dict[str, Any], rng: random.Random, serial: int) -> Figures:
    """Visit all caches once. `serial` makes the keys that are inserted new ones."""
    found: Figures = {}
    old = [f"order:{number}" for number in range(NUM_ENTRIES)]
    new = [f"round-{serial}:{number}" for number in range(NUM_ENTRIES)]
    rng.shuffle(old)
    for name, cache in caches.items():
        _set_loop(cache, old, b"v" * 100)
        rng.shuffle(old)
        found[f"get {name}"] = _get_loop(cache, old)
        rng.shuffle(old)
        found[f"replace {name}"] = _set_loop(cache, old, b"w" * 150)
        if isinstance(cache, LRUCache):
            found[f"replace str {name}"] = _set_loop(cache, old, "w" * 150)
            found[f"replace size= {name}"] = _set_sized_loop(cache, old)
        found[f"evict {name}"] = _set_loop(cache, new, b"n" * 100)
    return found


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def longest_ms() -> Figures:
    """Let a million entries expire under a stream of operations; the longest one, by CPU and by the clock on the wall."""
    clock = _Clock()
    cache: LRUCache[str, bytes] = LRUCache(2 * NUM_EXPIRING, ttl=10.0, clock=clock)
    found: Figures = {}
    keys = [f"order:{number}" for number in range(NUM_EXPIRING)]
    found["fill"], _ = _watch(lambda number: cache.set(keys[number], b"v"), NUM_EXPIRING)
    clock.now += 11.0

    def work(number: int) -> None:
        if number & 1:
            cache.set(f"new:{number}", b"v")
        else:
            cache.get(keys[number])

    found["expire"], found["expire by the wall"] = _watch(work, NUM_PROBES)
    if cache.stats().expirations < NUM_EXPIRING:
        raise RuntimeError("not all of them had expired")
    return found


def _watch(work: Callable[[int], object], times: int) -> tuple[float, float]:
    """The longest of so many calls in ms: of this thread's CPU, and by the clock, which counts what others took."""
    cpu, wall = time.thread_time, time.perf_counter
    longest_cpu = longest_wall = 0.0
    for number in range(times):
        cpu_before, wall_before = cpu(), wall()
        work(number)
        longest_wall = max(longest_wall, wall() - wall_before)
        longest_cpu = max(longest_cpu, cpu() - cpu_before)
    return longest_cpu * 1000, longest_wall * 1000


def measure(num_rounds: int) -> Figures:
    """Return all figures by name: microseconds of CPU an operation, milliseconds for the longest."""
    caches, rng = _caches(), random.Random(1)
    rounds = [_round(caches, rng, serial) for serial in range(num_rounds)]
    found = {name: min(each[name] for each in rounds) for name in rounds[0]}
    caches.clear()
    return found | longest_ms()


def rows(found: Figures) -> list[Row]:
    """The figures with what is promised of them."""
    made = []

    def told(figure: str, name: str, limit: float | None = None) -> None:
        made.append(Row("cache", figure, found[name], "us", limit))

    def against(figure: str, own: str, rival: str, limit: float | None = None) -> None:
        note = f"{found[own]:.2f} / {found[rival]:.2f} us"
        made.append(Row("cache", figure, found[own] / found[rival], "x", limit, note=note))

    told("get, hit", "get syncd", _GET_LIMIT_US)
    told("get, hit, with lifetimes", "get syncd ttl", _GET_LIMIT_US)
    told("set, replace bytes", "replace syncd", _SET_LIMIT_US)
    told("set, replace str", "replace str syncd", _SET_LIMIT_US)
    told("set, replace, size given", "replace size= syncd", _SET_LIMIT_US)
    told("set, insert and evict", "evict syncd", _SET_LIMIT_US)
    told("set, replace, with lifetimes", "replace syncd ttl", _SET_LIMIT_US)
    told("set, insert and evict, with lifetimes", "evict syncd ttl", _SET_LIMIT_US)
    for what in ("get", "replace", "evict"):
        against(f"{what} / cachetools.TTLCache", f"{what} syncd ttl", f"{what} TTLCache", 1.0)
        against(f"{what} / cachetools.LRUCache", f"{what} syncd", f"{what} LRUCache")
    note = f"{found['expire by the wall']:.2f} ms by the wall"
    made.append(
        Row("cache", "longest while 1 M expire", found["expire"], "ms", _PAUSE_LIMIT_MS, note=note)
    )
    made.append(Row("cache", "longest while 1 M fill", found["fill"], "ms", _PAUSE_LIMIT_MS))
    return made


def main() -> None:
    """Measure and print a table, or the bare figures for the whole bench."""
    parser = argparse.ArgumentParser(prog="python -m bench.cache", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    found = measure(options.rounds)
    print(json.dumps(found) if options.json else table(rows(found)))


if __name__ == "__main__":
    main()
