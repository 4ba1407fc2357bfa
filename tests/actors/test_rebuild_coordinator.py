"""The rebuild-coordinator in virtual time: lease and heartbeat, failures and their backoff, what is told when, the schedule."""

import itertools

import pytest
import trio

from syncd.actors.rebuild_coordinator.actor import LEFT
from syncd.actors.rebuild_coordinator.reading import MAX_ATTEMPTS, MAX_RETRY_S, RETRY_S, _by_key
from syncd.actors.rebuild_coordinator.rows import BadRow
from syncd.actors.rebuild_coordinator.running import LEASE_S, LOST, RENEW_S
from syncd.actors.rebuild_coordinator.telling import TELL_S
from syncd.model.rebuild_plan import MAX_RUNNING
from tests.actors.rebuild_world import ToldNews, World, ended, start


def rows(count):
    return {f"k{number:04}": number for number in range(count)}


async def test_a_job_keeps_its_lease_for_as_long_as_it_takes(autojump_clock):
    world = World()
    world.source.rows, world.source.pause_s = rows(50), 1.0
    async with world.node() as one, world.node(ToldNews()) as other:
        first = start(one)
        await trio.sleep(LEASE_S * 2)
        second = start(other)
        await trio.sleep(1.5)
        waiting = other.job(second)
        assert first in waiting["message"]
        assert (await ended(one, first))["state"] == "done"
        assert (await ended(other, second))["changed"] == 0
    assert world.source.most_at_once == 1


async def test_a_node_that_stood_still_for_too_long_has_lost_the_lease_and_writes_nothing(
    autojump_clock,
):
    world = World()
    world.source.rows, world.source.pause_s = rows(40), 1.0
    async with world.node() as one:
        first = start(one)
        await trio.sleep(15.5)
        world.is_store_away = True
        await trio.sleep(LEASE_S + RENEW_S)
        taken = world.store.rebuilds.acquire(
            "orders", "thief", world.wall_ms(), lease_ms=10**6, resumes=False, fills=False
        )
        assert not isinstance(taken, str)
        world.come_back()
        lost = await ended(one, first)
        assert (lost["state"], lost["error"]) == ("failed", LOST)
        assert world.values() == {}
        assert world.store.rebuilds.renew(taken, world.wall_ms(), 1000)


async def test_after_a_crash_the_lease_expires_and_resume_goes_on_from_the_last_page(
    autojump_clock,
):
    world = World()
    world.source.rows, world.source.pause_s = rows(100), 0.1
    async with world.node() as one:
        first = start(one)
        await trio.sleep(5.05)
    async with world.node() as again:
        jobs = again.jobs()
        assert [(job["job"], job["state"], job["error"]) for job in jobs] == [
            (first, "failed", LEFT)
        ]
        crashed_at = trio.current_time()
        done = await ended(again, start(again, mode="resume"))
        assert (done["state"], done["resumed_at"], done["done"]) == ("done", 50, 100)
        assert trio.current_time() - crashed_at <= LEASE_S + 5 + 2
    assert world.source.num_scanned <= 150
    assert len(world.values()) == 100


async def test_a_scanner_that_would_end_the_program_is_called_again(autojump_clock):
    world = World()
    world.source.rows, world.source.failures = rows(30), {5: [SystemExit(1)]}
    async with world.node() as one:
        done = await ended(one, start(one))
        assert (done["state"], done["done"]) == ("done", 30)


def test_a_loader_that_answers_by_numbers_deletes_nothing():
    with pytest.raises(BadRow, match="texts"):
        _by_key(["17"], {17: "a value"})


async def test_a_crash_of_the_coordinator_alone_fails_its_jobs_and_it_goes_on(autojump_clock):
    world = World()
    world.source.rows, world.source.pause_s = rows(30), 1.0
    coordinator = world.coordinator()
    async with trio.open_nursery() as nursery:
        await nursery.start(coordinator.run)
        first = start(coordinator)
        await trio.sleep(12)
        nursery.cancel_scope.cancel("crash")
    coordinator.recover()
    assert coordinator.job(first)["state"] == "failed"
    async with trio.open_nursery() as nursery:
        await nursery.start(coordinator.run)
        second = start(coordinator, mode="resume")
        assert (await ended(coordinator, second))["resumed_at"] == 10
        nursery.cancel_scope.cancel("done")


async def test_a_source_that_fails_is_asked_again_later_and_later_from_the_last_page(
    autojump_clock,
):
    world = World()
    world.source.rows = rows(30)
    world.source.failures = {25: [OSError() for _ in range(MAX_ATTEMPTS - 1)]}
    async with world.node() as one:
        job = start(one)
        await trio.sleep(RETRY_S / 2)
        assert "OSError" in one.job(job)["message"]
        done = await ended(one, job)
    assert (done["state"], done["message"], len(world.values())) == ("done", None, 30)
    times, places = zip(*world.source.calls, strict=True)
    waits = [late - early for early, late in itertools.pairwise(times)]
    expected = [min(RETRY_S * 2**n, MAX_RETRY_S) for n in range(MAX_ATTEMPTS - 1)]
    assert waits == pytest.approx(expected)
    assert places == (None, *["k0019"] * (MAX_ATTEMPTS - 1))


