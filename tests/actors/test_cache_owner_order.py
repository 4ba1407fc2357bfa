"""Mutations that have to wait or to run again keep their client's order and nobody else's; nobody is forgotten."""

import random

import pytest
import structlog
import trio

from syncd.actors.cache_owner import held, mutating
from syncd.app import App
from syncd.config import Config, HistoryKind, Namespace
from syncd.ports import Identity
from syncd.ports_collections import MutateState
from syncd.ports_log import IdempotencyKey
from tests.actors.cache_world import ANN, Asker, running


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def slow_app(delay_s=1.0, failure=None, **options):
    """Counters whose entries come from a slow source, each as 0."""
    app = App()
    counters = app.collection("counters", **options)

    @counters.loader
    async def load(key):
        app.loads.append(key)
        await trio.sleep(delay_s)
        if failure is not None:
            raise failure
        return 0 if not key.startswith("absent") else None

    @counters.mutator
    def add(tx, key: str):
        return tx.incr(key)

    @counters.mutator
    def move(tx, one: str, other: str):
        number = tx.get(one) or 0
        tx.put(other, (tx.get(other) or 0) + number + 1)

    @counters.mutator
    def assign(tx, key: str, value: int):
        tx.put(key, value)

    app.loads = []
    return app


def add(asker, mid, key="a", client="c1", **more):
    return MutateState(asker, client, mid, "counters.add", [key], ANN, **more)


def oks(*mids):
    return [("outcome", mid, "ok") for mid in mids]


async def test_a_held_mutation_keeps_its_clients_order_while_others_go_on(autojump_clock):
    async with running(slow_app()) as world:
        slow, quick = Asker(), Asker()
        await world.mutate(Asker(), 1, "counters.assign", ["warm", 0], client="c0")
        commands = [add(slow, 1, "cold"), add(slow, 2, "warm"), add(slow, 3, "colder")]
        world.owner.submit_nowait([*commands, add(quick, 1, "warm", "c2")], 0)
        await trio.sleep(0.5)
        assert quick.told == oks(1)
        assert slow.told == []
        await trio.sleep(5)
        assert slow.told == oks(1, 2, 3)
        assert await world.read("counters", "warm") == {"warm": 2}


async def test_one_that_met_a_conflict_runs_before_its_clients_later_one_that_waits(
    autojump_clock,
):
    async with running(slow_app()) as world:
        one, other = Asker(), Asker()
        await world.mutate(one, 1, "counters.assign", ["a", 10])
        # The resent mutation is run and then found to be known, so what the other client read of it was never so: conflict.
        commands = [
            MutateState(one, "c1", 1, "counters.assign", ["a", 10], ANN),
            add(other, 1, "a", "c2"),
            add(other, 2, "cold", "c2"),
            add(other, 3, "a", "c2"),
        ]
        world.owner.submit_nowait(commands, 0)
        await trio.sleep(5)
        assert other.told == oks(1, 2, 3)
        assert await world.read("counters", "a", "cold") == {"a": 12, "cold": 1}
        assert world.counts("counters")["conflicts"] >= 1


async def test_one_that_met_a_conflict_and_has_to_wait_itself_takes_nobodys_place(autojump_clock):
    async with running(slow_app(max_entries=1)) as world:
        one, other = Asker(), Asker()
        await world.mutate(one, 1, "counters.assign", ["a", 10])
        commands = [
            MutateState(one, "c1", 1, "counters.assign", ["a", 10], ANN),
            MutateState(other, "c2", 1, "counters.move", ["a", "b"], ANN),
            add(other, 2, "cold", "c2"),
            add(other, 3, "a", "c2"),
        ]
        world.owner.submit_nowait(commands, 0)
        await trio.sleep(20)
        assert other.told == oks(1, 2, 3)
        assert await world.read("counters", "b") == {"b": 11}


async def test_duplicates_in_one_group_and_over_groups_count_once(autojump_clock):
    async with running(slow_app(delay_s=0.1)) as world:
        asker = Asker()
        rng = random.Random(7)
        mids = [mid for mid in range(1, 40) for _ in range(rng.randint(1, 4))]
        for start in range(0, len(mids), 9):
            world.owner.submit_nowait([add(asker, mid) for mid in mids[start : start + 9]], 0)
            if rng.random() < 0.5:
                await trio.sleep(0.3)
        await trio.sleep(5)
        assert await world.read("counters", "a") == {"a": 39}
        assert len(asker.told) == len(mids)
        assert set(asker.told) == set(oks(*range(1, 40)))


