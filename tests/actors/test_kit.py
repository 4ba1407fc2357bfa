"""Mailboxes, replies and supervision, on a clock of our own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator

import hypothesis.strategies as st
import pytest
import structlog
import trio
import trio.testing
from hypothesis import given, settings

from syncd.actors import kit
from syncd.actors.kit import ActorHealth, Health, Mailbox, NodeFailed, Reply, supervise
from syncd.codes import ErrorCode
from syncd.errors import ActorStopped, MailboxFull, SyncdError, internal_error

# ------------------------------------------------------------------------------------------------ mailbox


def _mailbox(capacity: int = 3, capacity_bytes: int = 100) -> Mailbox[int]:
    return Mailbox("tester", capacity, capacity_bytes)


async def test_everything_that_waits_is_taken_at_once_oldest_first() -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([1])
    await mailbox.put([2, 3])
    mailbox.put_reply(4)
    assert await mailbox.take() == [1, 2, 3, 4]
    assert mailbox.statistics() == kit.MailboxStatistics(0, 0, 4, 0)


@pytest.mark.parametrize(("batch", "size_bytes"), [([2, 3, 4], 0), ([2], 91)])
async def test_a_full_mailbox_refuses_all_of_a_batch(batch: list[int], size_bytes: int) -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([1], 10)
    with pytest.raises(MailboxFull) as refused:
        mailbox.put_nowait(batch, size_bytes)
    assert refused.value.retryable
    assert mailbox.statistics().num_refused == len(batch)
    assert await mailbox.take() == [1]


async def test_a_mailbox_may_be_filled_to_the_last_message_and_byte() -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([1], 50)
    mailbox.put_nowait([2, 3], 50)
    with pytest.raises(MailboxFull):
        mailbox.put_nowait([4])
    assert mailbox.statistics().bytes_waiting == 100


async def test_an_empty_mailbox_takes_a_batch_of_any_size() -> None:
    mailbox = _mailbox()
    mailbox.put_nowait(list(range(50)), 10_000)
    assert await mailbox.take() == list(range(50))
    await mailbox.put(list(range(50)), 10_000)
    assert await mailbox.take() == list(range(50))


async def test_put_waits_for_room_and_whoever_waits_comes_first(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([0])
    for batch in ([1, 1, 1], [2], [3, 3]):
        nursery.start_soon(mailbox.put, batch)
        await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(MailboxFull):
        mailbox.put_nowait([9])
    assert await mailbox.take() == [0]
    assert await mailbox.take() == [1, 1, 1]
    assert await mailbox.take() == [2, 3, 3]


async def test_a_large_batch_is_not_starved_by_small_ones(nursery: trio.Nursery) -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([0])
    nursery.start_soon(mailbox.put, [7] * 10)
    await trio.testing.wait_all_tasks_blocked()
    assert await mailbox.take() == [0]
    with contextlib.suppress(MailboxFull):
        mailbox.put_nowait([1])
    assert await mailbox.take() == [7] * 10


async def test_a_cancelled_put_added_nothing_and_lets_others_in() -> None:
    mailbox = _mailbox()
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.put([1])
    assert mailbox.statistics().num_waiting == 0

    mailbox.put_nowait([2])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.put, [3] * 5)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    mailbox.put_nowait([4])
    assert await mailbox.take() == [2, 4]


async def test_a_put_that_was_let_in_is_not_cancelled_afterwards() -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([1])
    outcomes = []

    async def put() -> None:
        await mailbox.put([2] * 5)
        outcomes.append("added")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.testing.wait_all_tasks_blocked()
        await mailbox.take()
        nursery.cancel_scope.cancel()
    assert outcomes == ["added"]
    assert await mailbox.take() == [2] * 5


async def test_put_is_a_checkpoint() -> None:
    mailbox = _mailbox()
    with trio.testing.assert_checkpoints():
        await mailbox.put([1])


async def test_a_cancelled_take_takes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    mailbox = _mailbox()
    with trio.move_on_after(1):
        await mailbox.take()
    mailbox.put_nowait([1])
    assert await mailbox.take() == [1]


async def test_a_take_woken_and_cancelled_at_once_loses_nothing() -> None:
    mailbox = _mailbox()
    taken: list[int] = []

    async def take() -> None:
        taken.extend(await mailbox.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.put_nowait([1])
        nursery.cancel_scope.cancel()
    left = mailbox.close()
    assert taken + left == [1]


async def test_closing_returns_what_was_never_taken_and_ends_all_waits() -> None:
    mailbox = _mailbox()
    mailbox.put_nowait([1], 5)
    stopped = []

    async def put() -> None:
        with pytest.raises(ActorStopped):
            await mailbox.put([2] * 5)
        stopped.append("put")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.close() == [1]
    assert stopped == ["put"]
    assert mailbox.close() == []
    assert mailbox.statistics().bytes_waiting == 0


async def test_a_closed_mailbox_refuses_everything() -> None:
    mailbox = _mailbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, ActorStopped, mailbox.take)
        await trio.testing.wait_all_tasks_blocked()
        mailbox.close()
    with pytest.raises(ActorStopped):
        mailbox.put_nowait([1])
    await _expect(ActorStopped, mailbox.take)
    with pytest.raises(ActorStopped):
        await mailbox.put([1])
    mailbox.put_reply(1)
    assert mailbox.statistics().num_waiting == 0


async def _expect(error: type[Exception], call: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises(error):
        await call()


@given(
    batches=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 60)), max_size=12),
    cancelled=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60, deadline=None)
def test_every_message_put_is_taken_once_in_order_and_within_bounds(
    batches: list[tuple[int, int]], cancelled: set[int]
) -> None:
    mailbox = _mailbox()
    numbers = itertools.count()
    added: list[list[int]] = []
    taken: list[int] = []

    async def put(index: int, size: tuple[int, int], scope: trio.CancelScope) -> None:
        batch = [next(numbers) for _ in range(size[0])]
        with scope:
            await mailbox.put(batch, size[1])
        if not scope.cancelled_caught:
            added.append(batch)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            scopes = [trio.CancelScope() for _ in batches]
            for index, size in enumerate(batches):
                nursery.start_soon(put, index, size, scopes[index])
                await trio.testing.wait_all_tasks_blocked()
            for index in cancelled & set(range(len(scopes))):
                scopes[index].cancel()
            await trio.testing.wait_all_tasks_blocked()
            while mailbox.statistics().num_waiting:
                batch = await mailbox.take()
                assert len(batch) <= max(3, *(size for size, _ in batches))
                taken.extend(batch)
            await trio.testing.wait_all_tasks_blocked()
            assert not nursery.child_tasks

    trio.run(main)
    assert taken == sorted(number for batch in added for number in batch)


# ------------------------------------------------------------------------------------------------ replies


async def test_a_reply_settles_once_and_for_all_who_wait() -> None:
    reply: Reply[int] = Reply()
    answers = []

    async def ask() -> None:
        answers.append(await reply.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        reply.resolve(1)
        reply.resolve(2)
        reply.reject(internal_error())
    assert [*answers, await reply.wait()] == [1, 1, 1]


async def test_a_rejected_reply_raises_its_error_and_stays_rejected() -> None:
    reply: Reply[int] = Reply()
    reply.reject(internal_error())
    reply.resolve(1)
    for _ in range(2):
        with pytest.raises(SyncdError) as raised:
            await reply.wait()
        assert raised.value.code is ErrorCode.INTERNAL_ERROR


async def test_a_reply_nobody_waits_for_any_more_can_still_settle() -> None:
    reply: Reply[None] = Reply()
    with trio.CancelScope() as scope:
        scope.cancel()
        await reply.wait()
    reply.resolve(None)
    assert await reply.wait() is None


# ------------------------------------------------------------------------------------------------ supervision


class Oops(Exception):
    """What our actors die of."""


class Actor:
    """Runs the given lives one after the other; the last one is lived for ever."""

    name = "tester"

    def __init__(self, *lives: Callable[[trio.TaskStatus[None]], Awaitable[None]]) -> None:
        self.lives = list(lives)
        self.mailbox = _mailbox()
        self.num_recoveries = 0
        self.num_runs = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.num_runs += 1
        await (self.lives.pop(0) if len(self.lives) > 1 else self.lives[0])(task_status)

    def recover(self) -> None:
        self.num_recoveries += 1


async def serve(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def crash(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.lowlevel.checkpoint()
    raise Oops


async def crash_before_started(task_status: trio.TaskStatus[None]) -> None:
    raise Oops


async def crash_in_a_nursery(task_status: trio.TaskStatus[None]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crash, trio.TASK_STATUS_IGNORED)
        nursery.start_soon(serve, task_status)


def crash_after(delay_s: float) -> Callable[[trio.TaskStatus[None]], Awaitable[None]]:
    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(delay_s)
        raise Oops

    return run


async def crash_while_stopping(task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    try:
        await trio.sleep_forever()
    finally:
        raise Oops


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Printing tracebacks in colour would take longer than all tests together."""
    with structlog.testing.capture_logs():
        yield


