"""Rebuilds of nodes that share a store, in virtual time: a dead node's job goes on elsewhere, once, and nothing of the old holder counts any more."""

import contextlib

import pytest
import trio

from syncd.actors.rebuild_coordinator.others import GIVEN_UP, LOOK_S, MAX_TAKEN
from syncd.actors.rebuild_coordinator.running import LEASE_S, RENEW_S
from syncd.actors.rebuild_coordinator.telling import Telling
from syncd.errors import RebuildRunning
from syncd.model.rebuild_plan import Job, Wish
from tests.actors.rebuild_world import ToldNews, World, ended, linked_node, start

FOUND_S = LEASE_S + LOOK_S * 1.25
"""At the latest a job is found abandoned this long after its node's death."""


def rows(count):
    return {f"k{number:04}": number for number in range(count)}


def shared_world(*names, num_rows=100, pause_s=1.0, **options):
    world = World(*names, is_shared=True, **options)
    for source in world.sources.values():
        source.rows, source.pause_s = rows(num_rows), pause_s
    return world


@contextlib.asynccontextmanager
async def nodes(world, count):
    """Several that live on."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(linked_node(world)) for _ in range(count)]


async def seen(coordinator, job, **wanted):
    """Wait until a node tells so of a job, and return what it tells."""
    with trio.fail_after(300):
        while True:
            found = [each for each in coordinator.jobs() if each["job"] == job]
            if found and wanted.items() <= found[0].items():
                return found[0]
            await trio.sleep(0.05)


def told(world, job):
    return [data for _, data in world.news.of("orders") if data["job"] == job]


async def test_a_dead_nodes_job_goes_on_from_its_checkpoint_on_one_of_the_others(autojump_clock):
    world = shared_world(pause_s=0.5)
    async with nodes(world, 3) as others:
        async with linked_node(world) as (dying, _):
            job = start(dying)
            await trio.sleep(25.2)
        died_at = trio.current_time()
        scanned = world.source.num_scanned
        await seen(others[0][0], job, state="running", resumed_at=50)
        taken_s = trio.current_time() - died_at
        assert taken_s <= FOUND_S <= 15
        for coordinator, _ in others:
            done = await seen(coordinator, job, state="done")
            assert (done["done"], done["resumed_at"], done["changed"]) == (100, 50, 100)
            assert done["who"] == "user:ann"
        statistics = [coordinator.statistics() for coordinator, _ in others]
        assert sorted(each.num_taken_over for each in statistics) == [0, 0, 1]
        assert world.source.num_scanned == scanned + 50
        assert world.source.most_at_once == 1
    assert [entry.what for entry in world.audit] == [
        "rebuild_start",
        "rebuild_taken_over",
        "rebuild_end",
    ]
    seqs = [data["seq"] for data in told(world, job)]
    assert seqs == sorted(set(seqs))
    assert told(world, job)[-1]["state"] == world.news.jobs[job]["state"] == "done"


async def test_a_holder_that_stood_still_is_fenced_tells_nothing_and_learns_the_end(
    autojump_clock,
):
    world = shared_world()
    async with nodes(world, 2) as ((holder, link), (other, _)):
        job = start(holder)
        await trio.sleep(40.5)
        link.is_cut = True
        await seen(other, job, state="running", resumed_at=40)
        await trio.sleep(5)
        num_told = len(told(world, job))
        link.come_back()
        await trio.sleep(RENEW_S + 1)
        assert all(data["resumed_at"] == 40 for data in told(world, job)[num_told:])
        for coordinator in (holder, other):
            done = await seen(coordinator, job, state="done")
            assert done["changed"] == 100
    ends = [entry.outcome for entry in world.audit if entry.what == "rebuild_end"]
    assert ends == ["done"]
    assert len(world.values()) == 100


async def test_a_job_that_may_be_another_nodes_is_not_told_until_its_lease_is_renewed(
    autojump_clock,
):
    news, job = ToldNews(), Job("j", "orders", Wish(), 0, "user:ann")
    telling = Telling(news, lambda job: {"job": job.id, "seq": job.seq})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(telling.run)
        job.vouched_until = trio.current_time() + 1
        telling.note(job, keeps=True)
        await trio.sleep(1.5)
        assert (len(news.told), news.jobs["j"]["seq"]) == (1, 0)
        telling.note(job, keeps=True)
        await trio.sleep(5)
        assert (len(news.told), news.jobs["j"]["seq"]) == (1, 0)
        job.vouched_until = trio.current_time() + 1
        await trio.sleep(0.5)
        assert (len(news.told), news.jobs["j"]["seq"]) == (2, 1)
        nursery.cancel_scope.cancel("done")


@pytest.mark.parametrize("how", ["cancelled", "failed", "done"])
async def test_a_job_that_has_ended_is_not_taken_over(autojump_clock, how):
    world = shared_world(num_rows=30, pause_s=0.1)
    if how == "failed":
        world.source.failures = {25: [OSError() for _ in range(9)]}
    async with nodes(world, 1) as ((other, _),):
        async with linked_node(world) as (dying, _):
            job = start(dying)
            await trio.sleep(1.5)
            if how == "cancelled":
                dying.cancel(job, who="user:bob")
            assert (await ended(dying, job))["state"] == how
            await trio.sleep(0.5)
        num_calls = len(world.source.calls)
        await trio.sleep(60)
        assert len(world.source.calls) == num_calls
        assert (await seen(other, job))["state"] == how
        assert other.statistics().num_taken_over == 0


async def test_an_end_that_was_told_counts_although_the_lease_was_not_given_back(autojump_clock):
    """As after a crash of the coordinator alone."""
    world = shared_world()
    coordinator = world.coordinator()
    async with trio.open_nursery() as nursery:
        await nursery.start(coordinator.run)
        job = start(coordinator)
        await trio.sleep(25)
        nursery.cancel_scope.cancel("crash")
    coordinator.recover()
    async with nodes(world, 1) as ((other, _),), trio.open_nursery() as nursery:
        await nursery.start(coordinator.run)
        await trio.sleep(FOUND_S * 2)
        for each in (coordinator, other):
            assert (await seen(each, job))["state"] == "failed"
        assert len(world.source.calls) == 1
        resumed = await ended(other, start(other, mode="resume"))
        assert (resumed["state"], resumed["resumed_at"]) == ("done", 20)
        nursery.cancel_scope.cancel("done")


async def test_a_job_is_told_joined_refused_and_cancelled_on_every_node(autojump_clock):
    world = shared_world()
    async with nodes(world, 2) as ((holder, _), (other, _)):
        job = start(holder)
        await trio.sleep(LOOK_S * 1.25 + 20)
        known = other.job(job)
        assert known["state"] == "running"
        assert known["done"] >= 10
        assert start(other, joins=True) == job
        with pytest.raises(RebuildRunning):
            start(other)
        other.cancel(job, who="user:bob")
        for coordinator in (other, holder):
            assert (await seen(coordinator, job, state="cancelled"))["changed"] is None
        assert [entry["state"] for entry in world.news.jobs.values()] == ["cancelled"]
        await trio.sleep(FOUND_S * 2)
        assert len(world.source.calls) == 1
        assert (await ended(other, start(other)))["state"] == "done"


async def test_what_was_wished_for_is_what_the_other_node_does(autojump_clock):
    world = shared_world(num_rows=40, pause_s=0.0)
    async with nodes(world, 1) as ((other, _),):
        await ended(other, start(other))
        del world.source.rows["k0000"]
        async with linked_node(world) as (dying, _):
            job = start(dying, keeps_missing=True, max_rows_per_s=1)
            await trio.sleep(12)
        done = await seen(other, job, state="done")
        assert (done["changed"], done["resumed_at"]) == (0, 20)
        assert "k0000" in world.values()
        assert trio.current_time() - world.source.calls[-1][0] >= 10
        async with linked_node(world) as (dying, _):
            job = start(dying, max_rows_per_s=1, deadline_ms=20_000)
            await trio.sleep(12)
        died_at = trio.current_time()
        failed = await seen(other, job, state="failed")
        assert failed["error"] == "It has not ended within 20 s."
        assert trio.current_time() - died_at <= FOUND_S


async def test_keys_that_a_dead_node_was_asked_for_are_read_anew(autojump_clock):
    world = shared_world(num_rows=40, pause_s=0.0)
    async with nodes(world, 1) as ((other, _),):
        await ended(other, start(other))
        world.source.rows["k0035"] = "new"
        world.source.pause_s = 1.0
        async with linked_node(world) as (dying, _):
            job = start(dying, mode="keys", keys=["k0001", "k0035"])
            await trio.sleep(15)
        done = await seen(other, job, state="done")
        assert (done["mode"], done["resumed_at"], done["done"]) == ("keys", 0, 40)
        assert done["changed"] == 1


async def test_a_job_whose_store_is_away_goes_on_when_it_is_back_on_whichever_node(autojump_clock):
    world = shared_world()
    async with nodes(world, 2) as pair:
        (holder, link), (other, other_link) = pair
        job = start(holder)
        await trio.sleep(25.5)
        link.is_cut = other_link.is_cut = True
        await trio.sleep(LEASE_S * 2)
        link.come_back()
        other_link.come_back()
        for coordinator in (holder, other):
            done = await seen(coordinator, job, state="done")
            assert done["changed"] == 100


async def test_a_job_that_kills_every_node_is_given_up(autojump_clock):
    world = shared_world(num_rows=200)
    async with linked_node(world) as (first, _):
        job = start(first)
        await trio.sleep(5)
    for _ in range(MAX_TAKEN):
        async with linked_node(world) as (dying, _):
            await trio.sleep(FOUND_S)
            assert dying.statistics().num_taken_over == 1
    async with linked_node(world) as (last, _):
        failed = await seen(last, job, state="failed")
        assert failed["error"] == GIVEN_UP
        assert len(world.source.calls) == MAX_TAKEN + 1
        assert (await ended(last, start(last, mode="resume")))["state"] == "done"


async def test_the_node_that_starts_again_takes_over_what_it_left(autojump_clock):
    """On a store that is shared nobody can tell it from another node."""
    world = shared_world(pause_s=0.5)
    async with linked_node(world) as (dying, _):
        job = start(dying)
        await trio.sleep(25.2)
    async with linked_node(world) as (again, _):
        done = await seen(again, job, state="done")
        assert done["resumed_at"] == 50
