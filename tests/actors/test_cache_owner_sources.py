"""The cache-owner in front of a source: one flight a key, freshness, failures, invalidation, writing behind."""

import pytest
import trio

from syncd import Tagged
from syncd.app import App
from tests.actors.cache_world import Asker, running


class Source:
    """A slow database: counts what it is asked."""

    def __init__(self, **values):
        self.values = values
        self.calls = []
        self.delay_s = 1.0
        self.failure = None

    async def one(self, key):
        self.calls.append(key)
        value = self.values.get(key)
        await trio.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure
        return value

    async def several(self, keys):
        self.calls.append(list(keys))
        await trio.sleep(self.delay_s)
        return {key: self.values[key] for key in keys if key in self.values}


def app_of(source, **options):
    app = App()
    prices = app.collection("prices", **options)

    @prices.loader
    async def load(key):
        return await source.one(key)

    return app


@pytest.fixture(params=[False, True], ids=["kept", "volatile"])
def is_volatile(request):
    return request.param


async def test_a_thousand_reads_of_a_cold_key_are_one_load(autojump_clock, is_volatile):
    source = Source(a=1)
    async with running(app_of(source, ttl="10 min", volatile=is_volatile)) as world:
        answers = []

        async def read():
            answers.append(await world.read("prices", "a"))

        async with trio.open_nursery() as nursery:
            for _ in range(1000):
                nursery.start_soon(read)
        assert answers == [{"a": 1}] * 1000
        assert source.calls == ["a"]


async def test_many_cold_keys_are_loaded_in_batches_when_the_loader_takes_lists(
    autojump_clock, is_volatile
):
    source = Source(**{f"k{number}": number for number in range(1000)})
    app = App()
    prices = app.collection("prices", ttl="10 min", volatile=is_volatile, load_batch=100)

    @prices.loader
    async def load(keys: list[str]):
        return await source.several(keys)

    async with running(app) as world:
        found = await world.read("prices", *source.values)
        assert found == source.values
        assert len(source.calls) == 10


async def test_an_entry_is_loaded_anew_exactly_when_its_lifetime_is_over(
    autojump_clock, is_volatile
):
    source = Source(a=1)
    async with running(app_of(source, ttl=600, jitter=0.0, volatile=is_volatile)) as world:
        await world.read("prices", "a")
        loaded_at = trio.current_time()
        source.values["a"] = 2
        await trio.sleep_until(loaded_at + 599)
        assert await world.read("prices", "a") == {"a": 1}
        await trio.sleep_until(loaded_at + 600.5)
        assert await world.read("prices", "a") == {"a": 2}
        assert len(source.calls) == 2


async def test_a_stale_entry_is_served_at_once_while_it_is_loaded_anew(autojump_clock, is_volatile):
    source = Source(a=1)
    options = {"ttl": 600, "stale": 600, "jitter": 0.0, "volatile": is_volatile}
    async with running(app_of(source, **options)) as world:
        await world.read("prices", "a")
        source.values["a"] = 2
        await trio.sleep(700)
        asked_at = trio.current_time()
        assert await world.read("prices", "a") == {"a": 1}
        assert trio.current_time() - asked_at < 0.5
        await trio.sleep(5)
        assert await world.read("prices", "a") == {"a": 2}
        assert world.counts("prices")["stale_hits"] == 1


async def test_what_does_not_exist_is_remembered_for_a_while(autojump_clock, is_volatile):
    source = Source()
    options = {"ttl": 600, "negative_ttl": 5, "jitter": 0.0, "volatile": is_volatile}
    async with running(app_of(source, **options)) as world:
        assert await world.read("prices", "a") == {"a": None}
        assert await world.read("prices", "a") == {"a": None}
        assert len(source.calls) == 1
        await trio.sleep(10)
        source.values["a"] = 3
        assert await world.read("prices", "a") == {"a": 3}


async def test_a_source_that_fails_is_told_as_such_and_not_hammered(autojump_clock, is_volatile):
    source = Source(a=1)
    source.failure = ConnectionError("the database is away")
    async with running(app_of(source, ttl=600, volatile=is_volatile)) as world:
        for _ in range(20):
            assert await world.read("prices", "a") == "load_failed"
        assert len(source.calls) < 5
        source.failure = None
        await trio.sleep(60)
        assert await world.read("prices", "a") == {"a": 1}


