"""on_commit is told every change at least once, in order per key, whatever fails; a dirty key is what it is here."""

import random

import pytest
import structlog
import trio

from syncd.actors.cache_owner import forwarding
from syncd.app import App
from syncd.ports_collections import MutateState
from syncd.store.base import Retention, StoreOptions
from syncd.store.sqlite import SqliteStore
from tests.actors.cache_world import ANN, Asker, running


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


class Database:
    """The application's own: takes changes when it can."""

    def __init__(self):
        self.told = []
        self.values = {}
        self.fails = lambda _change: False
        self.delay_s = 0.0
        self.num_now = self.max_now = self.num_calls = 0

    async def take(self, change):
        self.num_calls += 1
        self.num_now += 1
        self.max_now = max(self.max_now, self.num_now)
        try:
            await trio.sleep(self.delay_s)
            if self.fails(change):
                raise ConnectionError("away")
        finally:
            self.num_now -= 1
        self.told.append((change.key, change.value))
        self.values[change.key] = change.value


def app_of(database, *, loader=True, **options):
    app = App()
    items = app.collection("items", **options)
    if loader:

        @items.loader
        async def load(key):
            app.loads.append(key)
            await trio.sleep(app.load_s)
            return database.values.get(key)

    @items.mutator
    def put(tx, key: str, value: int):
        tx.put(key, value)

    @items.mutator
    def remove(tx, key: str):
        tx.delete(key)

    @app.on_commit("items")
    async def forward(change):
        await database.take(change)

    app.loads, app.load_s = [], 0.0
    return app


def put(mid, key, value, asker=None):
    return MutateState(asker or Asker(), "c1", mid, "items.put", [key, value], ANN)


@pytest.mark.parametrize("change", ["put", "remove"])
@pytest.mark.parametrize("has_crashed", [False, True])
async def test_a_change_names_its_mutation_and_when_it_was(autojump_clock, change, has_crashed):
    database, told = Database(), []
    database.fails = lambda change: told.append(change) or (has_crashed and len(told) < 3)
    async with running(app_of(database)) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1], client="c7")
        await trio.sleep(1)
        args = ["a", 2] if change == "put" else ["a"]
        await world.mutate(Asker(), 1, f"items.{change}", args, client="c8")
        if has_crashed:
            await world.crash()
        await trio.sleep(30)
    last = told[-1]
    assert (last.client, last.mid, last.version) == ("c8", 1, 2)
    assert last.is_deleted is (change == "remove")
    assert last.at_ms > told[0].at_ms > 0


async def test_changes_of_one_key_are_told_in_order_and_as_the_newest(autojump_clock):
    database = Database()
    database.delay_s = 1.0
    async with running(app_of(database)) as world:
        for value in range(1, 8):
            await world.mutate(Asker(), value, "items.put", ["a", value])
            await trio.sleep(0.3)
        await trio.sleep(10)
        values = [value for _, value in database.told]
        assert values == sorted(values)
        assert values[-1] == 7
        assert len(values) < 7, "changes that nobody has taken yet are told as one"
        assert database.max_now == 1
        assert world.counts("items")["dirty"] == 0


async def test_a_deletion_is_told_and_acknowledged(autojump_clock, tmp_path):
    database = Database()
    async with running(app_of(database)) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1])
        await trio.sleep(1)
        await world.mutate(Asker(), 2, "items.remove", ["a"])
        await trio.sleep(1)
        assert database.told == [("a", 1), ("a", None)]
        await world.crash()
        await trio.sleep(5)
        assert database.told == [("a", 1), ("a", None)], "the store knows that it was acknowledged"


async def test_keys_that_the_application_never_takes_do_not_hold_up_the_others(autojump_clock):
    database = Database()
    database.fails = lambda change: change.key.startswith("poison")
    async with running(app_of(database)) as world:
        world.owner.submit_nowait([put(n + 1, f"poison{n}", n) for n in range(40)], 0)
        await trio.sleep(5)
        world.owner.submit_nowait([put(n + 41, f"good{n}", n) for n in range(200)], 0)
        await trio.sleep(60)
        assert len(database.told) == 200
        assert world.counts("items")["dirty"] == 40


async def test_an_application_that_is_away_is_not_hammered_and_then_told_everything(
    autojump_clock, log_lines
):
    database = Database()
    database.fails = lambda _change: True
    app = app_of(database)
    async with running(app) as world:
        world.owner.submit_nowait([put(n + 1, f"k{n}", n) for n in range(500)], 0)
        await trio.sleep(600)
        assert database.num_calls < 3000
        began, database.fails = database.num_calls, lambda _change: False
        await trio.sleep(120)
        assert dict(database.told) == {f"k{n}": n for n in range(500)}
        assert database.num_calls - began == 500
        failures = [line for line in log_lines if line["event"] == "on_commit_failed"]
        assert len(failures) == len({line["key"] for line in failures}), "once a key, not each time"


async def test_a_hook_that_would_end_the_program_is_told_again(autojump_clock):
    database, exits = Database(), [SystemExit(1)]

    def fails(_change):
        if exits:
            raise exits.pop()

    database.fails = fails
    async with running(app_of(database)) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1])
        await trio.sleep(10)
        assert database.told == [("a", 1)]
        assert database.num_calls == 2


async def test_a_call_that_hangs_is_cancelled_and_told_again(autojump_clock):
    database = Database()
    database.delay_s = 1e9
    app = app_of(database)
    async with running(app) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1])
        await trio.sleep(10)
        database.delay_s = 0.0
        await trio.sleep(60)
        assert database.told == [("a", 1)]


