"""`LRUCache`: what a caller sees, and that threads see it whole."""

import math
import os
import random
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncd.cache import LRUCache, State


def test_it_reads_like_a_mapping():
    cache = LRUCache(2)
    cache["a"] = 1
    cache.set("b", 2)
    assert cache["a"] == 1
    cache["c"] = 3
    assert "b" not in cache, "the least recently used went"
    assert cache.get("b") is None
    assert cache.get("b", 7) == 7
    assert list(cache) == cache.keys() == ["a", "c"]
    del cache["a"]
    with pytest.raises(KeyError):
        cache["a"]
    with pytest.raises(KeyError):
        del cache["a"]
    assert len(cache) == 1


def test_asking_whether_a_key_is_there_changes_nothing():
    cache = LRUCache(2)
    cache["a"], cache["b"] = 1, 2
    assert "a" in cache
    assert cache.peek("a") == (State.FRESH, 1)
    cache["c"] = 3
    assert "a" not in cache
    stats = cache.stats()
    assert (stats.hits, stats.misses) == (0, 0)


def test_lifetimes_are_exact_on_the_clock(clock):
    cache = LRUCache(10, ttl=10, stale=5, clock=clock)
    cache["a"] = 1
    cache.set("b", 2, ttl=2, stale=0)
    cache.set("c", 3, ttl=math.inf)
    clock.wait(2)
    assert cache.look("b") == (State.MISS, None)
    clock.wait(7.999)
    assert cache["a"] == 1
    clock.wait(0.001)
    assert cache.get("a") is None, "a stale value is only for those who ask for it"
    assert cache.look("a") == (State.STALE, 1)
    clock.wait(4.999)
    assert cache.look("a") == (State.STALE, 1)
    clock.wait(0.001)
    assert cache.look("a") == (State.MISS, None)
    assert cache["c"] == 3


def test_absence_is_remembered_for_its_time(clock):
    cache = LRUCache(10, clock=clock)
    cache.set_absent("k", ttl=3)
    assert cache.look("k") == (State.ABSENT, None)
    assert cache.get("k", "default") == "default"
    assert "k" not in cache
    with pytest.raises(KeyError):
        cache["k"]
    clock.wait(3)
    assert cache.look("k") == (State.MISS, None)
    assert cache.stats().negative_hits == 3


def test_bytes_are_counted_with_key_and_bookkeeping_and_as_given():
    cache = LRUCache(max_bytes=100_000)
    cache["k"] = bytes(1000)
    alone = cache.num_bytes
    assert 1000 < alone < 1400
    cache["k"] = bytes(2000)
    assert cache.num_bytes == alone + 1000
    cache.set("k", object(), size=33 + 1000)
    assert cache.num_bytes == alone, "as the header of bytes was given too"
    with pytest.raises(ValueError, match="below 0"):
        cache.set("k", 1, size=-1)
    measured = LRUCache(max_bytes=100_000, size=lambda value: value.weight)
    with pytest.raises(AttributeError):
        measured["k"] = "no weight"


def test_a_value_larger_than_the_limit_is_not_kept():
    cache = LRUCache(max_bytes=10_000)
    cache["k"] = "old"
    assert not cache.set("k", bytes(10_000))
    assert "k" not in cache
    assert cache.stats().oversized == 1


def test_limits_change_while_it_runs():
    cache = LRUCache(100)
    for number in range(100):
        cache[number] = bytes(1000)
    cache.set_limits(max_entries=10)
    assert cache.keys() == list(range(90, 100))
    cache.set_limits(max_bytes=5 * 1400)
    assert 3 <= len(cache) <= 5
    assert (cache.stats().max_entries, cache.stats().max_bytes) == (None, 7000)
    with pytest.raises(ValueError, match="leak"):
        cache.set_limits()
    with pytest.raises(ValueError, match="leak"):
        LRUCache()


def test_a_tag_takes_all_that_carry_it():
    cache = LRUCache(100)
    for number in range(10):
        cache.set(number, number, tags=["all", f"rest:{number % 3}"])
    assert cache.invalidate_tag("rest:0") == 4
    assert cache.keys() == [1, 2, 4, 5, 7, 8]
    cache[1] = "without tags now"
    assert cache.invalidate_tag("all") == 5
    assert cache.keys() == [1]
    assert cache.clear() == 1
    assert cache.stats().removals == 10