@pytest.mark.parametrize("keys", [["a"], []], ids=["the key", "the collection"])
async def test_an_invalidation_ends_the_wait_after_a_failure(autojump_clock, is_volatile, keys):
    source = Source(a=1)
    source.failure = ConnectionError("the database is away")
    async with running(app_of(source, ttl=600, volatile=is_volatile)) as world:
        for _ in range(20):
            assert await world.read("prices", "a") == "load_failed"
        source.failure = None
        await world.invalidate("prices", *keys)
        assert await world.read("prices", "a") == {"a": 1}


@pytest.mark.parametrize(
    ("value", "code"),
    [(object(), "bad_source"), ("x" * 300_000, "bad_source"), ({1: 2}, "bad_source")],
    ids=["no value of the wire", "too large", "a key that is no text"],
)
async def test_what_cannot_be_kept_is_refused_for_that_key_alone(autojump_clock, value, code):
    source = Source(a=value, b=2)
    async with running(app_of(source, ttl=600)) as world:
        assert await world.read("prices", "a") == code
        assert await world.read("prices", "b") == {"b": 2}


async def test_a_dict_by_numbers_is_a_fault_of_the_source_and_not_a_lack_of_entries(autojump_clock):
    app = App()
    prices = app.collection("prices", ttl=600)

    @prices.loader
    async def load(keys: list[str]):
        return {int(key): 1 for key in keys}

    async with running(app) as world:
        assert await world.read("prices", "17") == "bad_source"


@pytest.mark.parametrize(
    "failure",
    [SystemExit(2), BaseException("x"), BaseExceptionGroup("x", [SystemExit(2), KeyError()])],
    ids=["exit", "base", "group"],
)
async def test_a_loader_that_would_end_the_program_fails_its_keys_alone(autojump_clock, failure):
    source = Source(a=1)
    source.failure = failure
    async with running(app_of(source, ttl=600)) as world:
        assert await world.read("prices", "a") == "load_failed"
        source.failure = None
        assert await world.read("prices", "b") == {"b": None}


async def test_an_operators_interrupt_in_a_loader_ends_the_node(autojump_clock):
    source = Source(a=1)
    source.failure = KeyboardInterrupt()
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with running(app_of(source, ttl=600)) as world:
            await world.read("prices", "a")


async def test_a_loader_that_hangs_is_given_up_in_time(autojump_clock):
    source = Source(a=1)
    source.delay_s = 1e6
    async with running(app_of(source, ttl=600, load_timeout=10)) as world:
        began = trio.current_time()
        assert await world.read("prices", "a") == "load_timeout"
        assert trio.current_time() - began == pytest.approx(10, abs=0.5)


