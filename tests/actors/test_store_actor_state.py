"""The store actor and mutations: they share transactions with appends, in order, and fail as groups."""

import threading

import pytest
import trio

from syncd.actors.store_asks import REQUEST_BYTES, Commit
from syncd.actors.store_worker import ThreadWorker
from syncd.codes import ErrorCode
from syncd.errors import ActorStopped, StoreUnavailable, SyncdError
from syncd.ids import ChannelName
from syncd.ports_log import AppendRequest
from syncd.ports_state import (
    Committed,
    Conflict,
    KnownOutcome,
    MutationCommit,
    OutOfOrder,
    StateStoreHandle,
)
from syncd.store.memory import MemoryStore
from syncd.store.sqlite import SqliteStore
from tests.actors.store_state_world import (
    ORDERS,
    HeldWorker,
    WatchedStore,
    event,
    mutation,
    service,
)
from tests.actors.store_world import OPTIONS, desk_of, settled


@pytest.fixture
def store():
    return WatchedStore()


# ------------------------------------------------------------------------------------------------ group commit


async def test_a_group_is_answered_in_order_after_its_commit(store, nursery, autojump_clock):
    worker = HeldWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.commit(
        mutation("c", 1, "k"),
        mutation("c", 1),
        mutation("c", 5),
        mutation("d", 1, reads=[("k", 9)]),
    )
    await settled()
    assert desk.answers == []
    await worker.step()
    ((_, results),) = desk.answers
    assert [type(r) for r in results] == [Committed, KnownOutcome, OutOfOrder, Conflict]


async def test_appends_and_groups_share_a_transaction_in_the_order_they_came(
    store, nursery, autojump_clock
):
    desk = desk_of(store)
    desk.append(event(), tag="a")
    desk.append(event(), tag="b")
    desk.commit(mutation("c", 1, "k"), tag="c")
    desk.commit(mutation("c", 2, "k"), mutation("c", 3, "k"), tag="d")
    desk.append(event(), tag="e")
    await nursery.start(desk.actor.run)
    await settled()
    groups = [("begin_commit", 1), ("begin_commit", 2)]
    assert store.calls == [("begin", 2), *groups, ("begin", 1), ("commit",)]
    assert desk.tags == ["a", "b", "c", "d", "e"]
    assert [r.offset for tag in "abe" for r in desk.answer(tag)] == [1, 2, 6]
    assert [r.versions for tag in "cd" for r in desk.answer(tag)] == [[3], [4], [5]]


async def test_a_group_weighs_as_much_as_it_writes():
    made = mutation("c", 1, "a", "b", value=bytes(100))
    made.events.append(event())
    ask = Commit(lambda _: None, [made, mutation("c", 2)])
    assert ask.num_requests == 4
    assert ask.size_bytes == 4 * REQUEST_BYTES + 2 * (100 + 6) + 1 + 2 * 7
    assert Commit(lambda _: None, []).num_requests == 1


async def test_transactions_are_bounded_by_what_groups_write(store, nursery):
    desk = desk_of(store, transaction_requests=4)
    for mid in range(1, 5):
        desk.commit(mutation("c", mid, "a", "b"))
    await nursery.start(desk.actor.run)
    await settled()
    assert store.calls == [("begin_commit", 1), ("begin_commit", 1), ("commit",)] * 2


async def test_what_mutations_saw_of_each_other_is_theirs_whatever_group_comes_before(
    store, nursery, autojump_clock
):
    desk = desk_of(store)
    desk.commit(mutation("a", 1, "x"), mutation("a", 2, "y"), tag="first")
    desk.commit(
        mutation("b", 1, "k"),
        mutation("c", 1, "k", reads=[("k", -1, 0)]),
        mutation("d", 1, "z", reads=[("k", -1, 0)]),
        mutation("e", 1, "z", reads=[("y", -1, 1)]),
        tag="second",
    )
    desk.commit(mutation("f", 1, reads=[("x", -1, 0)]), tag="third")
    await nursery.start(desk.actor.run)
    await settled()
    assert store.calls.count(("commit",)) == 1
    kinds = [type(result) for result in desk.answer("second")]
    assert kinds == [Committed, Committed, Conflict, Conflict]
    assert [type(result) for result in desk.answer("third")] == [Conflict]


