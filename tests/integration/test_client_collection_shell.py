"""Collections and mutations of the Python client over memory streams, against the model server, on a clock that jumps."""

import pytest
import trio

from syncd.client import (
    ClientClosed,
    ConnectionState,
    ConnectionStopped,
    MutationRejected,
    MutationUnknown,
    MutationUnsent,
    QueueFull,
    RequestFailed,
    SubscriptionClosed,
)
from syncd.client.collection import MAX_INVALIDATIONS
from syncd.client.state import MAX_PENDING
from syncd.client.values import NOTHING
from syncd.codes import CloseCode
from tests.integration.model_node import Node, until

CONNECTED = ConnectionState.CONNECTED


@pytest.fixture
async def node(nursery):
    return Node(nursery)


def ship(tx, order_id):
    order = tx.get(order_id)
    if order is None:
        tx.reject("unknown_order", "There is no such order.")
    tx.patch(order_id, {"status": "shipped"})
    return order["status"]


async def test_entering_a_watch_waits_for_the_complete_view(autojump_clock, node):
    node.model.state.write("orders", "7", 1)
    node.model.state.write("orders", "8", 2)
    node.model.state.page_size = 1
    async with node.client() as client, trio.open_nursery() as nursery:

        async def send_pages():
            while True:
                await trio.sleep(1)
                for session in node.model.sessions:
                    session.state.next_page()

        nursery.start_soon(send_pages)
        async with client.collection("orders").watch(all=True) as view:
            assert dict(view.items()) == {"7": 1, "8": 2}
            assert view.is_current
            assert "7" in view
            assert "9" not in view
            assert view.get("9", "none") == "none"
        nursery.cancel_scope.cancel()


async def test_a_mutation_is_shown_before_the_call_returns_and_settled_by_its_outcome(
    autojump_clock, node
):
    node.model.state.write("orders", "7", {"status": "new"})
    node.model.state.mutators["orders.ship"] = ship
    async with (
        node.client(mutators={"orders.ship": ship}) as client,
        client.collection("orders").watch(keys=["7"]) as view,
    ):
        mutation = client.mutate("orders.ship", order_id="7")
        assert mutation.local == "new"
        assert view.get("7") == {"status": "shipped"}
        assert view.pending("7") == (mutation.id,)
        assert await mutation.server() == "new"
        assert not view.is_pending("7")
        assert node.model.state.value(("orders", "7")) == {"status": "shipped"}


async def test_changes_come_one_by_one_and_together_to_a_slow_reader(autojump_clock, node):
    async with node.client() as client, client.collection("orders").watch(all=True) as view:
        changes = view.changes()
        node.model.state.write("orders", "a", 1)
        assert (await anext(changes)).keys == {"a"}
        for key in "abc":
            node.model.state.write("orders", key, 2)
            await trio.sleep(1)
        assert (await anext(changes)).keys == {"a", "b", "c"}
        with trio.move_on_after(5) as scope:
            await anext(changes)
        assert scope.cancelled_caught


async def test_a_view_says_when_it_is_not_current_and_keeps_what_it_has(autojump_clock, node):
    node.model.state.write("orders", "a", 1)
    async with node.client() as client, client.collection("orders").watch(all=True) as view:
        changes = view.changes()
        node.is_down = True
        await node.cut()
        assert not (await anext(changes)).is_current
        assert dict(view.items()) == {"a": 1}
        node.model.state.write("orders", "a", 2)
        node.is_down = False
        await until(lambda: view.is_current)
        assert dict(view.items()) == {"a": 2}


async def test_invalidations_are_handed_out_and_too_many_become_one_of_everything(
    autojump_clock, node
):
    async with node.client() as client, client.collection("orders").watch(all=True) as view:
        changes = view.changes()
        node.model.state.invalidate("orders", tags=["fruit"], cause="import")
        [told] = (await anext(changes)).invalidations
        assert (told.tags, told.cause, told.is_all) == (("fruit",), "import", False)
        for n in range(MAX_INVALIDATIONS + 1):
            node.model.state.invalidate("orders", keys=[str(n)])
        await trio.sleep(1)
        [told] = (await anext(changes)).invalidations
        assert told.is_all


async def test_mutations_made_offline_take_effect_once_and_in_order(autojump_clock, node):
    async with node.client() as client:
        await until(lambda: client.state is CONNECTED)
        node.is_down = True
        await node.cut()
        orders = client.collection("orders")
        made = [
            orders.put("a", {"n": 1}),
            orders.patch("a", {"m": 2}),
            orders.incr("a", 5, field="n"),
            orders.put("b", None),
            orders.delete("b"),
        ]
        await trio.sleep(30)
        assert all(mutation.outcome is None for mutation in made)
        node.is_down = False
        await client.settled()
        assert [mutation.outcome.status.value for mutation in made] == ["ok"] * 5
        assert node.model.state.value(("orders", "a")) == {"n": 6, "m": 2}
        assert node.model.state.value(("orders", "b")) is NOTHING
        assert await made[2].server() == 6