async def test_an_invalidated_entry_is_loaded_anew_and_a_load_under_way_is_thrown_away(
    autojump_clock, is_volatile
):
    source = Source(a=1)
    async with running(app_of(source, ttl=600, volatile=is_volatile)) as world:
        answers = []

        async def read():
            answers.append(await world.read("prices", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.5)
            source.values["a"] = 2
            await world.invalidate("prices", "a")
        assert answers == [{"a": 2}]
        assert source.calls == ["a", "a"]
        told = world.listener.data("prices")
        assert (None, {"keys": ["a"]}) in told
        assert told[0] == (None, {"keys": ["a"]})


async def test_a_watched_entry_is_loaded_and_told_after_its_invalidation(
    autojump_clock, is_volatile
):
    source = Source(a=1, b=1)
    async with running(app_of(source, ttl=600, volatile=is_volatile)) as world:
        await world.read("prices", "a", "b")
        world.listener.watching["prices", "a"] = 1
        source.values.update(a=2, b=2)
        await world.invalidate("prices", "a", "b")
        await trio.sleep(3)
        assert source.calls.count("a") == 2
        assert source.calls.count("b") == 1
        assert world.listener.data("prices")[-1] == ("a", {"value": 2})
        assert await world.read("prices", "b") == {"b": 2}


@pytest.mark.parametrize("tags", [[], ["dear"]], ids=["the collection", "a tag"])
async def test_a_watched_entry_that_only_the_store_has_is_loaded_after_an_invalidation(
    autojump_clock, tags
):
    source = Source(a=Tagged(1, ["dear"]), b=Tagged(1, ["dear"]))
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a", "b")
        world.listener.watching["prices", "a"] = 1
        await world.clear()
        source.values.update(a=Tagged(2, ["dear"]), b=Tagged(2, ["dear"]))
        await world.invalidate("prices", tags=tags)
        await trio.sleep(3)
        assert world.listener.data("prices")[-1] == ("a", {"value": 2})
        assert source.calls.count("b") == 1


async def test_invalidations_during_a_pass_through_the_store_share_the_next(autojump_clock):
    source = Source(a=1)
    async with running(app_of(source, ttl=600)) as world:
        await world.read("prices", "a")
        world.listener.watching["prices", "a"] = 1
        owner = world.owner.reloading
        passes = []
        begin = owner._walk_store

        def count(walk, pager, after=None):
            passes.append(after)
            begin(walk, pager, after)

        owner._walk_store = count
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(world.invalidate, "prices")
        await trio.sleep(3)
        assert 2 <= passes.count(None) <= 10
        assert owner._walks == {}


def changeable(source, **limits):
    app = App()
    prices = app.collection("prices", **limits)

    @prices.loader
    async def load(key):
        return await source.one(key)

    @prices.mutator
    def change(tx, key: str, value: str):
        tx.put(key, value)

    return app


async def test_a_change_wins_over_a_load_that_began_before_it(autojump_clock):
    source = Source(a="from the source")
    async with running(changeable(source)) as world:
        answers = []

        async def read():
            answers.append(await world.read("prices", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.5)
            await world.mutate(Asker(), 1, "prices.change", ["a", "from a client"])
        assert await world.read("prices", "a") == {"a": "from a client"}
        await trio.sleep(5)
        assert await world.read("prices", "a") == {"a": "from a client"}


async def test_a_change_wins_over_a_load_that_waited_for_its_turn_meanwhile(autojump_clock):
    """Found by reading: that the source has none was taken for what it had said of the entry before the change."""
    source = Source()
    async with running(changeable(source, load_concurrency=1)) as world:
        answers = {}

        async def read(key):
            answers.update(await world.read("prices", key))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "other")
            await trio.sleep(0.1)
            nursery.start_soon(read, "a")
            await trio.sleep(0.1)
            await world.mutate(Asker(), 1, "prices.change", ["a", "from a client"])
        assert answers == {"other": None, "a": "from a client"}
        assert await world.read("prices", "a") == {"a": "from a client"}


async def test_the_loader_of_an_owned_collection_does_not_bring_back_what_was_deleted(
    autojump_clock,
):
    source = Source(a=1)
    app = App()
    prices = app.collection("prices")

    @prices.loader
    async def load(key):
        return await source.one(key)

    @prices.mutator
    def remove(tx, key: str):
        tx.delete(key)

    async with running(app) as world:
        assert await world.read("prices", "a") == {"a": 1}
        await world.mutate(Asker(), 1, "prices.remove", ["a"])
        await world.clear()
        assert await world.read("prices", "a") == {"a": None}
        assert source.calls == ["a"]


async def test_a_change_is_told_to_the_application_until_it_has_acknowledged_it(autojump_clock):
    app = App()
    prices = app.collection("prices", ttl=600)
    source = Source(a=1)
    told, failing = [], [True]

    @prices.loader
    async def load(key):
        return await source.one(key)

    @prices.mutator
    def change(tx, key: str, value: int):
        tx.put(key, value)

    @app.on_commit("prices")
    async def forward(change):
        if failing:
            raise ConnectionError("the database is away")
        told.append((change.key, change.value))
        source.values[change.key] = change.value

    async with running(app) as world:
        asker = Asker()
        await world.mutate(asker, 1, "prices.change", ["a", 5])
        await world.mutate(asker, 2, "prices.change", ["a", 6])
        await trio.sleep(1000)
        assert world.counts("prices")["dirty"] == 1
        assert await world.read("prices", "a") == {"a": 6}, "a dirty entry is not loaded"
        failing.clear()
        await trio.sleep(120)
        assert told[-1] == ("a", 6)
        assert world.counts("prices")["dirty"] == 0


async def test_a_load_that_began_before_the_source_knew_of_a_change_does_not_undo_it(
    autojump_clock,
):
    source = Source(a=1, b=1)
    app = App()
    prices = app.collection("prices", ttl=10, jitter=0.0, load_concurrency=1)

    @prices.loader
    async def load(key):
        return await source.one(key)

    @prices.mutator
    def change(tx, key: str, value: int):
        tx.put(key, value)

    @app.on_commit("prices")
    async def forward(change):
        await trio.sleep(1.5)
        source.values[change.key] = change.value

    async with running(app) as world:
        await world.read("prices", "a")
        await trio.sleep(11)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.read, "prices", "b")
            await trio.sleep(0.1)
            nursery.start_soon(world.read, "prices", "a")  # waits for the one call at a time
            await trio.sleep(0.1)
            await world.mutate(Asker(), 1, "prices.change", ["a", 5])
        assert await world.read("prices", "a") == {"a": 5}
        await trio.sleep(5)
        assert await world.read("prices", "a") == {"a": 5}
