"""The store actor: group commit, bounds, and what askers are told when things go wrong."""

import random
import threading

import attrs
import pytest
import trio
import trio.testing

from syncd.actors.kit import ActorHealth, Health, NodeFailed, supervise
from syncd.actors.store import StoreActor
from syncd.actors.store_asks import REQUEST_BYTES, StoreSettings
from syncd.actors.store_worker import InlineWorker, Job, ThreadWorker
from syncd.codes import ErrorCode
from syncd.errors import ActorStopped, MailboxFull, StoreUnavailable, SyncdError
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest, IdempotencyKey, LogQuery
from syncd.store.base import Retention, StoreFailed, StoreOptions
from syncd.store.memory import MemoryStore
from syncd.store.sqlite import SqliteStore

OPTIONS = StoreOptions(
    lambda _: Retention(size=100_000, age_s=60.0),
    entropy=random.Random(3).randbytes,
    sweep_s=0.0,
)


def event(channel="demo:a", record=b"x", uid=None, at_ms=0):
    known = None if uid is None else IdempotencyKey("user:a", "publish", uid, b"h")
    return AppendRequest(ChannelName(channel), record, at_ms, None, known)


class StepWorker:
    """Holds every job until the test performs it, as a slow disk would."""

    def __init__(self):
        self.held = []

    def start(self):
        pass

    def submit(self, work):
        self.held.append(Job(work))
        return self.held[-1]

    def stop(self):
        pass

    def step(self):
        job = self.held.pop(0)
        job.perform()
        job.finish()


class FaultyStore(MemoryStore):
    """A memory store whose steps fail when told to."""

    def __init__(self):
        super().__init__(OPTIONS)
        self.open()
        self.on_begin = self.on_commit = self.on_read = self.on_trim = None
        self.num_begun = 0
        self.num_closed = 0

    def begin(self, batch):
        self.num_begun += 1
        if self.on_begin is not None:
            self.on_begin(batch)
        return super().begin(batch)

    def commit(self):
        self._fail(self.on_commit)
        super().commit()

    def probe(self):
        self._fail(self.on_commit)

    def read(self, query):
        if self.on_read is not None:
            self.on_read(query)
        return super().read(query)

    def trim(self, now_ms, budget_s):
        if self.on_trim is not None:
            self.on_trim(now_ms)
        return super().trim(now_ms, budget_s)

    def close(self):
        self.num_closed += 1
        super().close()

    def _fail(self, error):
        if isinstance(error, StoreUnavailable):
            self.rollback()
        if error is not None:
            raise error


@attrs.define
class Desk:
    """Asks the actor and keeps the answers in the order they came."""

    actor: StoreActor
    answers: list = attrs.field(factory=list)

    def append(self, *requests, tag=None):
        self.actor.append(list(requests), lambda answer: self.answers.append((tag, answer)))

    def load(self, channel, tag=None):
        self.actor.load(
            ChannelName(channel), 100, 10_000, lambda answer: self.answers.append((tag, answer))
        )

    def read(self, channel, tag=None, **query):
        query = LogQuery(ChannelName(channel), **query)
        self.actor.read(query, lambda answer: self.answers.append((tag, answer)))

    @property
    def tags(self):
        return [tag for tag, _ in self.answers]

    @property
    def codes(self):
        return [answer.code for _, answer in self.answers]


@pytest.fixture
def store():
    return FaultyStore()


def desk_of(store, worker=None, *, wall_clock=lambda: 0.0, **settings):
    worker = InlineWorker() if worker is None else worker
    return Desk(StoreActor(store, worker, StoreSettings(**settings), wall_clock=wall_clock))


async def settled():
    await trio.testing.wait_all_tasks_blocked()


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


def test_refusals_are_errors_with_codes():
    assert issubclass(MailboxFull, SyncdError)
    assert MailboxFull().retryable