async def test_an_answer_lost_with_its_connection_is_heard_after_the_next(autojump_clock, node):
    async with node.client() as client:
        await until(lambda: client.state is CONNECTED)
        mutation = client.collection("orders").incr("n")
        await until(lambda: node.model.state.num_runs)
        await node.cut()
        assert await mutation.server() == 1
        assert list(node.model.state.num_runs.values()) == [1]


async def test_a_rejection_is_raised_with_its_reason_and_leaves_no_trace(autojump_clock, node):
    node.model.state.mutators["orders.ship"] = ship
    async with node.client() as client, client.collection("orders").watch(all=True) as view:
        with pytest.raises(MutationRejected, match="unknown_order"):
            await client.mutate("orders.ship", order_id="7").server()
        with pytest.raises(MutationRejected, match="version_mismatch"):
            await client.collection("orders").put("7", 1, if_version=99).server()
        assert dict(view.items()) == {}


async def test_a_local_mutator_that_raises_leaves_nothing_queued(autojump_clock, node):
    async with (
        node.client(mutators={"orders.ship": ship}) as client,
        client.collection("orders").watch(all=True),
    ):
        with pytest.raises(TypeError):
            client.mutate("orders.ship", wrong=1)
        with pytest.raises(MutationRejected, match="unknown_order"):
            client.mutate("orders.ship", order_id="7")
        await client.settled()
        assert node.model.state.last == {}


async def test_a_mutation_that_is_too_large_is_refused_at_once(autojump_clock, node):
    async with node.client() as client:
        with pytest.raises(RequestFailed, match="too_large"):
            client.collection("orders").put("a", "x" * 70_000)
        with pytest.raises(ValueError, match="Integers"):
            client.collection("orders").put("a", 2**60)
        await client.settled()


async def test_a_full_queue_refuses_and_takes_again_when_there_is_room(autojump_clock, node):
    async with node.client() as client:
        node.is_down = True
        await node.cut()
        orders = client.collection("orders")
        for _ in range(MAX_PENDING):
            orders.incr("n")
        with pytest.raises(QueueFull):
            orders.incr("n")
        node.is_down = False
        await client.settled()
        assert await orders.incr("n").server() == MAX_PENDING + 1


async def test_the_end_of_the_client_tells_sent_from_unsent(autojump_clock, node):
    async with node.client() as client:
        await until(lambda: client.state is CONNECTED)
        sent = client.collection("orders").put("a", 1)
        node.is_deaf = True
        node.is_down = True
        await node.cut()
        await until(lambda: client.state is not CONNECTED)
        unsent = client.collection("orders").put("b", 1)
    with pytest.raises(MutationUnknown):
        await sent.server()
    with pytest.raises(MutationUnsent):
        await unsent.server()
    with pytest.raises(ClientClosed):
        client.collection("orders").put("c", 1)


async def test_a_client_that_is_taken_over_raises_out_of_its_block(autojump_clock, node):
    async def be_taken_over():
        async with node.client() as client, client.collection("orders").watch(all=True) as view:
            node.session.end(CloseCode.TAKEN_OVER, reconnect=False)
            async for _ in view.changes():
                pass

    with pytest.raises(ConnectionStopped):
        await be_taken_over()


async def test_a_watch_that_the_server_ends_raises_from_its_changes(autojump_clock, node):
    async with node.client() as client, client.collection("orders").watch(all=True) as view:
        body = {"channel": "orders", "code": "revoked", "reason": "taken away"}
        node.session.send("unsubscribed", body)
        with pytest.raises(SubscriptionClosed, match="revoked"):
            async for _ in view.changes():
                pass


async def test_read_returns_entries_in_the_order_asked_and_what_is_not_there(autojump_clock, node):
    node.model.state.write("orders", "7", {"n": 1})
    async with node.client() as client:
        found = await client.read("orders", ["8", "7"])
        assert [(e.key, e.value, e.is_deleted) for e in found.entries] == [
            ("8", None, True),
            ("7", {"n": 1}, False),
        ]
        assert found.position.offset == 1


async def test_leaving_a_watch_ends_it_at_the_server(autojump_clock, node):
    async with node.client() as client:
        async with client.collection("orders").watch(all=True):
            assert "orders" in node.session.state.watched
        await until(lambda: "orders" not in node.session.state.watched)


async def test_a_watch_says_what_it_watches_in_exactly_one_way(autojump_clock, node):
    async with node.client() as client:
        with pytest.raises(ValueError, match="keys"):
            client.collection("orders").watch()
        with pytest.raises(ValueError, match="keys"):
            client.collection("orders").watch(keys=["a"], all=True)
