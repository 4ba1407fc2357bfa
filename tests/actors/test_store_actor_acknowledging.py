"""Outcomes that were told and changes that were forwarded are acknowledged between transactions, on the disk too."""

import pytest
import trio

from syncd.ports_state import DirtyKey, KeyName, KnownOutcome
from syncd.store.sqlite import SqliteStore
from tests.actors.store_state_world import EPOCH, ORDERS, HeldWorker, WatchedStore, mutation
from tests.actors.store_world import OPTIONS, desk_of, settled


@pytest.fixture
def store():
    return WatchedStore()


async def test_acknowledgements_reach_the_store_between_transactions_only(
    store, nursery, autojump_clock
):
    worker = HeldWorker()
    desk = desk_of(store, worker, trim_s=1000.0)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1), mutation("c", 2))
    await settled()
    desk.actor.acknowledge("c", 2)
    desk.actor.acknowledge("c", 1)
    assert store.calls == [("begin_commit", 2)]
    await worker.step()
    desk.commit(mutation("c", 2), tag="again")
    await settled()
    assert store.calls[2:4] == [("acknowledge", "c", 2), ("begin_commit", 1)]
    await worker.step()
    assert desk.answer("again") == [KnownOutcome(None, {})]


async def test_acknowledgements_reach_the_disk_without_further_mutations(
    tmp_path, nursery, autojump_clock
):
    store = SqliteStore(tmp_path / "log.db", OPTIONS)
    store.open()
    desk = desk_of(store, trim_s=1.0)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1))
    await settled()
    desk.actor.acknowledge("c", 1)
    await trio.sleep(1.5)
    assert store._connection.execute("SELECT count(*) FROM outcome").fetchone() == (0,)


async def test_acknowledgements_of_many_clients_reach_the_store_some_at_a_time(
    store, nursery, autojump_clock
):
    desk = desk_of(store, transaction_requests=2, trim_s=1.0)
    for client in "abcde":
        desk.actor.acknowledge(client, 1)
    desk.commit(mutation("x", 1))
    await nursery.start(desk.actor.run)
    await settled()
    told = [("acknowledge", client, 1) for client in "abcde"]
    assert store.calls == [*told[:2], ("begin_commit", 1), ("commit",)]
    await trio.sleep(1.1)
    assert store.calls[4:] == told[2:]


async def test_acknowledgements_past_the_capacity_are_dropped(store, nursery, autojump_clock):
    desk = desk_of(store, capacity=2)
    for client in "abc":
        desk.actor.acknowledge(client, 1)
    desk.actor.acknowledge("a", 2)
    await nursery.start(desk.actor.run)
    await trio.sleep(1.5)
    assert store.calls[:2] == [("acknowledge", "a", 2), ("acknowledge", "b", 1)]
    assert ("acknowledge", "c", 1) not in store.calls


async def test_acknowledgements_of_two_lives_of_the_store_are_not_taken_together(
    store, nursery, autojump_clock
):
    """The highest number of the older life is that of a mutation that is not acknowledged."""
    desk = desk_of(store)
    for upto, era in ((5, "old"), (4, "old"), (1, "new"), (2, "new")):
        desk.actor.acknowledge("c", upto, era)
    await nursery.start(desk.actor.run)
    await trio.sleep(1.5)
    assert store.calls[0] == ("acknowledge", "c", 2, "new")


async def test_forwarded_changes_reach_the_store_between_transactions_only(
    store, nursery, autojump_clock
):
    worker = HeldWorker()
    desk = desk_of(store, worker, trim_s=1000.0)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1, "k", "l", is_forwarded=True))
    await settled()
    for key, version in (("k", 1), ("l", 2), ("l", 1)):
        desk.actor.acknowledge_forwarded(ORDERS, KeyName(key), version, EPOCH)
    assert store.calls == [("begin_commit", 1)]
    await worker.step()
    desk.commit(mutation("c", 2, "k", is_forwarded=True))
    await settled()
    told = [("forwarded", ORDERS, "k", 1), ("forwarded", ORDERS, "l", 2)]
    assert store.calls[2:5] == [*told, ("begin_commit", 1)]
    await worker.step()
    desk.read_state(lambda reader: reader.dirty("orders", None, 10), tag="dirty")
    await settled()
    await worker.step()
    assert desk.answer("dirty") == [DirtyKey(ORDERS, KeyName("k"), 3)]


async def test_a_read_sees_what_was_acknowledged_before_it(store, nursery, autojump_clock):
    desk = desk_of(store, trim_s=1000.0)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1, "k", "l", is_forwarded=True))
    await settled()
    desk.actor.acknowledge_forwarded(ORDERS, KeyName("k"), 1, EPOCH)
    desk.read_state(lambda reader: reader.dirty("orders", None, 10), tag="dirty")
    await settled()
    assert [found.key for found in desk.answer("dirty")] == ["l"]


async def test_forwarded_changes_leave_the_disk_without_further_mutations(
    tmp_path, nursery, autojump_clock
):
    store = SqliteStore(tmp_path / "log.db", OPTIONS)
    store.open()
    desk = desk_of(store, trim_s=1.0)
    await nursery.start(desk.actor.run)
    desk.commit(mutation("c", 1, "k", "l", is_forwarded=True))
    await settled()
    desk.actor.acknowledge_forwarded(ORDERS, KeyName("k"), 1, EPOCH)
    await trio.sleep(1.5)
    assert store._connection.execute("SELECT key, version FROM dirty").fetchall() == [("l", 2)]


async def test_forwarded_changes_past_the_capacity_stay_dirty(store, nursery, autojump_clock):
    desk = desk_of(store, capacity=2)
    for key in "abc":
        desk.actor.acknowledge_forwarded(ORDERS, KeyName(key), 1, EPOCH)
    desk.actor.acknowledge_forwarded(ORDERS, KeyName("a"), 2, EPOCH)
    await nursery.start(desk.actor.run)
    await trio.sleep(1.5)
    assert [call[2:] for call in store.calls if call[0] == "forwarded"] == [("a", 2), ("b", 1)]