def test_expired_entries_can_be_swept_from_an_idle_cache(clock):
    cache = LRUCache(10_000, ttl=10, clock=clock)
    for number in range(2_500):
        cache[number] = number
    clock.wait(11)
    assert [cache.sweep() for _ in range(4)] == [1000, 1000, 500, 0]
    assert len(cache) == 0


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"stale": -1}, {"jitter": 1.0}, {"jitter": -0.1}])
def test_lifetimes_that_make_no_sense_are_errors(wrong):
    with pytest.raises(ValueError, match="ttl"):
        LRUCache(10, **wrong)


def test_the_hit_rate_is_right_under_a_pattern_of_70_percent_repeats():
    """70 % of all reads are of keys read before and still there, so 70 % are hits: no fewer, no more."""
    rng = random.Random(7)
    cache = LRUCache(1_000)
    num_new = 0
    recent = deque(maxlen=100)  # what the last reads were of is among the 100 used last
    for _ in range(20_000):
        is_repeat = rng.random() < 0.7 and recent
        key = rng.choice(recent) if is_repeat else (num_new := num_new + 1)
        recent.append(key)
        if cache.get(key) is None:
            cache[key] = bytes(10)
    stats = cache.stats()
    assert stats.hits + stats.misses == 20_000
    assert stats.misses == num_new == stats.insertions
    assert abs(stats.hit_rate - 0.7) < 0.02


def test_thirty_threads_of_fifty_operations_add_up():
    cache = LRUCache(50, max_bytes=30_000)
    start = threading.Barrier(30)

    def work(seed):
        rng = random.Random(seed)
        start.wait()
        num_found = num_put = 0
        for _ in range(50):
            key = f"key:{rng.randrange(80)}"
            if rng.random() < 0.6:
                found = cache.get(key)
                assert found is None or found[: len(key)] == key.encode(), "another key's value"
                num_found += found is not None
            elif rng.random() < 0.9:
                num_put += cache.set(key, key.encode() + bytes(rng.randrange(2000)))
            else:
                cache.invalidate(key)
        return num_found, num_put

    with ThreadPoolExecutor(30) as pool:
        results = list(pool.map(work, range(30)))
    stats = cache.stats()
    assert stats.hits == sum(found for found, _ in results)
    assert stats.insertions + stats.replacements == sum(put for _, put in results)
    assert stats.insertions == stats.evictions + stats.removals + stats.num_entries
    assert stats.num_entries == len(cache.keys()) <= 50
    assert stats.num_bytes <= 30_000
    cache.clear()
    assert cache.num_bytes == 0


def test_threads_that_switch_all_the_time_break_nothing():
    """A switch of threads every few bytecodes; without the lock the order and the accounts come apart."""
    cache = LRUCache(20, ttl=1000.0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(seed):
            rng = random.Random(seed)
            for _ in range(1_500):
                key = rng.randrange(40)
                if cache.get(key) is None:
                    cache[key] = key

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(interval)
    stats = cache.stats()
    assert stats.hits + stats.misses == 8 * 1_500
    assert stats.insertions == stats.evictions + stats.num_entries
    assert stats.num_entries == len(cache.keys()) == len(set(cache.keys())) == 20
    assert all(cache.peek(key) == (State.FRESH, key) for key in cache)


def test_the_library_needs_neither_trio_nor_the_server():
    code = (
        "import sys; from syncd.cache import LRUCache, cached\n"
        "f = cached(ttl=1)(lambda x: x); assert f(1) == f(1) == 1\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('syncd.')}\n"
        "assert rooms == {'cache', 'model'}, rooms\n"
        "assert not {'trio', 'anyio', 'sqlite3'} & set(sys.modules)\n"
    )
    # Isolated: coverage would bring sqlite3 along.
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_an_error_in_the_middle_leaves_no_lock_behind():
    """The hot methods release by hand: also when a key cannot be compared, and when the wait for the lock itself is interrupted."""

    class Wrong:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise OSError("no comparison")

    cache = LRUCache(10)
    cache[1] = "one"
    for use in (cache.get, cache.hit, lambda key: cache.set(key, 0)):
        with pytest.raises(OSError, match="no comparison"):
            use(Wrong())
    cache._let_go()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cache.get, 1).result(5.0) == "one"


def test_counts_wait_for_the_change_in_hand():
    """Between an entry's coming and the going of those that give way to it they would be above the limits."""
    cache, seen = LRUCache(max_entries=2), []
    cache.set("a", 1)
    readers = [
        threading.Thread(target=lambda: seen.append(len(cache))),
        threading.Thread(target=lambda: seen.append(cache.num_bytes)),
    ]
    with cache.core.lock:
        for reader in readers:
            reader.start()
            reader.join(0.02)
            assert reader.is_alive()
    for reader in readers:
        reader.join()
    assert sorted(seen) == sorted([1, cache.num_bytes])
