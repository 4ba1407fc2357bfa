"""`@cached` on plain functions, called from many threads."""

import copy
import random
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncd.cache import CircularLoad, LoadFailed, NotFound, cached


class Source:
    """Something slow: every load waits at a gate, and may be told to fail."""

    def __init__(self):
        self.calls = []
        self.error = None
        self.version = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, key):
        self.calls.append(key)
        version = self.version
        assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        return f"{key}:{version}"


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(40) as pool:
        yield pool


def test_a_result_is_loaded_once_and_kept_for_its_time(source, clock, adds_up):
    read = cached(ttl=10, clock=clock)(source)
    assert [read("a"), read("a"), read("b")] == ["a:0", "a:0", "b:0"]
    clock.wait(10)
    assert read("a") == "a:0"
    assert source.calls == ["a", "b", "a"]
    assert adds_up(read.stats(), calls=4)
    assert read.stats().cache.hits == 1


def test_without_parentheses_and_on_methods():
    class Shop:
        def __init__(self, name):
            self.name = name

        @cached
        def price(self, item):
            return f"{self.name} {item}"

    one, two = Shop("one"), Shop("two")
    assert [one.price("x"), two.price("x"), one.price("x")] == ["one x", "two x", "one x"]
    assert one.price.stats().loads.started == 2
    assert Shop.price.invalidate(one, "x")
    assert Shop.price.__wrapped__(two, "y") == "two y"


def test_thirty_threads_of_a_cold_key_load_it_once(source, pool, until, adds_up):
    read = cached(source)
    source.gate.clear()
    answers = [pool.submit(read, "k") for _ in range(30)]
    until(lambda: read.stats().loads.joined == 29)
    assert read.stats().loads.running == 1
    source.gate.set()
    assert {answer.result() for answer in answers} == {"k:0"}
    assert source.calls == ["k"]
    assert adds_up(read.stats(), calls=30)


def test_all_who_wait_get_the_error_each_a_copy(source, pool, until, adds_up):
    read = cached(backoff=None)(source)
    source.gate.clear()
    source.error = OSError(5, "disk")
    answers = [pool.submit(read, "k") for _ in range(10)]
    until(lambda: read.stats().loads.joined == 9)
    source.gate.set()
    errors = [answer.exception() for answer in answers]
    assert {(type(error), error.args) for error in errors} == {(OSError, (5, "disk"))}
    assert len({id(error) for error in errors}) == 10
    assert sum(error is source.error for error in errors) == 1, "that of whoever loaded"
    assert all(error.__cause__ is source.error for error in errors if error is not source.error)
    source.error = None
    assert read("k") == "k:0"
    assert adds_up(read.stats(), calls=11)


def test_a_failing_source_is_not_hammered(source, clock, adds_up):
    read = cached(backoff=(1.0, 4.0), chance=lambda: 0.0, clock=clock)(source)
    source.error = OSError("down")
    attempts = []
    for _ in range(200):
        with pytest.raises(OSError, match="down"):
            read("k")
        if len(source.calls) > len(attempts):
            attempts.append(clock.now - 1000.0)
        clock.wait(0.125)
    assert attempts == [0.0, 1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0]
    assert adds_up(read.stats(), calls=200)
    assert read.stats().loads.refused == 200 - 8
    source.error = None
    clock.wait(4)
    assert read("k") == "k:0"


def test_a_remembered_error_says_so_and_holds_no_frames(source, clock):
    read = cached(clock=clock, chance=lambda: 0.0)(source)
    source.error = OSError("down")
    with pytest.raises(OSError, match="down"):
        read("k")
    with pytest.raises(OSError, match="down") as caught:
        read("k")
    assert caught.value is not source.error
    assert "Remembered by the cache" in "".join(caught.value.__notes__)
    assert not any("__call__" in line for line in traceback.format_tb(caught.value.__traceback__))
    with pytest.raises(OSError, match="down") as again:
        read("k")
    assert len(again.value.__notes__) == 1


def test_an_error_that_cannot_be_copied_is_told_by_name(source):
    class Strange(Exception):
        def __init__(self, one, two):
            super().__init__("strange")

    read = cached(source)
    source.error = Strange(1, 2)
    with pytest.raises(TypeError):
        copy.copy(source.error)
    with pytest.raises(Strange):
        read("k")
    with pytest.raises(LoadFailed, match="Strange: strange"):
        read("k")


def test_invalidate_and_clear_forget_failures(source):
    read = cached(source)
    source.error = OSError("down")
    for forget in (lambda: read.invalidate("k"), read.clear):
        with pytest.raises(OSError, match="down"):
            read("k")
        forget()
    source.error = None
    assert read("k") == "k:0"


def test_absence_is_remembered_and_raised_again(source, clock, adds_up):
    read = cached(ttl=100, negative_ttl=5, clock=clock)(source)
    source.error = NotFound("no k")
    for _ in range(3):
        with pytest.raises(NotFound):
            read("k")
    assert source.calls == ["k"]
    source.error = None
    clock.wait(5)
    assert read("k") == "k:0"
    stats = read.stats()
    assert (stats.loads.not_found, stats.loads.succeeded, stats.cache.negative_hits) == (1, 1, 2)
    assert adds_up(stats, calls=4)


