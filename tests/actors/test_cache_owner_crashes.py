"""HEALED: whatever the cache-owner was at when it crashed, each asker is told once, and what was committed counts."""

import pytest
import structlog
import trio

from syncd.app import App
from syncd.ports_collections import (
    AddClients,
    InvalidateEntries,
    MutateState,
    ReadEntries,
    WarmCache,
)
from tests.actors.cache_world import ANN, Asker, new_store, running
from tests.actors.test_cache_owner_watches import Session, prelude, watch


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def shop(told=None, **options):
    app = App()
    items = app.collection("items", **options)

    @items.mutator
    def put(tx, key: str, value: str):
        tx.put(key, value)

    @items.mutator
    def touch(tx, key: str):
        tx.put(key, (tx.get(key) or "") + "!")

    if told is not None:

        @app.on_commit("items")
        async def forward(change):
            await trio.sleep(1)
            told.append((change.key, change.value))

    return app


def put(asker, mid, key="a", value="x"):
    return MutateState(asker, "c1", mid, "items.put", [key, value], ANN)


async def test_a_group_on_its_way_is_told_by_the_store_and_by_nobody_else(autojump_clock):
    async with running(shop()) as world:
        asker = Asker()
        world.gate.close()
        world.owner.submit_nowait([put(asker, 1), put(asker, 2), put(asker, 1)], 0)
        await world.quiet()
        world.owner.submit_nowait([put(asker, 3)], 0)
        await world.quiet()
        await world.crash()
        assert asker.told == [("error", 3, "internal_error")]
        world.gate.open()
        await trio.sleep(1)
        assert asker.told[1:] == [("outcome", 1, "ok"), ("outcome", 2, "ok"), ("outcome", 1, "ok")]
        assert len(world.listener.events) == 2


async def test_what_a_group_on_its_way_changed_is_read_after_it(autojump_clock):
    async with running(shop()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "items.put", ["a", "old"])
        world.gate.close()
        await world.mutate(asker, 2, "items.put", ["a", "new"])
        await world.crash()
        assert await world.read("items", "a") == {"a": "old"}
        world.gate.open()
        await trio.sleep(1)
        assert asker.told[-1] == ("outcome", 2, "ok")
        assert await world.read("items", "a") == {"a": "new"}
        assert world.owner.holdings.heads.get("items").offset == 2


async def test_a_conflict_in_a_group_of_before_a_crash_is_refused_once(autojump_clock):
    async with running(shop()) as world:
        one, other = Asker(), Asker()
        await world.mutate(one, 1, "items.put", ["a", "x"])
        world.gate.close()
        touch = MutateState(other, "c2", 1, "items.touch", ["a"], ANN)
        late = MutateState(other, "c2", 9, "items.touch", ["b"], ANN)
        world.owner.submit_nowait([put(one, 1), touch, late], 0)
        await world.quiet()
        await world.crash()
        world.gate.open()
        await trio.sleep(1)
        assert one.told == [("outcome", 1, "ok")] * 2
        assert sorted(other.told) == [("error", mid, "internal_error") for mid in (1, 9)]
        await world.mutate(other, 1, "items.touch", ["a"], client="c2")
        assert other.told[-1] == ("outcome", 1, "ok")


async def test_a_group_that_the_store_could_not_write_is_refused_once(autojump_clock):
    async with running(shop()) as world:
        asker = Asker()
        world.gate.close()
        await world.mutate(asker, 1, "items.put", ["a", "x"])
        await world.crash()
        world.file.is_away = True
        world.gate.open()
        await trio.sleep(0.1)
        assert asker.told == [("error", 1, "store_unavailable")]


