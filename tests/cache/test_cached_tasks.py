"""`@cached` on async functions, called from many Trio tasks on a clock that jumps."""

import contextvars
import random
import threading

import pytest
import trio

from syncd.cache import CircularLoad, NotFound, cached


class Source:
    """Takes a second for each load, and may be told to fail."""

    def __init__(self):
        self.calls = []
        self.finished = []
        self.error = None
        self.version = 0

    async def load(self, key):
        self.calls.append(key)
        version = self.version
        await trio.sleep(1)
        if self.error is not None:
            raise self.error
        self.finished.append(key)
        return f"{key}:{version}"


@pytest.fixture
def source():
    return Source()


async def gather(function, *calls):
    """Call at the same time; return results or errors in order."""
    results = [None] * len(calls)

    async def one(index, args):
        try:
            results[index] = await function(*args)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            results[index] = error

    async with trio.open_nursery() as nursery:
        for index, args in enumerate(calls):
            nursery.start_soon(one, index, args)
    return results


async def test_a_thousand_concurrent_reads_of_a_cold_key_are_one_load(
    autojump_clock, source, adds_up
):
    read = cached(source.load)
    results = await gather(read, *[("k",)] * 1_000)
    assert set(results) == {"k:0"}
    assert source.calls == ["k"]
    stats = read.stats()
    assert (stats.loads.started, stats.loads.joined) == (1, 999)
    assert adds_up(stats, calls=1_000)


async def test_lifetimes_are_exact_on_the_virtual_clock(autojump_clock, source):
    read = cached(ttl=10, clock=trio.current_time)(source.load)
    await read("k")
    loaded_at = trio.current_time()
    await trio.sleep_until(loaded_at + 9.999)
    await read("k")
    assert source.calls == ["k"]
    await trio.sleep_until(loaded_at + 10)
    await read("k")
    assert source.calls == ["k", "k"]


async def test_all_who_wait_get_the_error_each_a_copy(autojump_clock, source, adds_up):
    read = cached(source.load)
    source.error = OSError(5, "disk")
    errors = await gather(read, *[("k",)] * 10)
    assert {(type(error), error.args) for error in errors} == {(OSError, (5, "disk"))}
    assert len({id(error) for error in errors}) == 10
    assert source.calls == ["k"]
    assert adds_up(read.stats(), calls=10)


async def test_a_waiter_who_is_cancelled_leaves_the_others_their_load(
    autojump_clock, source, adds_up
):
    read = cached(source.load)
    outcomes = {}

    async def call(name, patience_s):
        with trio.move_on_after(patience_s):
            outcomes[name] = await read("k")

    async with trio.open_nursery() as nursery:
        for name, patience_s in (("first", 0.5), ("second", 0.7), ("third", 5)):
            nursery.start_soon(call, name, patience_s)
            await trio.testing.wait_all_tasks_blocked()
    assert outcomes == {"third": "k:0"}
    assert source.calls == ["k"]
    assert adds_up(read.stats(), calls=3)


async def test_a_load_nobody_waits_for_any_more_is_cancelled_and_the_next_begins_anew(
    autojump_clock, source, adds_up
):
    read = cached(source.load)
    with trio.move_on_after(0.5):
        await gather(read, ("k",), ("k",))
    assert read.stats().loads.abandoned == 1
    assert read.stats().loads.running == 0
    assert await read("k") == "k:0"
    assert source.calls == ["k", "k"]
    assert source.finished == ["k"], "the first was cancelled"
    assert adds_up(read.stats(), calls=3)


async def test_a_cancelled_load_that_ends_late_changes_nothing(autojump_clock, adds_up):
    versions = iter("ab")

    @cached
    async def stubborn(key):
        version = next(versions)
        with trio.CancelScope(shield=True):
            await trio.sleep(2 if version == "a" else 5)
        return version

    with trio.move_on_after(1):
        await stubborn("k")
    assert await stubborn("k") == "b"
    assert await stubborn("k") == "b"
    assert adds_up(stubborn.stats(), calls=3)