def test_none_is_absence_where_absence_has_a_time(clock):
    calls = []
    for negative_ttl, life in ((5, 5), (None, 100)):
        read = cached(ttl=100, negative_ttl=negative_ttl, clock=clock)(calls.append)
        del calls[:]
        assert read("k") is None
        clock.wait(life - 0.001)
        assert read("k") is None
        assert len(calls) == 1
        clock.wait(0.001)
        assert read("k") is None
        assert len(calls) == 2


def test_absence_that_is_not_remembered_still_drops_what_was_stale(source, clock, until):
    read = cached(ttl=10, stale=100, clock=clock)(source)
    read("k")
    clock.wait(10)
    source.error = NotFound()
    assert read("k") == "k:0"
    until(lambda: read.stats().loads.not_found == 1)
    with pytest.raises(NotFound):
        read("k")


def test_a_stale_result_is_served_while_one_thread_refreshes(source, clock, until, adds_up):
    read = cached(ttl=10, stale=20, clock=clock)(source)
    assert read("k") == "k:0"
    clock.wait(10)
    source.version = 1
    source.gate.clear()
    assert [read("k") for _ in range(5)] == ["k:0"] * 5
    source.gate.set()
    until(lambda: read.stats().loads.running == 0)
    assert read("k") == "k:1"
    assert source.calls == ["k", "k"]
    stats = read.stats()
    assert (stats.cache.stale_hits, stats.loads.refreshes) == (5, 1)
    assert adds_up(stats, calls=7)


def test_a_failed_refresh_leaves_the_stale_result_until_its_window_ends(
    source, clock, until, adds_up
):
    read = cached(ttl=10, stale=20, backoff=(8.0, 8.0), chance=lambda: 0.0, clock=clock)(source)
    read("k")
    clock.wait(10)
    source.error = OSError("down")
    assert read("k") == "k:0"
    until(lambda: read.stats().loads.failed == 1)
    assert read("k") == "k:0"
    assert len(source.calls) == 2, "too early for another refresh"
    clock.wait(8)
    assert read("k") == "k:0"
    until(lambda: read.stats().loads.failed == 2)
    clock.wait(20)
    with pytest.raises(OSError, match="down"):
        read("k")
    assert adds_up(read.stats())


def test_refreshes_are_bounded(source, clock, until):
    read = cached(ttl=10, stale=20, max_refreshes=2, clock=clock)(source)
    for key in "abcd":
        read(key)
    clock.wait(10)
    source.gate.clear()
    for key in "abcd":
        assert read(key) == f"{key}:0"
    assert read.stats().loads.running == 2
    source.gate.set()
    until(lambda: read.stats().loads.running == 0)
    assert read("c") == "c:0"
    until(lambda: read.stats().loads.refreshes == 3)


@pytest.mark.parametrize("change", ["invalidate", "clear", "tag", "cache", "set"])
def test_what_was_loaded_before_a_change_is_not_kept(change, source, pool, until, adds_up):
    read = cached(tags=lambda value, key: [f"tag:{key}"])(source)
    source.gate.clear()
    answer = pool.submit(read, "k")
    until(lambda: source.calls == ["k"])
    source.version = 1
    {
        "invalidate": lambda: read.invalidate("k"),
        "clear": read.clear,
        "tag": lambda: read.invalidate_tag("tag:k"),
        "cache": lambda: read.cache.invalidate("k"),
        "set": lambda: read.cache.set("k", "put meanwhile"),
    }[change]()
    source.gate.set()
    assert answer.result() == "k:1"
    assert read("k") == "k:1"
    assert source.calls == ["k", "k"]
    assert read.stats().loads.reruns == 1
    assert adds_up(read.stats(), calls=2)


def test_a_change_to_others_does_not_repeat_a_load(source, pool, until):
    read = cached(tags=lambda value, key: [f"tag:{key}"])(source)
    source.gate.clear()
    answer = pool.submit(read, "k")
    until(lambda: source.calls == ["k"])
    read.invalidate("other")
    read.invalidate_tag("tag:other")
    source.gate.set()
    answer.result()
    assert source.calls == ["k"]


def test_a_key_that_changes_all_the_time_is_answered_and_not_kept(adds_up):
    calls = []

    @cached
    def read(key):
        calls.append(key)
        read.invalidate(key)
        return len(calls)

    assert read("k") == 4
    assert "k" not in read.cache
    assert adds_up(read.stats(), calls=1)


def test_results_go_with_their_tags_and_sizes():
    read = cached(
        max_bytes=20_000, size=lambda value: 1_000, tags=lambda value, a, b: [f"a:{a}", f"b:{b}"]
    )(lambda a, b: (a, b))
    for a in range(3):
        for b in range(3):
            read(a, b)
    assert read.cache.num_bytes > 9_000
    assert read.invalidate_tag("a:1") == 3
    assert read.invalidate(0, b=0)
    assert not read.invalidate(0, 0)
    assert len(read.cache) == 5


