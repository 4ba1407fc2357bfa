"""The cache-owner decides mutations: exactly once, in order, as a whole or not at all."""

import msgpack
import pytest
import trio

from syncd.app import App
from syncd.ports_collections import MutateState
from syncd.ports_state import EntryWrite, MutationCommit
from tests.actors.cache_world import ANN, Asker, running


def orders_app():
    app = App()
    orders = app.collection("orders")

    @orders.mutator
    def create(tx, order_id: str, customer: str):
        tx.put(order_id, {"status": "new", "customer": customer}, tags=[f"customer:{customer}"])

    @orders.mutator
    def ship(tx, order_id: str):
        order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
        tx.put(order_id, {**order, "status": "shipped"})
        return order["customer"]

    @orders.mutator
    def explode(tx):
        tx.put("7", "half done")
        raise RuntimeError("a bug of the application")

    return app


async def test_a_mutation_takes_effect_and_its_event_comes_before_its_outcome(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "orders.create", {"order_id": "7", "customer": "ann"})
        await world.mutate(asker, 2, "orders.ship", {"order_id": "7"})
        assert asker.told == [("outcome", 1, "ok"), ("outcome", 2, "ok")]
        assert await world.read("orders", "7") == {"7": {"status": "shipped", "customer": "ann"}}
        assert [key for key, _data in world.listener.data("orders")] == ["7", "7"]


async def test_a_rejection_changes_nothing_and_the_next_mutation_goes_on(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "orders.ship", {"order_id": "7"})
        await world.mutate(asker, 2, "orders.create", {"order_id": "7", "customer": "ann"})
        assert asker.told == [("outcome", 1, "unknown_order"), ("outcome", 2, "ok")]


async def test_a_mutation_sent_again_is_answered_and_not_run(autojump_clock):
    app = App()
    counter = app.collection("counter")

    @counter.mutator
    def add(tx, key: str):
        return tx.incr(key)

    async with running(app) as world:
        asker = Asker()
        for mid in (1, 2, 1, 2, 2):
            await world.mutate(asker, mid, "counter.add", {"key": "a"})
        assert await world.read("counter", "a") == {"a": 2}
        assert len(asker.told) == 5


async def test_a_skipped_mutation_is_told_what_is_expected(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 3, "orders.create", {"order_id": "7", "customer": "ann"})
        assert asker.told == [("out_of_order", 1)]
        assert await world.read("orders", "7") == {"7": None}


async def test_a_mutator_that_raises_is_undone_and_rejected(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "orders.explode")
        assert asker.told == [("outcome", 1, "mutator_failed")]
        assert await world.read("orders", "7") == {"7": None}


async def test_many_mutations_of_one_entry_in_one_group_all_count(autojump_clock):
    app = App()
    counter = app.collection("counter")

    @counter.mutator
    def add(tx, key: str):
        return tx.incr(key)

    async with running(app) as world:
        asker = Asker()
        commands = [
            MutateState(asker, f"c{number % 7}", number // 7 + 1, "counter.add", ["a"], ANN)
            for number in range(700)
        ]
        world.owner.submit_nowait(commands, 0)
        await trio.sleep(1)
        assert await world.read("counter", "a") == {"a": 700}
        assert len(asker.told) == 700
        assert {told[2] for told in asker.told} == {"ok"}


@pytest.mark.parametrize("is_volatile", [False, True])
async def test_entries_of_both_kinds_change_together(autojump_clock, is_volatile):
    app = App()
    app.collection("kept")
    app.collection("shown", volatile=is_volatile)

    @app.mutator
    def both(tx, number: int):
        seen = tx.get("a", collection="shown") or 0
        tx.put("a", seen + number, collection="shown")
        tx.put("a", seen + number, collection="kept")

    async with running(app) as world:
        asker = Asker()
        commands = [MutateState(asker, "c1", mid, "both", [1], ANN) for mid in range(1, 11)]
        world.owner.submit_nowait(commands, 0)
        await trio.sleep(1)
        assert await world.read("kept", "a") == {"a": 10}
        assert await world.read("shown", "a") == {"a": 10}
        assert len(world.listener.data("shown")) == 10


async def test_memory_that_was_wrong_is_read_anew_after_a_conflict(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "orders.create", {"order_id": "7", "customer": "ann"})
        # As after a crash of the store that committed all the same: the store knows more than memory.
        write = EntryWrite("orders", "7", msgpack.packb({"customer": "bob"}), b"\x00")
        world.file.begin_commit([MutationCommit(None, 0, [], [write], b"", 0)])
        world.file.commit()
        await world.mutate(asker, 2, "orders.ship", {"order_id": "7"})
        assert asker.told[-1] == ("outcome", 2, "ok")
        found = await world.read("orders", "7")
        assert found == {"7": {"customer": "bob", "status": "shipped"}}


async def test_what_a_commit_without_an_answer_may_have_changed_is_read_anew(autojump_clock):
    async with running(orders_app()) as world:
        asker = Asker()
        await world.mutate(asker, 1, "orders.create", {"order_id": "7", "customer": "ann"})
        world.file.loses_answer = True
        await world.mutate(asker, 2, "orders.ship", {"order_id": "7"})
        assert asker.told[-1] == ("error", 2, "store_unavailable")
        found = await world.read("orders", "7")
        assert found == {"7": {"customer": "ann", "status": "shipped"}}