async def test_a_callers_deadline_does_not_reach_into_the_load(autojump_clock, source):
    read = cached(source.load)
    with trio.move_on_after(0.5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "k")
            await trio.sleep(0.1)
            trio.lowlevel.spawn_system_task(read, "k")
    await trio.sleep(1)
    assert source.finished == ["k"]


async def test_a_hit_does_not_wait(autojump_clock, source):
    read = cached(source.load)
    await read("k")
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await read("k") == "k:0"


async def test_a_stale_result_is_served_while_a_task_refreshes(autojump_clock, source, adds_up):
    read = cached(ttl=10, stale=20, clock=trio.current_time)(source.load)
    await read("k")
    await trio.sleep(10)
    source.version = 1
    before = trio.current_time()
    assert await gather(read, *[("k",)] * 5) == ["k:0"] * 5
    assert trio.current_time() == before
    await trio.sleep(1.5)
    assert await read("k") == "k:1"
    assert source.calls == ["k", "k"]
    stats = read.stats()
    assert (stats.cache.stale_hits, stats.loads.refreshes) == (5, 1)
    assert adds_up(stats, calls=7)


async def test_a_refresh_goes_on_when_one_who_joined_it_is_cancelled(autojump_clock, source):
    read = cached(ttl=10, stale=1, clock=trio.current_time)(source.load)
    await read("k")
    await trio.sleep(10.5)
    await read("k")
    await trio.sleep(0.6)
    with trio.move_on_after(0.1):
        await read("k")
    await trio.sleep(1)
    assert source.finished == ["k", "k"]
    assert read.stats().loads.abandoned == 0


async def test_a_failing_source_is_not_hammered(autojump_clock, source, adds_up):
    read = cached(backoff=(1.0, 8.0), chance=lambda: 0.0, clock=trio.current_time)(source.load)
    source.error = OSError("down")
    for _ in range(200):
        with pytest.raises(OSError, match="down"):
            await read("k")
        await trio.sleep(0.1)
    assert 4 <= len(source.calls) <= 5
    assert adds_up(read.stats(), calls=200)


async def test_absence_is_remembered_and_raised_again(autojump_clock, source, adds_up):
    read = cached(negative_ttl=5, clock=trio.current_time)(source.load)
    source.error = NotFound("no k")
    assert {type(error) for error in await gather(read, *[("k",)] * 3)} == {NotFound}
    with pytest.raises(NotFound):
        await read("k")
    assert source.calls == ["k"]
    assert adds_up(read.stats(), calls=4)