async def test_what_mutations_saw_of_each_other_holds_beside_a_group_that_cannot_be_stored(
    store, nursery, autojump_clock
):
    desk = desk_of(store)
    bad = mutation("b", 1)
    bad.reads.append(object())
    desk.commit(mutation("a", 1, "x"), bad, tag="bad")
    desk.commit(mutation("c", 1, "k"), mutation("d", 1, reads=[("k", -1, 0)]), tag="good")
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.answer("bad").code is ErrorCode.INTERNAL_ERROR
    assert [type(result) for result in desk.answer("good")] == [Committed, Committed]


async def test_groups_of_one_transaction_see_each_others_keys(store, nursery, autojump_clock):
    desk = desk_of(store)
    desk.commit(service("u", "k"), tag="first")
    desk.commit(service("u", "k"), service("u", "k", request_hash=b"other"), tag="second")
    await nursery.start(desk.actor.run)
    await settled()
    (done,) = desk.answer("first")
    known, refused = desk.answer("second")
    assert known == KnownOutcome(b"outcome", done.positions)
    assert refused.code is ErrorCode.IDEMPOTENCY_MISMATCH
    assert store.calls.count(("commit",)) == 1


async def test_an_empty_group_is_answered_with_nothing(store, nursery):
    desk = desk_of(store)
    desk.commit(tag=0)
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.answers == [(0, [])]


# ------------------------------------------------------------------------------------------------ failures


async def test_a_commit_that_fails_tells_every_asker_and_decides_nothing(
    store, nursery, autojump_clock
):
    desk = desk_of(store, probe_s=5.0)
    await nursery.start(desk.actor.run)
    store.fault = StoreUnavailable()
    desk.append(event(), tag=0)
    desk.commit(mutation("c", 1, "k"), tag=1)
    await settled()
    assert [answer.code for _, answer in desk.answers] == [ErrorCode.STORE_UNAVAILABLE] * 2
    store.fault = None
    await trio.sleep(6)
    desk.commit(mutation("c", 1, "k"), tag=2)
    await settled()
    assert desk.answer(2)[0].versions == [1]


async def test_a_group_that_cannot_be_stored_fails_whole_and_alone(store, nursery, autojump_clock):
    desk = desk_of(store)
    bad = mutation("b", 2, "k")
    bad.reads.append(object())
    broken = event(uid="u")
    broken.idempotency = object()
    desk.append(event(), broken, tag="appends")
    desk.commit(mutation("a", 1, "k"), tag="good")
    desk.commit(mutation("b", 1, "k"), bad, tag="bad")
    desk.commit(mutation("c", 1, "k"), tag="later")
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.tags == ["appends", "good", "bad", "later"]
    first, second = desk.answer("appends")
    assert first.offset == 1
    assert isinstance(second, SyncdError)
    assert desk.answer("bad").code is ErrorCode.INTERNAL_ERROR
    assert desk.answer("bad").retryable
    assert [desk.answer(tag)[0].versions for tag in ("good", "later")] == [[2], [3]]
    assert store.last_mids(["a", "b", "c"]) == [1, 0, 1]


async def test_groups_asked_after_the_stop_are_refused(store, nursery, autojump_clock):
    desk = desk_of(store)
    await nursery.start(desk.actor.run)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await settled()
        desk.commit(mutation("c", 1), tag=0)
        desk.read_state(lambda reader: reader.last_mids(["c"]), tag=1)
        await settled()
    assert [type(answer) for _, answer in desk.answers] == [ActorStopped] * 2


async def test_a_crash_settles_the_groups_in_hand(store, autojump_clock):
    desk = desk_of(store)
    desk.commit(mutation("c", 1, "k"), mutation("c", 2, "k"), tag=0)
    store.fault = RuntimeError("bug")
    with pytest.raises(RuntimeError):
        await desk.actor.run()
    assert desk.answers == []
    desk.actor.recover()
    assert desk.answer(0).code is ErrorCode.INTERNAL_ERROR
    assert store.last_mids(["c"]) == [0]
    assert desk.actor.statistics().num_waiting == 0


# ------------------------------------------------------------------------------------------------ reading