async def test_a_new_start_reads_from_the_disk_what_was_not_acknowledged(autojump_clock, tmp_path):
    def opened():
        options = StoreOptions(retention_of=lambda _channel: Retention(1000, 86_400.0))
        store = SqliteStore(tmp_path / "state.db", options)
        store.open()
        return store

    database = Database()
    database.fails = lambda change: change.key != "k3"
    async with running(app_of(database, ttl=60), opened()) as world:
        world.owner.submit_nowait([put(n + 1, f"k{n}", n) for n in range(700)], 0)
        await trio.sleep(20)
        assert database.told == [("k3", 3)]
    database.fails = lambda _change: False
    app = app_of(database, ttl=60)
    async with running(app, opened()) as world:
        assert world.counts("items")["dirty"] == 699
        assert await world.read("items", "k5") == {"k5": 5}
        await trio.sleep(20)
        assert sorted(database.told) == sorted((f"k{n}", n) for n in range(700))
        assert world.counts("items")["dirty"] == 0
        assert app.loads == []


async def test_more_dirty_keys_than_memory_may_note_are_all_told(autojump_clock, monkeypatch):
    monkeypatch.setattr(forwarding, "MAX_DIRTY", 20)
    monkeypatch.setattr(forwarding, "DIRTY_PER_READ", 7)
    database = Database()
    database.fails = lambda _change: True
    rng = random.Random(5)
    database.delay_s = 0.01
    async with running(app_of(database)) as world:
        commands = [put(mid, f"k{rng.randrange(300)}", mid) for mid in range(1, 601)]
        for start in range(0, 600, 50):
            world.owner.submit_nowait(commands[start : start + 50], 0)
            await trio.sleep(0.2)
        assert world.counts("items")["dirty"] <= 21
        database.fails = lambda _change: False
        for start in range(600, 700, 10):
            world.owner.submit_nowait([put(start + n, f"k{n}", start + n) for n in range(1, 11)], 0)
            await trio.sleep(0.05)
        await trio.sleep(300)
        expected = {command.args[0]: command.args[1] for command in commands}
        expected |= {f"k{n}": 690 + n for n in range(1, 11)}
        assert database.values == expected
        assert world.counts("items")["dirty"] == 0
        assert world.owner.holdings.by_name["items"].has_unread_dirty is False


async def test_while_too_many_are_dirty_no_load_brings_back_what_was_deleted(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(forwarding, "MAX_DIRTY", 5)
    database = Database()
    database.values = {"gone": "from the source"}
    database.fails = lambda _change: True
    app = app_of(database, ttl=60)
    async with running(app) as world:
        assert await world.read("items", "gone") == {"gone": "from the source"}
        world.owner.submit_nowait([put(n, f"k{n}", n) for n in range(1, 20)], 0)
        await world.quiet()
        await world.mutate(Asker(), 20, "items.remove", ["gone"])
        await world.clear()
        assert await world.read("items", "gone") in ({"gone": None}, "overloaded")
        assert app.loads == ["gone"]
        database.fails = lambda _change: False
        await trio.sleep(200)
        assert await world.read("items", "gone") == {"gone": None}


async def test_a_dirty_key_is_neither_expired_nor_loaded_nor_lost_by_clear(autojump_clock):
    database = Database()
    database.fails = lambda _change: True
    app = app_of(database, ttl=5, max_entries=2)
    async with running(app) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1])
        for mid in range(2, 10):
            await world.mutate(Asker(), mid, "items.put", [f"x{mid}", 1])
        await world.clear()
        await trio.sleep(100)
        assert await world.read("items", "a") == {"a": 1}
        assert app.loads == []
        await world.invalidate("items", "a")
        assert await world.read("items", "a") == {"a": 1}
        assert app.loads == []


async def test_an_acknowledgement_while_a_load_runs_leaves_the_change(autojump_clock):
    database = Database()
    database.values = {"a": 1}
    app = app_of(database, ttl=60, jitter=0.0)
    async with running(app) as world:
        assert await world.read("items", "a") == {"a": 1}
        await trio.sleep(61)
        app.load_s = 5.0
        answers = []
        loading = database.values

        async def load_later():
            answers.append(await world.read("items", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(load_later)
            await trio.sleep(1)
            database.values = dict(loading)
            await world.mutate(Asker(), 1, "items.put", ["a", 2])
            await trio.sleep(1)
            assert world.counts("items")["dirty"] == 0
            database.values["a"] = 1  # what the load brings was read before
        assert answers == [{"a": 2}]
        assert await world.read("items", "a") == {"a": 2}


async def test_a_load_that_finds_nothing_does_not_hide_what_was_written_meanwhile(autojump_clock):
    app = App()
    items = app.collection("items")

    @items.loader
    async def load(key):
        await trio.sleep(2)

    @items.mutator
    def put(tx, key: str, value: int):
        tx.put(key, value)

    async with running(app) as world:
        answers = []

        async def read():
            answers.append(await world.read("items", "a"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(1)
            await world.mutate(Asker(), 1, "items.put", ["a", 1])
        assert answers == [{"a": 1}]
        assert await world.read("items", "a") == {"a": 1}


async def test_the_writer_is_never_served_its_own_change_stale(autojump_clock):
    database = Database()
    app = app_of(database, ttl=10, stale=1000, jitter=0.0)
    async with running(app) as world:
        await world.mutate(Asker(), 1, "items.put", ["a", 1])
        await trio.sleep(20)
        database.values["a"] = 2
        app.load_s = 1.0
        assert await world.read("items", "a", client="c2") == {"a": 1}
        assert await world.read("items", "a", client="c1") == {"a": 2}