async def test_what_was_loaded_before_an_invalidation_is_loaded_again(
    autojump_clock, source, adds_up
):
    read = cached(source.load)
    results = []

    async def call():
        results.append(await read("k"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.sleep(0.5)
        source.version = 1
        read.invalidate("k")
        nursery.start_soon(call)
    assert results == ["k:1", "k:1"]
    assert source.calls == ["k", "k"]
    assert adds_up(read.stats(), calls=2)


async def test_a_loader_that_reads_its_own_key_is_an_error(autojump_clock, adds_up):
    @cached
    async def read(key):
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, key)

    with pytest.raises(ExceptionGroup) as caught:
        await read("k")
    assert caught.group_contains(CircularLoad, match="'k' -> 'k'")
    assert adds_up(read.stats(), calls=2)


async def test_two_loads_that_would_wait_for_each_other_are_told(autojump_clock, adds_up):
    @cached(backoff=None)
    async def read(key):
        await trio.sleep(1)
        return await read("b" if key == "a" else "a")

    errors = await gather(read, ("a",), ("b",))
    assert [type(error) for error in errors] == [CircularLoad, CircularLoad]
    assert read.stats().loads.circular == 1
    assert adds_up(read.stats())


async def test_loads_may_wait_for_the_same_others(autojump_clock, adds_up):
    calls = []

    @cached
    async def read(number):
        calls.append(number)
        await trio.sleep(1)
        if number == 0:
            return 1
        return sum(await gather(read, *[(each,) for each in range(number)]))

    assert await read(6) == 32
    assert sorted(calls) == list(range(7))
    assert adds_up(read.stats())


async def test_an_async_load_may_read_a_plain_cached_function_that_calls_back(autojump_clock):
    """The chain of loads is followed through a worker thread."""

    @cached
    def in_a_thread(key):
        return trio.from_thread.run(outer, key)

    @cached
    async def outer(key):
        return await trio.to_thread.run_sync(in_a_thread, key)

    with pytest.raises(CircularLoad):
        await outer("k")


async def test_a_load_has_the_context_of_its_first_caller(autojump_clock):
    who = contextvars.ContextVar("who")

    @cached
    async def read(key):
        await trio.sleep(1)
        return who.get()

    who.set("me")
    assert await read("k") == "me"


async def test_a_load_that_is_interrupted_tells_who_waits(autojump_clock, adds_up):
    calls = []

    @cached
    async def read(key):
        calls.append(key)
        await trio.sleep(1)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await read("k")
    with pytest.raises(SystemExit):
        await read("k")
    assert len(calls) == 2, "not remembered: it is no failure of the source"
    assert adds_up(read.stats(), calls=2)


def test_each_run_of_trio_loads_for_itself_and_shares_what_was_loaded():
    meet = threading.Barrier(2)
    calls, results = [], []

    @cached
    async def read(key):
        calls.append(key)
        meet.wait(20)
        return "loaded"

    def run():
        results.append(trio.run(read, "k"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == ["loaded"] * 2
    assert trio.run(read, "k") == "loaded"
    assert calls == ["k", "k"]
    assert read.stats().loads.running == 0


def test_a_run_that_ends_takes_its_loads_along(adds_up):
    @cached(ttl=0.000001, stale=1000)
    async def read(key):
        if read.stats().loads.started > 1:
            await trio.sleep_forever()
        return 1

    async def main():
        await read("k")
        await trio.sleep(0.01)
        assert await read("k") == 1
        assert read.stats().loads.running == 1

    trio.run(main)
    assert read.stats().loads.abandoned == 1
    assert read.stats().loads.running == 0
    assert adds_up(read.stats(), calls=2)


async def test_thirty_tasks_of_fifty_operations_add_up(autojump_clock, adds_up):
    calls = []
    rng = random.Random(3)

    @cached(
        ttl=1,
        stale=3,
        max_entries=40,
        negative_ttl=2,
        clock=trio.current_time,
        tags=lambda value, n: [str(n % 5)],
    )
    async def read(number):
        calls.append(number)
        await trio.sleep(rng.random())
        if number % 11 == 0:
            raise NotFound
        if number % 13 == 0:
            raise OSError
        return number * 2

    num_cancelled = 0

    async def work():
        nonlocal num_cancelled
        for step in range(50):
            number = rng.randrange(1, 80)
            if step % 10 == 9:
                read.invalidate(number)
            if step % 25 == 24:
                read.invalidate_tag(str(number % 5))
            with trio.move_on_after(0.5 if step % 7 == 6 else 100) as scope:
                try:
                    assert await read(number) == number * 2
                except (NotFound, OSError):
                    assert number % 11 == 0 or number % 13 == 0
            num_cancelled += scope.cancelled_caught

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(work)
    await trio.sleep(2)
    stats = read.stats()
    assert adds_up(stats, calls=1500)
    assert len(calls) == stats.loads.started + stats.loads.reruns
    assert stats.loads.running == 0
    assert min(num_cancelled, stats.loads.joined, stats.loads.refreshes, stats.loads.refused) > 0
    assert min(stats.loads.abandoned, stats.loads.reruns, stats.cache.negative_hits) > 0
