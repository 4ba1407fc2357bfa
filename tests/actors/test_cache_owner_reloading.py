"""RELOADED: what is watched and was invalidated is loaded anew until that has succeeded, whoever was away or fell meanwhile."""

import pytest
import structlog
import trio

from syncd import Tagged
from syncd.actors.cache_owner import fetching, reloading
from syncd.app import App
from syncd.ids import Position
from syncd.model import owed_loads
from syncd.ports import Subscription, Watch
from syncd.ports_collections import ResumeWatches, WatchEntries
from tests.actors.cache_world import Asker, new_store, running
from tests.actors.test_cache_owner_sources import Source, app_of
from tests.actors.test_cache_owner_watches import Session


async def read_and_watch(world):
    """Have `a` in memory, and somebody who watches it."""
    await world.read("prices", "a")
    world.listener.watching["prices", "a"] = 1


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def come_back(world, position, keys=None):
    """Watch as a client that was told everything up to a position; the broadcaster is told by the test."""
    subscription = Subscription(Session(), "prices", pending_id=1, watch=Watch(set()))
    command = WatchEntries(subscription, 1, "prices", "prices", keys, position=position)
    world.owner.submit_nowait([command], 0)
    return subscription


def position_of(world):
    """Where a client stands that has all there is."""
    return Position(world.listener.events[-1].epoch, world.listener.events[-1].offset)


def last_told(world, key):
    """The newest value of an entry that watchers were told of."""
    return [data["value"] for name, data in world.listener.data("prices") if name == key][-1]


def tagged(number):
    return Tagged(number, ["dear"])


WHAT = {"the key": {"keys": ["a"]}, "a tag": {"tags": ["dear"]}, "the collection": {}}


@pytest.fixture(params=WHAT)
def what(request):
    return WHAT[request.param]


async def invalidate(world, what):
    await world.invalidate("prices", *what.get("keys", ()), tags=what.get("tags", ()))


# ---------------------------------------------------------------------------------------------- coming back


@pytest.mark.parametrize("keys", [None, ["a"]], ids=["all", "the key"])
async def test_whoever_comes_back_over_an_invalidation_is_told_what_the_source_has(
    autojump_clock, what, keys
):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a")
        position = position_of(world)
        source.values["a"] = tagged(2)
        await invalidate(world, what)
        await trio.sleep(60)
        come_back(world, position, keys)
        await trio.sleep(3)
        assert last_told(world, "a") == 2


@pytest.mark.parametrize("keys", [None, ["a", "b"]], ids=["all", "keys"])
async def test_after_a_start_nothing_in_the_store_counts_as_fresh_for_who_comes_back(
    autojump_clock, keys
):
    source, store = Source(a=1, b=1), new_store()
    async with running(app_of(source, ttl=600), store) as world:
        await world.read("prices", "a", "b")
        position = position_of(world)
        await world.invalidate("prices", "a")  # the process dies before it has loaded anything
    source.values["a"] = 2
    async with running(app_of(source, ttl=600), store) as world:
        come_back(world, position, keys)
        await trio.sleep(3)
        assert last_told(world, "a") == 2
        assert sorted(source.calls) == ["a", "a", "b", "b"]


async def test_a_load_that_failed_for_a_reader_just_before_is_owed_to_who_begins_to_watch_all(
    autojump_clock,
):
    source = Source(a=1, b=1)
    async with running(app_of(source, ttl=600, stale=600)) as world:
        await world.read("prices", "a", "b")
        world.listener.watching["prices", "b"] = 1
        source.values["a"], source.failure = 2, OSError("away")
        await world.invalidate("prices")
        await trio.sleep(0.1)  # nobody watches `a` yet, so it is not owed
        await world.read("prices", "a")
        await trio.sleep(source.delay_s + 0.01)  # the load that the reader began has failed
        come_back(world, None)
        await trio.sleep(0.1)
        world.listener.watching["prices", "a"] = 1
        source.failure = None
        await trio.sleep(5)
        assert last_told(world, "a") == 2