async def test_nothing_is_written_while_the_reads_of_a_job_go_on(store, nursery, autojump_clock):
    worker = HeldWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1, "k"))
    await settled()
    await worker.step()
    desk.read_state(lambda reader: (reader.scan(ORDERS, None, 9, 99), reader.count(ORDERS)), tag=1)
    await settled()
    num_calls = len(store.calls)
    desk.commit(mutation("d", 1, "late"), tag="late")
    desk.append(event())
    await settled()
    assert len(store.calls) == num_calls
    await worker.step()
    page, count = desk.answer(1)
    assert (page.position.offset, len(page.entries), count) == (1, 1, 1)
    await worker.step()
    assert desk.answer("late")[0].versions == [2]


async def test_a_read_of_the_state_sees_the_groups_asked_before_it(store, nursery, autojump_clock):
    worker = HeldWorker()
    desk = desk_of(store, worker)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1, "k"))
    desk.read_state(
        lambda reader: (reader.last_mids(["c"]), reader.scan(ORDERS, None, 10, 100).entries),
        tag="read",
    )
    await settled()
    assert len(worker.held) == 1
    await worker.step()
    assert desk.tags == [None]
    await worker.step()
    lasts, (entry,) = desk.answer("read")
    assert (lasts, entry.key, entry.version) == ([1], "k", 1)


async def test_a_read_that_fails_is_told_and_hurts_nobody(store, nursery, autojump_clock):
    desk = desk_of(store)
    desk.read_state(lambda reader: reader.nonsense, tag="bad")
    desk.read_state(lambda reader: reader.last_mids(["c"]), tag="good")
    await nursery.start(desk.actor.run)
    await settled()
    assert desk.answer("bad").code is ErrorCode.INTERNAL_ERROR
    assert desk.answer("good") == [0]


async def test_many_clients_share_commits_in_the_real_thread(tmp_path):
    store = SqliteStore(tmp_path / "log.db", OPTIONS)
    store.open()
    desk = desk_of(store, ThreadWorker("store"))
    handle: StateStoreHandle = desk.actor
    done = trio.Event()
    left = 200

    def answered(answer):
        nonlocal left
        assert isinstance(answer[0], Committed)
        left -= 1
        if not left:
            done.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(desk.actor.run)
        for mid in range(1, 11):
            for client in range(20):
                handle.commit([mutation(f"c{client}", mid, f"k{client}")], answered)
        with trio.fail_after(30):
            await done.wait()
        assert desk.actor.statistics().num_commits < 20
        nursery.cancel_scope.cancel()
    again = SqliteStore(tmp_path / "log.db", OPTIONS)
    again.open()
    assert again.last_mids([f"c{client}" for client in range(20)]) == [10] * 20
    assert len(again.scan(ORDERS, None, 100, 10**6).entries) == 20
    again.close()


class RemoteStore(MemoryStore):
    """A store that waits for a network with each statement, and knows results when it has committed."""

    blocks = True

    def __init__(self, options):
        super().__init__(options)
        self.promised = []
        self.threads = set()

    def begin(self, batch):
        return self.promise(super().begin(batch))

    def begin_commit(self, group):
        return self.promise(super().begin_commit(group))

    def promise(self, results):
        self.threads.add(threading.current_thread())
        self.promised.append(([], results))
        return self.promised[-1][0]

    def commit(self):
        super().commit()
        self.threads.add(threading.current_thread())
        for told, results in self.promised:
            told.extend(results)
        self.promised.clear()


async def test_a_store_that_blocks_is_waited_for_in_the_worker_alone(nursery):
    store = RemoteStore(OPTIONS)
    store.open()
    desk = desk_of(store, ThreadWorker("store"))
    await nursery.start(desk.actor.run)
    answers, are_all = [], trio.Event()

    def done(answer):
        answers.append(answer)
        if len(answers) == 3:
            are_all.set()

    desk.actor.append([AppendRequest(ChannelName("demo:a"), b"1", 0)], done)
    desk.actor.commit([MutationCommit("c", 1, [], [], b"", 0)], done)
    desk.actor.append([AppendRequest(ChannelName("demo:a"), b"2", 0)] * 2, done)
    with trio.fail_after(30):
        await are_all.wait()
    assert [[getattr(result, "offset", None) for result in answer] for answer in answers] == [
        [1],
        [None],
        [2, 3],
    ]
    assert threading.main_thread() not in store.threads
    assert len(store.threads) == 1