async def test_two_clients_groups_interleave_and_every_increment_counts(autojump_clock):
    async with running(slow_app()) as world:
        askers = {client: Asker() for client in ("c1", "c2", "c3")}
        rng = random.Random(3)
        mids = dict.fromkeys(askers, 0)
        sent = []
        for _ in range(300):
            client = rng.choice(sorted(askers))
            if mids[client] and rng.random() < 0.3:
                sent.append(add(askers[client], rng.randint(1, mids[client]), "a", client))
            else:
                mids[client] += 1
                sent.append(add(askers[client], mids[client], "a", client))
        for start in range(0, len(sent), 20):
            world.owner.submit_nowait(sent[start : start + 20], 0)
            await trio.sleep(rng.choice([0, 0.01, 2]))
        await trio.sleep(20)
        assert await world.read("counters", "a") == {"a": sum(mids.values())}
        assert sum(len(asker.told) for asker in askers.values()) == 300
        assert {told[0] for asker in askers.values() for told in asker.told} == {"outcome"}


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_mutation_that_needs_more_than_memory_holds_takes_effect(autojump_clock, is_busy):
    async with running(slow_app(max_entries=1)) as world:
        asker, busy = Asker(), Asker()
        world.owner.submit_nowait(
            [MutateState(asker, "c1", 1, "counters.move", ["a", "b"], ANN)], 0
        )
        for mid in range(1, 200 if is_busy else 1):
            await world.mutate(busy, mid, "counters.assign", [f"x{mid}", 1], client="c2")
            await trio.sleep(0.05)
        await trio.sleep(10)
        assert asker.told == oks(1)
        assert await world.read("counters", "b") == {"b": 1}
        assert world.owner.holdings.borrowed == {}
        assert world.owner.holdings.borrowers == {}


async def test_what_is_absent_and_not_remembered_does_not_hold_a_mutation_for_ever(autojump_clock):
    app = slow_app(ttl=60, negative_ttl=0)

    @app.on_commit("counters")
    async def forward(change):
        pass

    async with running(app) as world:
        asker = Asker()
        await world.mutate(asker, 1, "counters.add", ["absent"])
        await trio.sleep(10)
        assert asker.told == oks(1)
        assert app.loads == ["absent"]


async def test_one_client_behind_a_slow_load_does_not_fill_the_queue(autojump_clock, monkeypatch):
    monkeypatch.setattr(held, "MAX_HELD", 20)
    monkeypatch.setattr(mutating, "MAX_WAITING", 50)
    async with running(slow_app()) as world:
        greedy, modest = Asker(), Asker()
        await world.mutate(Asker(), 1, "counters.assign", ["warm", 0], client="c0")
        world.owner.submit_nowait([add(greedy, mid, "cold") for mid in range(1, 41)], 0)
        await trio.sleep(0.5)
        assert greedy.told == [("error", mid, "overloaded") for mid in range(21, 41)]
        await world.mutate(modest, 1, "counters.add", ["warm"], client="c2")
        assert modest.told == oks(1)
        await trio.sleep(2)
        assert greedy.told[20:] == oks(*range(1, 21))


async def test_the_queue_is_bounded(autojump_clock, monkeypatch):
    monkeypatch.setattr(mutating, "MAX_WAITING", 10)
    async with running(slow_app()) as world:
        asker = Asker()
        world.gate.close()
        await world.mutate(asker, 1, "counters.assign", ["a", 1])
        world.owner.submit_nowait([add(asker, mid) for mid in range(2, 21)], 0)
        await world.quiet()
        assert asker.told == [("error", mid, "overloaded") for mid in range(11, 21)]
        world.gate.open()
        await trio.sleep(1)
        assert asker.told[10:] == oks(*range(1, 11))
        assert world.owner.mutating.num_waiting == 0


async def test_a_source_that_cannot_be_kept_rejects_the_mutation_for_good(autojump_clock):
    app = App()
    items = app.collection("items")

    @items.loader
    async def load(key):
        return object() if key == "bad" else 1

    @items.mutator
    def touch(tx, key: str):
        tx.put(key, [tx.get(key)])

    async with running(app) as world:
        asker = Asker()
        for mid, key in ((1, "bad"), (2, "good"), (1, "bad")):
            await world.mutate(asker, mid, "items.touch", [key])
            await trio.sleep(5)
        assert asker.told == [
            ("outcome", 1, "bad_source"),
            ("outcome", 2, "ok"),
            ("outcome", 1, "bad_source"),
        ]


