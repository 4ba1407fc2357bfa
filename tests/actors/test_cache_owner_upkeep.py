"""What operators do to collections while they run; a store that goes away; and how long anything may hold the loop."""

import itertools
import random
import time

import pytest
import structlog
import trio

from syncd import Tagged
from syncd.app import App
from syncd.model.collection_memory import CachedEntry, CollectionMemory, Limits
from syncd.ports_collections import AddClients, InvalidateEntries, WarmCache
from syncd.store.base import Retention, StoreOptions
from syncd.store.sqlite import SqliteStore
from tests.actors.cache_world import Asker, running
from tests.actors.test_cache_owner_sources import Source, app_of
from tests.actors.test_cache_owner_watches import Session, prelude, watch


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def kept_app(**options):
    app = App()
    items = app.collection("items", **options)

    @items.mutator
    def put(tx, key: str, value: str, tags: list[str] = []):  # noqa: B006 - read only
        tx.put(key, value, tags=tags)

    @items.mutator
    def invalidate(tx, keys: list[str], tags: list[str], everything: bool):
        tx.invalidate(*keys, tags=tags, everything=everything, collection="prices")

    return app


# ------------------------------------------------------------------------------------------------ the store goes away


async def test_whoever_needs_the_store_is_told_that_it_is_away_and_all_goes_on_when_it_is_back(
    autojump_clock,
):
    async with running(kept_app()) as world:
        asker, session, greeted = Asker(), Session(), []
        await world.mutate(asker, 1, "items.put", ["a", "x"])
        await world.clear()
        world.file.is_away = True
        await world.mutate(asker, 2, "items.put", ["a", "y"])
        assert asker.told[-1] == ("error", 2, "store_unavailable")
        assert await world.read("items", "a") == "store_unavailable"
        watch(world, session)
        watch(world, session, 2, keys=["a"])
        world.owner.submit_nowait([AddClients(["c1"], greeted.append)], 0)
        await world.quiet()
        assert {body["code"] for _, body in session.sent} == {"store_unavailable"}
        assert [error.code.value for error in greeted] == ["store_unavailable"]
        assert world.listener.joins == []
        world.file.is_away = False
        await trio.sleep(10)
        assert await world.read("items", "a") == {"a": "x"}
        await world.mutate(asker, 2, "items.put", ["a", "z"])
        assert asker.told[-1] == ("outcome", 2, "ok")
        world.owner.submit_nowait([AddClients(["c1"], greeted.append)], 0)
        await world.quiet()
        assert greeted[-1].mids == [2]