async def _supervise_until_failed(actor: Actor, health: ActorHealth) -> NodeFailed:
    with pytest.raises(NodeFailed) as failed:
        await supervise(actor, health)
    return failed.value


@pytest.mark.parametrize("death", [crash, crash_before_started, crash_in_a_nursery])
async def test_an_actor_that_crashes_runs_again_and_its_mailbox_survives(
    death: Callable[[trio.TaskStatus[None]], Awaitable[None]],
    nursery: trio.Nursery,
) -> None:
    actor, health = Actor(death, serve), ActorHealth("tester")
    actor.mailbox.put_nowait([1])
    recoveries_seen = []
    with structlog.testing.capture_logs() as logs:
        await nursery.start(_supervise, actor, health, recoveries_seen)
        await trio.testing.wait_all_tasks_blocked()
    assert (health.state, health.num_restarts, health.last_error) == (Health.OK, 1, "Oops")
    assert (actor.num_runs, recoveries_seen) == (2, [1])
    assert [entry["event"] for entry in logs] == ["actor_restarted"]
    assert await actor.mailbox.take() == [1]


async def _supervise(
    actor: Actor,
    health: ActorHealth,
    recoveries_seen: list[int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Note at each restart how often the actor had recovered by then."""
    await supervise(
        actor,
        health,
        on_restart=lambda: recoveries_seen.append(actor.num_recoveries),
        task_status=task_status,
    )


@pytest.mark.parametrize("death", [crash, crash_before_started, crash_in_a_nursery])
async def test_a_crash_loop_ends_the_node(
    death: Callable[[trio.TaskStatus[None]], Awaitable[None]],
) -> None:
    actor, health = Actor(death), ActorHealth("tester")
    failed = await _supervise_until_failed(actor, health)
    assert failed.__cause__ is not None
    assert (health.state, health.num_restarts, actor.num_runs) == (Health.FAILED, 3, 4)
    assert health.last_error == "Oops"


async def test_a_failed_actor_before_the_first_start_fails_whoever_starts_it() -> None:
    health = ActorHealth("tester")
    with pytest.RaisesGroup(NodeFailed):
        async with trio.open_nursery() as nursery:
            await nursery.start(supervise, Actor(crash_before_started), health)
    assert health.state is Health.FAILED


@pytest.mark.parametrize(("delay_s", "num_runs_in_60_s"), [(10.0 / 3, 4), (3.4, 18)])
async def test_only_more_than_three_restarts_within_ten_seconds_are_too_many(
    delay_s: float, num_runs_in_60_s: int, autojump_clock: trio.testing.MockClock
) -> None:
    actor, health = Actor(crash_after(delay_s)), ActorHealth("tester")
    with trio.move_on_after(60), contextlib.suppress(NodeFailed):
        await supervise(actor, health)
    assert actor.num_runs == num_runs_in_60_s


async def test_a_cancelled_supervisor_stops_its_actor_and_says_so() -> None:
    actor, health = Actor(serve), ActorHealth("tester")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, actor, health)
        assert health.state is Health.OK
        nursery.cancel_scope.cancel()
    assert (health.state, actor.num_runs, actor.num_recoveries) == (Health.STOPPED, 1, 0)


async def test_what_an_actor_raises_while_being_cancelled_is_logged_not_raised() -> None:
    actor, health = Actor(crash_while_stopping), ActorHealth("tester")
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(supervise, actor, health)
            nursery.cancel_scope.cancel()
    assert [entry["event"] for entry in logs] == ["actor_stopped_badly"]
    assert (health.state, actor.num_runs, health.num_restarts) == (Health.STOPPED, 1, 0)


async def test_a_crash_beside_a_cancelled_child_is_logged_not_raised() -> None:
    async def run(task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash_while_stopping, trio.TASK_STATUS_IGNORED)
            nursery.start_soon(serve, task_status)

    actor, health = Actor(run), ActorHealth("tester")
    async with trio.open_nursery() as nursery:
        await nursery.start(supervise, actor, health)
        nursery.cancel_scope.cancel()
    assert (health.state, actor.num_runs) == (Health.STOPPED, 1)


async def test_what_is_no_crash_is_never_swallowed() -> None:
    async def run(task_status: trio.TaskStatus[None]) -> None:
        raise KeyboardInterrupt

    health = ActorHealth("tester")
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await supervise(Actor(run), health)
    assert health.state is Health.STOPPED


async def test_an_actor_that_returns_is_stopped_not_restarted() -> None:
    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    actor, health = Actor(run), ActorHealth("tester")
    await supervise(actor, health)
    assert (health.state, actor.num_runs) == (Health.STOPPED, 1)


async def test_a_recovery_that_fails_counts_as_a_crash(nursery: trio.Nursery) -> None:
    class Unlucky(Actor):
        def recover(self) -> None:
            super().recover()
            if self.num_recoveries == 1:
                raise Oops

    actor, health = Unlucky(crash, serve), ActorHealth("tester")
    await nursery.start(supervise, actor, health)
    await trio.testing.wait_all_tasks_blocked()
    assert (health.state, health.num_restarts) == (Health.OK, 2)
    assert (actor.num_recoveries, actor.num_runs) == (2, 2)


async def test_a_restart_hook_that_always_fails_ends_the_node() -> None:
    def explode() -> None:
        raise Oops

    actor, health = Actor(crash), ActorHealth("tester")
    with pytest.raises(NodeFailed):
        await supervise(actor, health, on_restart=explode)
    assert (health.state, actor.num_runs) == (Health.FAILED, 1)


async def test_one_actors_crash_leaves_its_siblings_alone(nursery: trio.Nursery) -> None:
    lucky, unlucky = Actor(serve), Actor(crash, crash, serve)
    healths = [ActorHealth("lucky"), ActorHealth("unlucky")]
    await nursery.start(supervise, lucky, healths[0])
    await nursery.start(supervise, unlucky, healths[1])
    await trio.testing.wait_all_tasks_blocked()
    assert [health.state for health in healths] == [Health.OK, Health.OK]
    assert (lucky.num_runs, unlucky.num_runs) == (1, 3)