async def test_a_source_that_is_away_for_now_decides_nothing(autojump_clock):
    async with running(slow_app(failure=ConnectionError("away"))) as world:
        asker = Asker()
        world.owner.submit_nowait([add(asker, 1), add(asker, 2)], 0)
        await trio.sleep(5)
        assert asker.told[0] == ("error", 2, "load_failed") or asker.told[0][1] == 1
        assert {told[0] for told in asker.told} == {"error"}
        assert {told[1] for told in asker.told} == {1, 2}


async def test_a_refusal_is_stored_and_told_again(autojump_clock):
    async with running(slow_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "counters.assign", ["a", 1], refusal="permission_denied")
        await world.mutate(asker, 1, "counters.assign", ["a", 1])
        await world.mutate(asker, 2, "counters.assign", ["a", 2])
        assert asker.told == [
            ("outcome", 1, "permission_denied"),
            ("outcome", 1, "permission_denied"),
            ("outcome", 2, "ok"),
        ]
        assert await world.read("counters", "a") == {"a": 2}


async def test_a_service_with_an_idempotency_key_mutates_once_and_without_one_each_time(
    autojump_clock,
):
    app = slow_app()
    service = Identity(service="shop")
    key = IdempotencyKey("shop", "mutate", "k1", b"h" * 32)
    other = IdempotencyKey("shop", "mutate", "k1", b"x" * 32)
    async with running(app) as world:
        asker = Asker()
        for idempotency in (key, key, other, None, None):
            await world.mutate(
                asker, 0, "counters.assign", ["a", 1], client=None, identity=service,
                idempotency=idempotency,
            )  # fmt: skip
        assert [told[2] for told in asker.told] == ["ok", "ok", "idempotency_mismatch", "ok", "ok"]
        assert len(world.listener.data("counters")) == 3
        assert "by" not in world.listener.events[0].record.decode("latin1")


async def test_events_that_a_mutator_publishes_come_with_it_or_after_it(autojump_clock):
    app = App()
    items = app.collection("items")

    @items.mutator
    def tell(tx, channel: str):
        tx.put("a", 1)
        tx.publish(channel, {"it": "happened"}, name="news", key="k")

    @items.mutator
    def tell_badly(tx):
        tx.publish("log:a", 1, name=object())

    config = Config(
        namespaces={
            "log": Namespace("log", history=HistoryKind.DURABLE),
            "mem": Namespace("mem", history=HistoryKind.MEMORY),
            "eph": Namespace("eph", history=HistoryKind.NONE),
        }
    )
    async with running(app, config=config) as world:
        asker = Asker()
        for mid, channel in enumerate(("log:a", "mem:a", "eph:a", "nope:a", "items", "!"), 1):
            await world.mutate(asker, mid, "items.tell", [channel])
        await world.mutate(asker, 7, "items.tell_badly")
        assert [told[2] for told in asker.told] == [
            "ok", "ok", "ok", "permission_denied", "bad_channel", "bad_channel", "mutator_failed"
        ]  # fmt: skip
        assert [each.channel for each in world.listener.events] == [
            "items",
            "log:a",
            "items",
            "items",
        ]
        assert [each.channel for each in world.listener.publications] == ["mem:a", "eph:a"]


async def test_entries_of_a_source_that_is_never_told_cannot_be_changed(autojump_clock):
    app = App()
    prices = app.collection("prices", ttl=60)

    @prices.loader
    async def load(key):
        return 1

    @app.mutator
    def change(tx, how: str):
        if how == "delete":
            tx.delete("a", collection="prices")
        elif how == "put":
            tx.put("a", 2, collection="prices")
        elif how == "patch":
            tx.patch("a", {"b": 1}, collection="prices")
        else:
            tx.incr("a", collection="prices")

    async with running(app) as world:
        asker = Asker()
        for mid, how in enumerate(("put", "patch", "delete", "incr"), 1):
            await world.mutate(asker, mid, "change", [how])
            await trio.sleep(1)
        assert [told[2] for told in asker.told] == ["source_owned"] * 4
        assert await world.read("prices", "a") == {"a": 1}
