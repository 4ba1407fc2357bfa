"""The store actor: group commit, bounds, trimming, and the real thread."""

import threading
from functools import partial

import pytest
import trio
import trio.testing

from syncd.actors.store import StoreActor
from syncd.actors.store_asks import REQUEST_BYTES
from syncd.actors.store_worker import ThreadWorker
from syncd.errors import MailboxFull, StoreUnavailable, SyncdError
from syncd.ids import ChannelName
from syncd.store.sqlite import SqliteStore
from tests.actors.store_world import OPTIONS, FaultyStore, StepWorker, desk_of, event, settled


@pytest.fixture
def store():
    return FaultyStore()


# ------------------------------------------------------------------------------------------------ group commit


async def test_an_append_is_answered_after_its_commit(store, nursery, autojump_clock):
    worker = StepWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.append(event(), event())
    await settled()
    assert desk.answers == []
    worker.step()
    await settled()
    ((_, results),) = desk.answers
    assert [r.offset for r in results] == [1, 2]


async def test_whatever_was_asked_during_a_commit_is_the_next_transaction(
    store, nursery, autojump_clock
):
    worker = StepWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.append(event(), tag=0)
    await settled()
    for tag in range(1, 6):
        desk.append(event(), tag=tag)
    worker.step()
    await settled()
    assert desk.tags == [0]
    worker.step()
    await settled()
    assert desk.tags == [0, 1, 2, 3, 4, 5]
    assert [r[0].offset for _, r in desk.answers] == [1, 2, 3, 4, 5, 6]
    statistics = desk.actor.statistics()
    assert (statistics.num_commits, statistics.num_committed) == (2, 6)
    assert statistics.largest_batch == 5


async def test_a_transaction_is_bounded_in_requests_and_bytes(store, nursery):
    room = 2 * (REQUEST_BYTES + 10)
    desk = desk_of(store, transaction_requests=5, transaction_bytes=room)
    for _ in range(6):
        desk.append(event(record=bytes(10)))
    desk.append(*[event() for _ in range(7)])
    await nursery.start(desk.actor.run)
    await settled()
    assert store.num_begun == 4
    assert desk.actor.statistics().largest_batch == 7
    assert len(desk.answers) == 7


async def test_no_statement_runs_between_begin_and_the_end_of_commit(
    store, nursery, autojump_clock
):
    worker = StepWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.append(event(), tag="append")
    await settled()
    desk.load("demo:a", tag="load")
    desk.append(event(), tag="later")
    await settled()
    assert len(worker.held) == 1
    assert store.num_begun == 1
    for _ in range(3):
        worker.step()
        await settled()
    assert desk.tags == ["append", "later", "load"]


async def test_reads_see_what_was_committed_before_them(store, nursery):
    desk = desk_of(store)
    await nursery.start(desk.actor.run)
    desk.append(event(), event())
    desk.load("demo:a", tag="load")
    desk.read("demo:a", tag="read", after=1)
    await settled()
    answers = dict(desk.answers)
    assert answers["load"].head.top == 2
    assert [e.offset for e in answers["load"].tail] == [1, 2]
    assert [e.offset for e in answers["read"].events] == [2]


async def test_long_reads_give_way_to_appends(store, nursery):
    desk = desk_of(store, slice_s=0.0)
    for n in range(3):
        desk.read("demo:a", tag=f"read {n}")
    desk.append(event(), tag="append 0")
    store.on_read = lambda _: desk.append(event(), tag="append") if len(desk.tags) == 1 else None
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.tags == ["append 0", "read 0", "append", "read 1", "read 2"]


# ------------------------------------------------------------------------------------------------ bounds


async def test_more_than_the_capacity_is_refused_in_a_later_tick(store, nursery, autojump_clock):
    worker = StepWorker()
    desk = desk_of(store, worker, capacity=3)
    await nursery.start(desk.actor.run)
    desk.append(event(), event(), tag="in hand")
    await settled()
    desk.append(event(), tag="waits")
    desk.append(event(), tag="refused")
    desk.load("demo:a", tag="refused too")
    assert desk.answers == []
    await settled()
    assert desk.tags == ["refused", "refused too"]
    assert all(isinstance(answer, MailboxFull) for _, answer in desk.answers)
    assert desk.actor.statistics().num_refused == 2
    worker.step()
    await settled()
    worker.step()
    await settled()
    assert desk.tags[2:] == ["in hand", "waits"]
    statistics = desk.actor.statistics()
    assert (statistics.num_waiting, statistics.bytes_waiting) == (0, 0)


async def test_records_count_by_their_bytes(store, nursery, autojump_clock):
    desk = desk_of(store, StepWorker(), capacity_bytes=10_000)
    desk.append(event(record=bytes(50_000)), tag="alone it may be of any size")
    desk.append(event(), tag="refused")
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.tags == ["refused"]


async def test_a_callback_that_raises_does_not_hurt_the_others(store, nursery):
    desk = desk_of(store)
    for _ in range(2):
        desk.actor.append([event()], lambda _: 1 / 0)
    desk.append(event(), tag="fine")
    desk.actor.load(ChannelName("demo:a"), 1, 1, lambda _: 1 / 0)
    desk.load("demo:a", tag="fine too")
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.tags == ["fine", "fine too"]
    assert desk.actor.statistics().num_waiting == 0