async def test_a_source_that_fails_for_good_fails_the_job_and_keeps_its_pages_and_the_old_entries(
    autojump_clock,
):
    world = World()
    world.source.rows = rows(30)
    world.source.failures = {25: [OSError("secret") for _ in range(MAX_ATTEMPTS)]}
    async with world.node() as one:
        failed = await ended(one, start(one))
        assert failed["state"] == "failed"
        assert failed["error"] == f"The source failed {MAX_ATTEMPTS} times in a row (OSError)."
        assert world.values() == {}
        resumed = await ended(one, start(one, mode="resume"))
        assert (resumed["state"], resumed["resumed_at"]) == ("done", 20)


async def test_progress_is_told_within_200_ms_and_at_most_ten_times_a_second(autojump_clock):
    world = World(page=1)
    world.source.rows, world.source.pause_s = rows(500), 0.004
    async with world.node() as one:
        job = start(one)
        asked_at = trio.current_time()
        await trio.sleep(0.2)
        assert world.news.of("orders")
        assert world.news.of("orders")[-1][1]["state"] == "running"
        await ended(one, job)
        await trio.sleep(TELL_S * 2)
    told = world.news.of("orders")
    times = [at for at, _ in told]
    assert times[0] - asked_at <= 0.2
    assert min(b - a for a, b in itertools.pairwise(times)) >= TELL_S * 0.999
    assert [data["seq"] for _, data in told] == list(range(1, len(told) + 1))
    assert (told[-1][1]["state"], told[-1][1]["done"]) == ("done", 500)
    assert world.news.jobs[job]["state"] == "done"


async def test_the_end_of_a_job_is_told_although_there_was_no_room_and_another_began(
    autojump_clock,
):
    world = World()
    world.source.rows = rows(5)
    async with world.node() as one:
        world.news.is_full = True
        first = await ended(one, start(one))
        second = await ended(one, start(one))
        world.news.is_full = False
        await trio.sleep(1)
    ends = [data["job"] for _, data in world.news.of("orders") if data["state"] == "done"]
    assert ends == [first["job"], second["job"]]
    assert set(world.news.jobs) == set(ends)


async def test_so_many_jobs_run_at_once_and_the_others_in_the_order_they_were_asked(autojump_clock):
    names = ("a", "b", "c", "d")
    world = World(*names)
    for source in world.sources.values():
        source.rows, source.pause_s = rows(10), 1.0
    async with world.node() as one:
        jobs = [start(one, name) for name in names]
        await trio.sleep(5)
        states = [one.job(job)["state"] for job in jobs]
        assert states == ["running"] * MAX_RUNNING + ["queued"] * (4 - MAX_RUNNING)
        for job in jobs:
            await ended(one, job)
        began = [world.sources[name].calls[0][0] for name in names]
        assert began == sorted(began)


async def test_a_queued_job_is_cancelled_at_once_and_a_running_one_drops_its_generation(
    autojump_clock,
):
    world = World("a", "b", "c")
    for source in world.sources.values():
        source.rows, source.pause_s = rows(20), 1.0
    async with world.node() as one:
        jobs = [start(one, name) for name in "abc"]
        await trio.sleep(12)
        for job in (jobs[0], jobs[2]):
            one.cancel(job, who="user:bob")
        assert one.job(jobs[2])["state"] == "cancelled"
        assert (await ended(one, jobs[0]))["state"] == "cancelled"
        assert world.store.rebuilds.checkpoint("a") is None
        await ended(one, jobs[1])
    assert world.sources["c"].calls == []
    cancelled = [(entry.who, entry.what) for entry in world.audit if "cancel" in entry.what]
    assert cancelled == [("user:bob", "rebuild_cancel")] * 2


# ------------------------------------------------------------------------------------------------ the schedule


async def test_of_all_nodes_one_runs_what_is_scheduled_and_missed_times_are_one_run(autojump_clock):
    world = World(every=3600)
    world.source.rows = rows(10)
    async with world.node() as one, world.node(ToldNews()) as other:
        await trio.sleep(3600 * 3 + 60)
        done = [job for node in (one, other) for job in node.jobs()]
        assert len(world.source.calls) == 4  # once at the start, then at three full hours
        assert {(job["who"], job["state"]) for job in done} == {("schedule", "done")}
        assert len({job["job"] for job in done}) == len(done) == 4
    await trio.sleep(3600 * 5)
    async with world.node() as again:
        await trio.sleep(60)
        assert len(world.source.calls) == 5
        await trio.sleep(3600)
        assert len(world.source.calls) == 6
        assert len(again.jobs()) >= 2


async def test_a_scheduled_job_that_was_cut_off_goes_on_after_the_restart(autojump_clock):
    world = World(every=86_400)
    world.source.rows, world.source.pause_s = rows(100), 1.0
    async with world.node():
        await trio.sleep(50.5)
    async with world.node() as again:
        await trio.sleep(120)
        job = again.jobs()[-1]
        assert (job["state"], job["resumed_at"], job["done"]) == ("done", 50, 100)
    assert world.source.num_scanned <= 155


async def test_nothing_is_scheduled_while_a_job_of_the_collection_is_under_way(autojump_clock):
    world = World(every=60)
    world.source.rows, world.source.pause_s = rows(200), 1.0
    async with world.node() as one:
        await trio.sleep(190)
        assert len(one.jobs()) == 1
        await trio.sleep(100)
        assert [job["state"] for job in one.jobs()] == ["done", "running"]