@pytest.mark.parametrize("part", ["tags", "size"])
def test_an_error_of_the_applications_own_hooks_is_a_failed_load(part, adds_up):
    def broken(*args):
        raise ZeroDivisionError

    read = cached(**{part: broken})(lambda key: key)
    with pytest.raises(ZeroDivisionError):
        read("k")
    assert read.stats().loads.failed == 1
    assert adds_up(read.stats(), calls=1)


def test_a_key_of_ones_own():
    calls = []
    read = cached(key=lambda request: request["id"])(calls.append)
    read({"id": 1, "at": 1})
    read({"id": 1, "at": 2})
    assert len(calls) == 1
    assert read.key({"id": 7}) == 7
    with pytest.raises(TypeError, match="unhashable"):
        cached(lambda request: request)({"id": 1})


def test_an_interrupted_load_is_taken_over_by_one_who_waits(pool, until, adds_up):
    calls, gate = [], threading.Event()

    @cached
    def read(key):
        calls.append(key)
        if len(calls) == 1:
            assert gate.wait(20)
            raise KeyboardInterrupt
        return key

    first = pool.submit(read, "k")
    until(lambda: calls == ["k"])
    others = [pool.submit(read, "k") for _ in range(5)]
    until(lambda: read.stats().loads.joined == 5)
    gate.set()
    assert isinstance(first.exception(), KeyboardInterrupt)
    assert {other.result() for other in others} == {"k"}
    assert calls == ["k", "k"]
    assert read.stats().loads.abandoned == 1
    assert adds_up(read.stats(), calls=6)


def test_a_loader_that_reads_its_own_key_is_an_error(adds_up):
    @cached
    def read(key):
        return read(key)

    with pytest.raises(CircularLoad, match="'k' -> 'k'"):
        read("k")
    with pytest.raises(CircularLoad):
        read("k")
    assert read.stats().loads.refused == 0, "a mistake in the program is told each time"
    assert adds_up(read.stats(), calls=4)


def test_loaders_may_read_each_other_but_not_in_a_circle():
    first = cached(lambda key: second(key) + 1)
    second = cached(lambda key: 1 if key == "end" else first("end") + 1)
    assert first("end") == 2
    assert second("k") == 3
    second.clear()
    first.clear()

    @cached
    def endless(key):
        return also_endless(key)

    also_endless = cached(endless.__call__)
    with pytest.raises(CircularLoad):
        endless("k")


def test_two_threads_that_would_wait_for_each_other_are_told(pool, adds_up):
    """Each loads its own key and reads the other's: neither sees a circle alone."""
    both = threading.Barrier(2)

    @cached(backoff=None)
    def read(key):
        both.wait(20)
        return read("b" if key == "a" else "a")

    errors = [answer.exception(20) for answer in (pool.submit(read, "a"), pool.submit(read, "b"))]
    assert [type(error) for error in errors] == [CircularLoad, CircularLoad]
    assert read.stats().loads.running == 0
    assert read.stats().loads.circular == 1
    assert adds_up(read.stats())


def test_thirty_threads_of_fifty_operations_add_up(pool, adds_up):
    calls, lock = [], threading.Lock()

    @cached(max_entries=40, negative_ttl=100, backoff=(0.0001, 0.0002))
    def read(number):
        with lock:
            calls.append(number)
        if number % 11 == 0:
            raise NotFound
        if number % 13 == 0:
            raise OSError
        return number * 2

    start = threading.Barrier(30)

    def work(seed):
        rng = random.Random(seed)
        start.wait()
        for step in range(50):
            number = rng.randrange(1, 80)
            if step % 10 == 9:
                read.invalidate(rng.randrange(1, 80))
            try:
                assert read(number) == number * 2
            except (NotFound, OSError):
                assert number % 11 == 0 or number % 13 == 0

    list(pool.map(work, range(30)))
    stats = read.stats()
    assert adds_up(stats, calls=1500)
    assert len(calls) == stats.loads.started + stats.loads.reruns
    assert stats.loads.running == 0
    assert 0 < stats.loads.longest_s <= stats.loads.seconds


def test_load_times_are_counted_on_the_cache_s_clock(clock):
    read = cached(clock=clock)(clock.wait)
    for seconds in (2.0, 5.0, 2.0):
        read(seconds)
    loads = read.stats().loads
    assert (loads.seconds, loads.longest_s, loads.mean_s) == (7.0, 5.0, 3.5)
    assert cached(lambda: 1).stats().loads.mean_s == 0


def test_a_refresh_that_cannot_get_a_thread_is_given_up(source, clock, monkeypatch, adds_up):
    read = cached(ttl=10, stale=20, clock=clock)(source)
    read("k")
    clock.wait(10)

    def full(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", full)
        assert read("k") == "k:0"
    assert read.stats().loads.abandoned == 1
    assert read.stats().loads.running == 0
    assert adds_up(read.stats(), calls=2)


@pytest.mark.parametrize("wrong", [{"negative_ttl": 0}, {"backoff": (1.0, 0.5)}, {"ttl": -1}])
def test_settings_that_make_no_sense_are_errors(wrong):
    with pytest.raises(ValueError, match=r"."):
        cached(**wrong)(lambda: 1)