# ------------------------------------------------------------------------------------------------ trimming


async def test_old_events_are_trimmed_while_nobody_asks(store, nursery, autojump_clock):
    desk = desk_of(store, wall_clock=lambda: 1000.0 + trio.current_time() - started)
    started = trio.current_time()
    desk.append(event(at_ms=1_000_000), event(at_ms=1_030_000))
    await nursery.start(desk.actor.run)
    await trio.sleep(59)
    assert desk.actor.statistics().log.num_events_trimmed == 0
    await trio.sleep(3)
    assert desk.actor.statistics().log.num_events_trimmed == 1
    await trio.sleep(30)
    assert desk.actor.statistics().log.num_events_trimmed == 2


async def test_trimming_that_the_disk_refuses_makes_the_store_unwritable(
    store, nursery, autojump_clock
):
    def fail(now_ms):
        raise StoreUnavailable

    store.on_trim = fail
    desk = desk_of(store)
    await nursery.start(desk.actor.run)
    await trio.sleep(1.5)
    assert not desk.actor.statistics().is_writable
    store.on_trim = None
    await trio.sleep(1.0)
    assert desk.actor.statistics().is_writable


# ------------------------------------------------------------------------------------------------ the real thing


@pytest.fixture
def file_store(tmp_path):
    store = SqliteStore(tmp_path / "log.db", OPTIONS)
    store.open()
    yield store
    store.close()


async def ask(actor, *requests):
    """Append and wait for the answer."""
    answered = trio.Event()
    answers = []

    def done(answer):
        answers.append((answer, threading.current_thread()))
        answered.set()

    actor.append(list(requests), done)
    await answered.wait()
    ((answer, thread),) = answers
    assert thread is threading.main_thread()
    return answer


async def test_appends_from_many_tasks_share_commits_in_the_real_thread(tmp_path, file_store):
    actor = StoreActor(file_store, ThreadWorker("store"))
    results = {}

    async def publish(name):
        results[name] = [
            (await ask(actor, event(f"demo:{name}", uid=f"{name}-{n}")))[0].offset
            for n in range(20)
        ]

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(actor.run)
            async with trio.open_nursery() as publishers:
                for name in range(20):
                    publishers.start_soon(publish, name)
            statistics = actor.statistics()
            nursery.cancel_scope.cancel()
    assert all(offsets == list(range(1, 21)) for offsets in results.values())
    assert statistics.num_committed == 400
    assert statistics.num_commits < 200
    again = SqliteStore(tmp_path / "log.db", OPTIONS)
    again.open()
    assert [again.load(ChannelName(f"demo:{n}"), 0, 0).head.top for n in range(20)] == [20] * 20
    again.close()


async def test_errors_of_the_thread_reach_the_loop():
    worker = ThreadWorker("store")
    worker.start()
    worker.start()
    with trio.fail_after(5):
        with pytest.raises(ZeroDivisionError):
            await worker.submit(lambda: 1 / 0).wait()
        assert await worker.submit(threading.current_thread).wait() is not threading.main_thread()
    worker.stop()


async def test_a_thread_that_could_not_be_started_is_started_the_next_time(monkeypatch):
    worker = ThreadWorker("store")

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            worker.start()
    worker.start()
    with trio.fail_after(5):
        assert await worker.submit(lambda: 1).wait() == 1
    worker.stop()


async def test_a_job_given_up_does_not_answer_for_the_next():
    worker = ThreadWorker("store")
    worker.start()
    first, second = threading.Event(), threading.Event()

    def outlast(gate):
        assert gate.wait(5)
        return gate

    with trio.fail_after(5):
        slow, next_one = (worker.submit(partial(outlast, gate)) for gate in (first, second))
        with trio.CancelScope() as scope:
            scope.cancel()
            await slow.wait()
        assert not slow.is_done
        async with trio.open_nursery() as nursery:
            results = []

            async def wait():
                results.append(await next_one.wait())

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            first.set()  # rings while `next_one` is waited for
            while not slow.is_done:
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            assert not results
            second.set()
        assert results == [second]
        assert await slow.wait() is first
        assert await next_one.wait() is second
        assert await worker.submit(lambda: 1).wait() == 1
    worker.stop()


async def test_the_thread_ends_after_the_jobs_it_was_given_and_keeps_no_socket():
    worker = ThreadWorker("store-that-ends")
    worker.start()
    gate, done = threading.Event(), threading.Event()
    worker.submit(lambda: gate.wait(5))
    worker.submit(done.set)
    (thread,) = [each for each in threading.enumerate() if each.name == "store-that-ends"]
    worker.stop()
    worker.stop()
    gate.set()
    with trio.fail_after(5):
        await trio.to_thread.run_sync(thread.join, 5)
    assert done.is_set()
    assert not thread.is_alive()


def test_refusals_are_errors_with_codes():
    assert issubclass(MailboxFull, SyncdError)
    assert MailboxFull().retryable