async def test_what_a_loader_brings_while_the_store_is_away_is_brought_again_later(autojump_clock):
    source = Source(a=1)
    async with running(app_of(source, ttl=600)) as world:
        answers = []

        async def read():
            answers.append(await world.read("prices", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.5)
            world.file.is_away = True
        assert answers == ["store_unavailable"]
        world.file.is_away = False
        await trio.sleep(10)
        assert await world.read("prices", "a") == {"a": 1}


async def test_a_store_that_is_away_at_the_start_is_waited_for(autojump_clock):
    app = kept_app()

    @app.on_commit("items")
    async def forward(change):
        pass

    async with running(app) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", "x"])
        world.file.is_away = True
        await world.crash()
        await trio.sleep(5)
        world.file.is_away = False
        await trio.sleep(10)
        assert await world.read("items", "a") == {"a": "x"}
        assert world.health.num_restarts == 1


# ------------------------------------------------------------------------------------------------ invalidation


async def partitioned_world(world):
    asker = Asker()
    rows = (("p1/a", ["red"]), ("p1/b", []), ("p2/a", ["red", "blue"]), ("p3/a", ["green"]))
    for mid, (key, tags) in enumerate(rows, 1):
        await world.mutate(asker, mid, "items.put", [key, "x", tags])
    world.listener.events.clear()


@pytest.mark.parametrize("is_volatile", [False, True])
@pytest.mark.parametrize("is_cleared", [False, True])
async def test_an_invalidation_by_tag_reaches_only_partitions_where_the_tag_occurs(
    autojump_clock, is_volatile, is_cleared
):
    if is_volatile and is_cleared:
        return  # nothing is left then
    async with running(kept_app(partitioned=True, volatile=is_volatile)) as world:
        await partitioned_world(world)
        if is_cleared:
            await world.clear()
        positions = await world.invalidate("items", tags=["red"])
        assert sorted(positions) == ["items/p1", "items/p2"]
        assert sorted(each.channel for each in world.listener.events) == ["items/p1", "items/p2"]
        everywhere = await world.invalidate("items")
        assert sorted(everywhere) == ["items/p1", "items/p2", "items/p3"]
        await world.invalidate("items", "p3/a")
        assert world.listener.data("items/p3")[-1] == (None, {"keys": ["p3/a"]})


async def test_an_invalidation_with_a_bad_key_is_refused_and_harms_nobody(autojump_clock):
    async with running(kept_app(partitioned=True)) as world:
        answer = await world.invalidate("items", "no partition")
        assert answer.code.value == "bad_key"
        assert world.health.num_restarts == 0


@pytest.mark.parametrize("is_volatile", [False, True])
@pytest.mark.parametrize(
    ("args", "is_loaded"),
    [
        ([["a"], [], False], {"a"}),
        ([[], ["t"], False], {"b"}),
        ([[], [], True], {"a", "b"}),
    ],
    ids=["keys", "tags", "everything"],
)
async def test_a_mutator_invalidates_what_it_names(autojump_clock, is_volatile, args, is_loaded):
    app = kept_app()
    prices = app.collection("prices", ttl=600, volatile=is_volatile)
    calls, numbers = [], itertools.count()

    @prices.loader
    async def load(key):
        calls.append(key)
        return Tagged(next(numbers), ["t"] if key == "b" else [])

    async with running(app) as world:
        await world.read("prices", "a", "b")
        world.listener.watching.update({("prices", "a"): 1, ("prices", "b"): 1})
        calls.clear()
        asker = Asker()
        await world.mutate(asker, 1, "items.invalidate", args)
        await trio.sleep(5)
        assert asker.told == [("outcome", 1, "ok")]
        assert set(calls) == is_loaded
        told = world.listener.data("prices")
        (at,) = [n for n, (key, _) in enumerate(told) if key is None]
        assert {key for key, _ in told[at + 1 :]} == is_loaded, "the invalidation comes first"


# ------------------------------------------------------------------------------------------------ limits, warm-up, counts


async def test_limits_hold_as_soon_as_they_are_changed(autojump_clock):
    source = Source(**{f"k{n}": "x" * 100 for n in range(200)})
    source.delay_s = 0.0
    async with running(app_of(source, ttl=600, jitter=0.0)) as world:
        await world.read("prices", *source.values)
        assert world.counts("prices")["num_entries"] == 200
        world.owner.change_settings("prices", {"max_entries": 50})
        assert world.counts("prices")["num_entries"] == 50
        world.owner.change_settings("prices", {"max_bytes": 10_000})
        assert world.counts("prices")["num_bytes"] <= 10_000
        world.owner.change_settings("prices", {"max_entries": 1000, "max_bytes": 10**8, "ttl_s": 5})
        source.calls.clear()
        await world.read("prices", "k0")
        await trio.sleep(6)
        await world.read("prices", "k0")
        await world.read("prices", "k0")
        assert source.calls == ["k0", "k0"]


async def test_lifetimes_differ_by_the_jitter_and_no_more(autojump_clock):
    source = Source(**{f"k{n}": 1 for n in range(200)})
    source.delay_s = 0.0
    async with running(app_of(source, ttl=100, jitter=0.2)) as world:
        await world.read("prices", *source.values)
        memory, now = world.owner.holdings.by_name["prices"].memory, trio.current_time()
        lives = [memory.peek(place, now).fresh_until - now for place in memory.places()]
        assert 79 <= min(lives) < 85
        assert 95 < max(lives) <= 100


async def test_counts_add_up(autojump_clock):
    source = Source(**{f"k{n}": n for n in range(20)})
    source.delay_s = 0.0
    rng = random.Random(4)
    async with running(app_of(source, ttl=30, stale=10, max_entries=12)) as world:
        num_asked = 0
        for _ in range(300):
            keys = rng.sample(sorted([*source.values, "none"]), rng.randint(1, 4))
            num_asked += len(keys)
            await world.read("prices", *keys)
            await trio.sleep(rng.choice([0, 1, 7]))
        counts = world.counts("prices")
        assert counts["lookups"] == num_asked
        assert counts["hits"] + counts["stale_hits"] + counts["misses"] == num_asked
        assert counts["keys_loaded"] == len(source.calls)
        assert counts["num_entries"] <= 12
        assert counts["evictions"] > 0
        assert 0 < counts["hit_rate"] < 1


async def test_a_new_start_warms_up_the_hottest_keys_of_the_last_one(autojump_clock, tmp_path):
    def opened():
        options = StoreOptions(retention_of=lambda _channel: Retention(1000, 86_400.0))
        store = SqliteStore(tmp_path / "state.db", options)
        store.open()
        return store

    async with running(kept_app(warm=5), opened()) as world:
        for mid in range(1, 21):
            await world.mutate(Asker(), mid, "items.put", [f"k{mid}", "x"])
        await world.read("items", "k3", "k4")
        await trio.sleep(90)
    async with running(kept_app(warm=5), opened()) as world:
        await trio.sleep(1)
        memory = world.owner.holdings.by_name["items"].memory
        assert {key for _, key in memory.places()} == {"k3", "k4", "k18", "k19", "k20"}


async def test_a_warm_up_that_fails_is_logged_and_the_node_serves(autojump_clock, log_lines):
    source = Source(a=1, b=2)

    app = App()
    prices, others = app.collection("prices", ttl=600), app.collection("others", ttl=600)

    @prices.loader
    async def load_price(key):
        return await source.one(key)

    @prices.warm
    async def keys_to_warm():
        await trio.sleep(1)
        raise ConnectionError("away")

    @others.warm
    async def other_keys():
        return ["a", "b", 7, "\x00"]

    @others.loader
    async def load(key):
        return key

    async with running(app) as world:
        await trio.sleep(5)
        assert [line["collection"] for line in log_lines if line["event"] == "warm_up_failed"] == [
            "prices"
        ]
        assert world.counts("others")["num_entries"] == 2
        assert await world.read("prices", "a") == {"a": 1}
        warmed = await world.ask(lambda done: WarmCache("prices", ["a", "b", "none"], done))
        assert warmed == {"prices": 2}


# ------------------------------------------------------------------------------------------------ reads and watches


async def test_a_read_of_more_than_a_mebibyte_is_refused(autojump_clock):
    async with running(kept_app()) as world:
        for mid in range(1, 7):
            await world.mutate(Asker(), mid, "items.put", [f"k{mid}", "x" * 200_000])
        assert await world.read("items", *(f"k{n}" for n in range(1, 7))) == "too_large"
        assert len(await world.read("items", *(f"k{n}" for n in range(1, 6)))) == 5


async def test_one_entry_is_told_whatever_its_size(autojump_clock):
    app = App()
    items = app.collection("items", max_value_bytes="3 MB")

    @items.loader
    async def load(key):
        return "x" * int(key)

    async with running(app) as world:
        assert await world.read("items", "2000000") == {"2000000": "x" * 2_000_000}
        assert await world.read("items", "2000000", "1") == "too_large"


async def test_snapshots_of_sessions_that_are_gone_are_dropped(autojump_clock):
    async with running(kept_app()) as world:
        for mid in range(1, 21):
            await world.mutate(Asker(), mid, "items.put", [f"k{mid:02}", "x" * 50_000])
        subscription = watch(world, Session())
        await trio.sleep(0.1)
        assert world.owner.watching._snapshots
        subscription.is_closed = True
        await trio.sleep(2)
        assert not world.owner.watching._snapshots


async def test_a_watch_that_is_lost_begins_anew_and_is_refused_when_it_is_lost_for_ever(
    autojump_clock,
):
    async with running(kept_app()) as world:
        for mid in range(1, 21):
            await world.mutate(Asker(), mid, "items.put", [f"k{mid:02}", "x" * 50_000])
        session = Session()
        watch(world, session)
        await trio.sleep(0.1)
        for count in range(1, 6):
            assert len(world.listener.joins) == count
            assert prelude(world.listener.joins[-1])["entries"][0]["key"] == "k01"
            world.listener.joins[-1].on_lost()
            await trio.sleep(0.1)
        assert len(world.listener.joins) == 5
        assert session.sent == [["error", {"id": 1, "code": "overloaded"}]]
        assert not world.owner.watching._snapshots


# ------------------------------------------------------------------------------------------------ time


def test_expiring_everything_takes_no_time_and_reaches_every_entry():
    memory = CollectionMemory(Limits(200_000, 2**40, 60.0, 30.0))
    for number in range(100_000):
        tags = ("t",) if number % 1000 == 0 else ()
        memory.keep(("c", f"k{number}"), CachedEntry(1, b"\xc0", tags, 60.0), 0.0)
    began = time.perf_counter()
    memory.expire_all(10.0)
    tagged = memory.tagged("t")
    took_s = time.perf_counter() - began
    assert took_s < 0.005
    assert len(tagged) == 100
    assert memory.peek(("c", "k7"), 20.0).fresh_until == 10.0
    memory.keep(("c", "k8"), CachedEntry(2, b"\xc0", (), 99.0), 20.0)
    memory.expire_all(30.0)
    assert memory.get(("c", "k8"), 31.0).fresh_until == 30.0
    assert memory.get(("c", "k9"), 31.0).fresh_until == 10.0, "the first expiry counts"


async def test_a_whole_collection_is_reloaded_in_steps(autojump_clock):
    source = Source(**{f"k{n}": n for n in range(3000)})
    source.delay_s = 0.0
    app = App()
    prices = app.collection("prices", ttl=600, load_batch=100)

    @prices.loader
    async def load(keys: list[str]):
        return await source.several(keys)

    async with running(app) as world:
        for start in range(0, 3000, 500):
            await world.read("prices", *(f"k{n}" for n in range(start, start + 500)))
        source.calls.clear()
        world.listener.watching.update({("prices", f"k{n}"): 1 for n in range(3000)})
        source.values.update({f"k{n}": -n for n in range(3000)})
        answer = await world.ask(lambda done: InvalidateEntries("prices", done))
        assert list(answer) == ["prices"]
        await trio.sleep(10)
        assert sorted(key for keys in source.calls for key in keys) == sorted(source.values)
        assert await world.read("prices", "k2999") == {"k2999": -2999}