async def test_everybody_who_waits_for_anything_is_told_once(autojump_clock):
    app = shop(partitioned=True)
    slow = app.collection("slow", ttl=60)

    @slow.loader
    async def load(key):
        await trio.sleep(5)
        return key

    async with running(app) as world:
        answers = {}

        def done(name):
            answers[name] = []
            return answers[name].append

        session, asker, behind = Session(), Asker(), Asker()
        world.gate.close()
        commands = [
            MutateState(asker, "c1", 1, "items.put", ["p/a", "x"], ANN),
            ReadEntries("slow", "slow", ["k"], done("read")),
            InvalidateEntries("slow", done("invalidate"), ["k"]),
            InvalidateEntries("items", done("invalidate tag"), tags=["t"]),
            InvalidateEntries("items", done("invalidate all")),
            WarmCache("slow", ["k", "l"], done("warm")),
            WarmCache(None, None, done("warm hottest")),
            AddClients(["c1"], done("greet")),
        ]
        world.owner.submit_nowait(commands, 0)
        await world.quiet()
        left = [
            MutateState(behind, "c2", 1, "items.put", ["p/a", "x"], ANN),
            AddClients(["c2"], done("greet in hand")),
            ReadEntries("slow", "slow", ["m"], done("read in hand")),
            WarmCache("slow", ["k"], done("warm in hand")),
            InvalidateEntries("slow", done("invalidate in hand"), ["k"]),
        ]
        await world.crash(left)
        world.gate.open()
        await trio.sleep(20)
        assert {name: len(told) for name, told in answers.items()} == dict.fromkeys(answers, 1)
        assert asker.told == [("outcome", 1, "ok")]
        assert behind.told == [("error", 1, "internal_error")]
        assert session.sent == []


async def test_a_watch_in_hand_is_begun_anew_and_joined_once(autojump_clock):
    async with running(shop()) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", "x"])
        session = Session()
        submit = world.listener.submit
        has_failed = []

        async def fail_once(joins, size_bytes):
            if not has_failed:
                has_failed.append(len(joins))
                raise RuntimeError
            await submit(joins, size_bytes)

        world.listener.submit = fail_once
        watch(world, session, keys=["a"])
        await trio.sleep(5)
        assert has_failed == [1]
        (join,) = world.listener.joins
        assert prelude(join)["entries"][0]["value"] == "x"
        assert session.sent == []


async def test_a_volatile_channel_is_renewed_and_takes_no_event_of_before(autojump_clock):
    async with running(shop(volatile=True)) as world:
        asker = Asker()
        await world.mutate(asker, 1, "items.put", ["a", "x"])
        old_epoch = world.listener.events[0].epoch
        world.gate.close()
        await world.mutate(asker, 2, "items.put", ["a", "y"])
        await world.crash()
        assert world.listener.renewed == ["items"]
        world.gate.open()
        await trio.sleep(1)
        assert len(world.listener.events) == 1
        assert asker.told[-1] == ("outcome", 2, "ok")
        await world.mutate(asker, 3, "items.put", ["a", "z"])
        assert world.listener.events[-1].epoch != old_epoch
        assert world.listener.events[-1].offset == 1


async def test_changes_not_acknowledged_are_told_again_after_a_crash(autojump_clock):
    told = []
    async with running(shop(told)) as world:
        asker = Asker()
        await world.mutate(asker, 1, "items.put", ["a", "x"])
        world.gate.close()
        await world.mutate(asker, 2, "items.put", ["b", "y"])
        await world.crash()
        assert world.counts("items")["dirty"] == 1
        world.gate.open()
        await trio.sleep(10)
        assert set(told) == {("a", "x"), ("b", "y")}
        assert world.counts("items")["dirty"] == 0


async def test_an_exception_over_an_answer_of_the_store_restarts_the_actor(autojump_clock):
    async with running(shop()) as world:
        asker = Asker()
        finish = world.owner.mutating._committed
        faults = [RuntimeError()]

        def fail_once(*args):
            if faults:
                raise faults.pop()
            return finish(*args)

        world.owner.mutating._committed = fail_once
        await world.mutate(asker, 1, "items.put", ["a", "x"])
        await trio.sleep(1)
        assert world.health.num_restarts == 1
        assert asker.told == [("outcome", 1, "ok")]
        assert await world.read("items", "a") == {"a": "x"}


async def test_a_stop_in_the_middle_tells_everybody(autojump_clock):
    answers, asker = [], Asker()
    app = App()
    slow = app.collection("slow", ttl=60)

    @slow.loader
    async def load(key):
        await trio.sleep(50)

    async with running(app, new_store()) as world:
        world.owner.submit_nowait([ReadEntries("slow", "slow", ["k"], answers.append)], 0)
        await world.mutate(asker, 1, "nothing")
        await trio.sleep(1)
    assert [error.code.value for error in answers] == ["shutting_down"]
    assert asker.told == [("outcome", 1, "unknown_mutator")]
