"""What askers of the store are told when requests fail, the disk refuses, the actor crashes or the node stops."""

import pytest
import trio

from syncd.actors.kit import ActorHealth, Health, NodeFailed, supervise
from syncd.codes import ErrorCode
from syncd.errors import ActorStopped, StoreUnavailable
from syncd.store.base import StoreFailed
from tests.actors.store_world import FaultyStore, StepWorker, desk_of, event, settled


@pytest.fixture
def store():
    return FaultyStore()


# ------------------------------------------------------------------------------------------------ requests that fail


async def test_a_request_that_cannot_be_stored_fails_alone(store, nursery):
    desk = desk_of(store)
    poison = event()
    poison.idempotency = object()
    desk.append(event(), poison, event(), tag="mixed")
    desk.append(event(), tag="beside")
    await nursery.start(desk.actor.run)
    await settled()
    (_, mixed), (_, beside) = desk.answers
    assert [getattr(r, "offset", None) for r in mixed] == [1, None, 2]
    assert mixed[1].code is ErrorCode.INTERNAL_ERROR
    assert beside[0].offset == 3


async def test_a_read_that_fails_fails_alone(store, nursery):
    def fail(query):
        if query.limit == 7:
            raise RuntimeError

    store.on_read = fail
    desk = desk_of(store)
    desk.read("demo:a", limit=7)
    desk.read("demo:a", limit=8)
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.answers[0][1].code is ErrorCode.INTERNAL_ERROR
    assert desk.answers[1][1].events == []


# ------------------------------------------------------------------------------------------------ the disk refuses


async def test_a_disk_that_refuses_answers_unavailable_until_a_probe_works(
    store, nursery, autojump_clock
):
    desk = desk_of(store)
    await nursery.start(desk.actor.run)
    store.on_commit = StoreUnavailable("disk full")
    desk.append(event(), tag=1)
    desk.append(event(), tag=2)
    await settled()
    assert desk.codes == [ErrorCode.STORE_UNAVAILABLE] * 2
    assert not desk.actor.statistics().is_writable
    num_begun = store.num_begun
    desk.append(event(), tag=3)
    desk.load("demo:a", tag="reads go on")
    await settled()
    assert store.num_begun == num_begun
    assert desk.answers[2][1].code is ErrorCode.STORE_UNAVAILABLE
    assert desk.answers[3][1].head.top == 0
    await trio.sleep(1.5)
    assert not desk.actor.statistics().is_writable
    store.on_commit = None
    await trio.sleep(1.0)
    assert desk.actor.statistics().is_writable
    desk.append(event(), tag=4)
    await settled()
    assert [r.offset for r in desk.answers[-1][1]] == [1]
    assert desk.actor.statistics().num_failed_commits == 1


async def test_statements_that_find_no_room_are_answered_unavailable(store, nursery):
    def fail(batch):
        raise StoreUnavailable

    store.on_begin = fail
    desk = desk_of(store)
    desk.append(event())
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.codes == [ErrorCode.STORE_UNAVAILABLE]
    assert not desk.actor.statistics().is_writable


async def test_a_store_that_failed_ends_the_node_and_answers_everybody(store, autojump_clock):
    store.on_commit = StoreFailed("fsync")
    desk = desk_of(store, transaction_requests=1)
    for _ in range(3):
        desk.append(event())
    desk.load("demo:a")
    health = ActorHealth("store")
    with pytest.raises(NodeFailed):
        await supervise(desk.actor, health)
    assert trio.current_time() < 1 + desk.actor._maintenance_at
    assert health.state is Health.FAILED
    assert len(desk.answers) == 4
    assert all(answer.retryable for _, answer in desk.answers)
    assert store.num_begun == 1
    desk.append(event())
    await settled()
    assert isinstance(desk.answers[-1][1], StoreUnavailable)


# ------------------------------------------------------------------------------------------------ crash and stop


async def test_a_crash_fails_what_was_in_hand_and_serves_what_waited(
    store, nursery, autojump_clock
):
    worker = StepWorker()
    desk = desk_of(store, worker)
    health = ActorHealth("store")
    await nursery.start(supervise, desk.actor, health)
    desk.append(event(), event(uid="u"), tag="in hand")
    await settled()
    desk.append(event(uid="u"), tag="waits")
    desk.load("demo:a", tag="load")
    store.on_commit = RuntimeError("a fault of ours")
    worker.step()
    store.on_commit = None
    await settled()
    assert (health.state, health.num_restarts) == (Health.OK, 1)
    assert desk.tags == ["in hand"]
    assert desk.codes == [ErrorCode.INTERNAL_ERROR]
    worker.step()
    await settled()
    worker.step()
    await settled()
    (waited,) = dict(desk.answers)["waits"]
    assert (waited.offset, waited.is_duplicate) == (1, False)
    assert dict(desk.answers)["load"].head.top == 1
    statistics = desk.actor.statistics()
    assert (statistics.num_restarts_in_hand, statistics.num_waiting) == (2, 0)


async def test_stopping_finishes_the_commit_in_hand_and_settles_the_rest(
    store, nursery, autojump_clock
):
    worker = StepWorker()
    desk = desk_of(store, worker)
    stopping = trio.CancelScope()
    stopped = trio.Event()

    async def run(task_status):
        with stopping:
            await desk.actor.run(task_status=task_status)
        stopped.set()

    await nursery.start(run)
    desk.append(event(), tag="in hand")
    await settled()
    desk.append(event(), tag="waits")
    desk.load("demo:a", tag="waits too")
    stopping.cancel()
    await settled()
    assert desk.answers == []
    worker.step()
    await settled()
    assert desk.tags == ["in hand", "waits", "waits too"]
    assert not stopped.is_set()
    worker.step()
    await stopped.wait()
    assert store.num_closed == 1
    assert desk.answers[0][1][0].offset == 1
    assert all(isinstance(answer, ActorStopped) for _, answer in desk.answers[1:])
    desk.append(event(), tag="too late")
    await settled()
    assert isinstance(desk.answers[-1][1], ActorStopped)


async def test_a_disk_that_hangs_delays_stopping_by_its_deadline_and_no_more(store, autojump_clock):
    desk = desk_of(store, StepWorker())
    started = trio.current_time()
    async with trio.open_nursery() as inner:
        await inner.start(desk.actor.run)
        desk.append(event())
        await settled()
        inner.cancel_scope.cancel()
    assert trio.current_time() - started == pytest.approx(5.0)
    assert desk.codes == [ErrorCode.SHUTTING_DOWN]
    assert store.num_closed == 0