async def test_those_who_come_back_at_once_after_a_start_share_one_walk(autojump_clock):
    source, store = Source(a=1, b=1), new_store()
    async with running(app_of(source, ttl=600), store) as world:
        await world.read("prices", "a", "b")
        position = position_of(world)
    async with running(app_of(source, ttl=600), store) as world:
        walks = []
        walk = world.owner.reloading._walk_store

        def count(*args):
            walks.append(args)
            walk(*args)

        world.owner.reloading._walk_store = count
        for _ in range(100):
            come_back(world, position)
        await trio.sleep(3)
        for _ in range(100):
            come_back(world, position)
        await trio.sleep(3)
        assert len(walks) == 2, "a page and the end"
        await world.invalidate("prices", "b")
        come_back(world, position)
        await trio.sleep(3)
        assert len(walks) == 2, "what was invalidated by key is known by key"


@pytest.mark.parametrize("what", [{"keys": ["a"]}, {}], ids=["the key", "the collection"])
async def test_a_key_that_the_source_did_not_have_is_looked_for_when_its_watcher_comes_back(
    autojump_clock, what
):
    source = Source(b=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a", "b")
        position = position_of(world)
        source.values["a"] = tagged(2)
        await invalidate(world, what)
        come_back(world, position, ["a"])
        await trio.sleep(3)
        assert last_told(world, "a") == 2


async def test_what_is_fresh_is_not_loaded_for_who_comes_back(autojump_clock):
    source = Source(a=1, b=1)
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a", "b")
        come_back(world, position_of(world))
        come_back(world, position_of(world), ["a", "b"])
        await trio.sleep(3)
        assert sorted(source.calls) == ["a", "b"]


# ---------------------------------------------------------------------------------------------- on the way


async def test_a_watch_that_the_broadcaster_does_not_know_yet_counts(autojump_clock, what):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a")
        come_back(world, position_of(world))
        await trio.sleep(1)
        source.values["a"] = tagged(2)
        await invalidate(world, what)
        await trio.sleep(5)
        assert source.calls == ["a"], "nobody watches, as far as is known"
        world.listener.watching["prices", "a"] = 1
        await trio.sleep(3)
        assert last_told(world, "a") == 2


async def test_a_key_that_does_not_exist_is_looked_for_once_the_broadcaster_knows_its_watch(
    autojump_clock,
):
    source = Source(b=1)
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a", "b")
        source.values["a"] = 2
        await world.invalidate("prices")
        await trio.sleep(2)
        world.listener.watching["prices", "a"] = 1
        await trio.sleep(3)
        assert last_told(world, "a") == 2


# ---------------------------------------------------------------------------------------------- failures


@pytest.mark.unmeasured
async def test_a_load_that_fails_is_repeated_until_it_succeeds_and_the_source_not_hammered(
    autojump_clock, what
):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await read_and_watch(world)
        source.values["a"] = tagged(2)
        source.failure = ConnectionError("the database is away")
        await invalidate(world, what)
        await trio.sleep(600)
        assert 15 < len(source.calls) < 40
        source.failure = None
        await trio.sleep(35)
        assert last_told(world, "a") == 2
        num_calls = len(source.calls)
        await trio.sleep(600)
        assert len(source.calls) == num_calls


async def test_nothing_is_repeated_that_nobody_watches(autojump_clock):
    source = Source(a=1)
    async with running(app_of(source, ttl=600)) as world:
        await read_and_watch(world)
        source.failure = ConnectionError("the database is away")
        await world.invalidate("prices", "a")
        await trio.sleep(10)
        del world.listener.watching["prices", "a"]
        await trio.sleep(3)
        num_calls = len(source.calls)
        await trio.sleep(600)
        assert len(source.calls) == num_calls


@pytest.mark.parametrize("at_s", [0.0, 0.5], ids=["while it is looked for", "while it is loaded"])
async def test_what_the_store_could_not_take_or_give_is_loaded_when_it_is_back(
    autojump_clock, what, at_s
):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a")
        await world.clear()
        world.listener.watching["prices", "a"] = 1
        source.values["a"] = tagged(2)
        await invalidate(world, what)
        if at_s:
            await trio.sleep(at_s)
        world.file.is_away = True
        await trio.sleep(20)
        assert last_told(world, "a") == 1
        world.file.is_away = False
        await trio.sleep(40)
        assert last_told(world, "a") == 2


async def test_an_invalidation_that_may_not_be_committed_is_loaded_all_the_same(
    autojump_clock, what
):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await read_and_watch(world)
        source.values["a"] = tagged(2)
        world.file.is_away = True
        await invalidate(world, what)
        world.file.is_away = False
        await trio.sleep(5)
        assert last_told(world, "a") == 2


async def test_a_dirty_entry_that_was_invalidated_is_loaded_once_its_source_has_heard_of_it(
    autojump_clock, what
):
    source, app = Source(a=tagged(1)), App()
    prices = app.collection("prices", ttl=600)
    can_take = trio.Event()

    @prices.loader
    async def load(key):
        return await source.one(key)

    @prices.mutator
    def change(tx, key: str, value: int):
        tx.put(key, value, tags=["dear"])

    @app.on_commit("prices")
    async def forward(change):
        await can_take.wait()
        source.values[change.key] = tagged(change.value + 100)  # it has its own mind

    async with running(app) as world:
        await world.mutate(Asker(), 1, "prices.change", ["a", 5])
        world.listener.watching["prices", "a"] = 1
        await invalidate(world, what)
        await trio.sleep(20)
        assert source.calls == []
        can_take.set()
        await trio.sleep(5)
        assert last_told(world, "a") == 105


# ---------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("keys", [None, ["a"]], ids=["all", "the key"])
async def test_a_load_that_was_lost_with_a_crash_of_the_cache_owner_is_begun_anew(
    autojump_clock, what, keys
):
    source = Source(a=tagged(1))
    async with running(app_of(source, ttl=600)) as world:
        await read_and_watch(world)
        source.values["a"] = tagged(2)
        await invalidate(world, what)
        await world.crash()
        kept = None if keys is None else set(keys)
        live = Subscription(Session(), "prices", watch=Watch(kept), is_live=True)
        world.owner.mailbox.put_reply(ResumeWatches([live]))
        await trio.sleep(5)
        assert last_told(world, "a") == 2


async def test_so_is_one_of_a_watch_whose_keys_only_the_broadcaster_will_know(autojump_clock):
    source = Source(a=1)
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a")
        source.values["a"] = 2
        await world.invalidate("prices", "a")
        coming = come_back(world, position_of(world), ["a"])
        await trio.sleep(0.1)
        await world.crash()
        world.owner.mailbox.put_reply(ResumeWatches([coming]))
        await trio.sleep(3)
        world.listener.watching["prices", "a"] = 1
        await trio.sleep(3)
        assert last_told(world, "a") == 2


# ---------------------------------------------------------------------------------------------- many


@pytest.mark.parametrize("is_volatile", [False, True], ids=["kept", "volatile"])
async def test_all_of_more_than_may_be_on_their_way_at_once_are_loaded(
    autojump_clock, monkeypatch, is_volatile
):
    monkeypatch.setattr(fetching, "MAX_FLIGHTS", 20)
    monkeypatch.setattr(reloading, "CROWDED", 10)
    monkeypatch.setattr(reloading, "STEP", 4)
    names = [f"k{number:03}" for number in range(100)]
    source = Source(**dict.fromkeys(names, 1))
    async with running(app_of(source, ttl=600, volatile=is_volatile)) as world:
        for name in names:
            await world.read("prices", name)
            world.listener.watching["prices", name] = 1
        source.values = dict.fromkeys(names, 2)
        await world.invalidate("prices")
        await trio.sleep(60)
        assert [last_told(world, name) for name in names] == [2] * 100


async def test_more_failing_keys_than_may_be_owed_singly_are_loaded_in_the_end(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(owed_loads, "MAX_OWED", 10)
    names = [f"k{number:03}" for number in range(50)]
    source = Source(**dict.fromkeys(names, 1))
    async with running(app_of(source, ttl=6000)) as world:
        await world.read("prices", *names)
        for name in names:
            world.listener.watching["prices", name] = 1
        source.values = dict.fromkeys(names, 2)
        source.failure = ConnectionError("the database is away")
        await world.invalidate("prices", *names)
        await trio.sleep(30)
        source.failure = None
        await trio.sleep(120)
        assert [last_told(world, name) for name in names] == [2] * 50
        num_calls = len(source.calls)
        await trio.sleep(600)
        assert len(source.calls) == num_calls
