"""Collections and mutations of the Python client against a real node in this process."""

import random

import pytest
import trio

from syncd import App
from syncd.client import (
    MutationRejected,
    RequestFailed,
    SubscriptionClosed,
    open_client,
)
from syncd.config import Address, Config
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node

app = App()
orders = app.collection("orders", read="anyone", mutate="anyone")


@orders.mutator
def create(tx, order_id: str, total: int):
    tx.put(order_id, {"status": "new", "total": total, "text": "x" * 400})
    return order_id


@orders.mutator
def ship(tx, order_id: str, carrier: str):
    order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
    if order["status"] != "new":
        tx.reject("not_shippable", f"The order is {order['status']}.")
    tx.patch(order_id, {"status": "shipped", "carrier": carrier})


@orders.mutator
def count(tx, key: str):
    tx.incr(key)


MUTATORS = {"orders.create": create, "orders.ship": ship, "orders.count": count}


class Running:
    """A node and how to reach it."""

    def __init__(self, node):
        host, port = node.addresses[0][:2]
        self.node = node
        self.url = f"http://{host}:{port}"
        self.streams = []

    def client(self, **options):
        options.setdefault("mutators", MUTATORS)
        return open_client(self.url, rng=random.Random(1), open_stream=self.open_stream, **options)

    async def open_stream(self):
        host, port = self.node.addresses[0][:2]
        stream = await trio.open_tcp_stream(host, port)
        self.streams.append(stream)
        return stream

    async def cut(self):
        streams, self.streams = self.streams, []
        for stream in streams:
            await trio.aclose_forcefully(stream)


@pytest.fixture
async def running(tmp_path):
    config = Config(listen=Address(port=0), db=str(tmp_path / "syncd.db"))
    definition = app_in_force(app.definition(), config)
    with trio.fail_after(30):
        async with open_node(config, definition) as node:
            yield Running(node)


async def until(condition):
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await trio.sleep(0.01)


async def test_a_mutation_shows_at_once_and_its_outcome_follows_for_everybody(running):
    async with (
        running.client() as alice,
        running.client() as bob,
        alice.collection("orders").watch(all=True) as mine,
        bob.collection("orders").watch(keys=["7"]) as theirs,
    ):
        made = alice.mutate("orders.create", order_id="7", total=3)
        assert made.local == "7"
        assert mine.get("7")["total"] == 3
        assert mine.pending("7") == (made.id,)
        assert await made.server() == "7"
        assert not mine.is_pending("7")
        await until(lambda: theirs.get("7") is not None)
        shipped = bob.mutate("orders.ship", order_id="7", carrier="dhl")
        assert theirs.get("7")["status"] == "shipped"
        await shipped.server()
        await until(lambda: mine.get("7")["status"] == "shipped")
        assert dict(mine.items()) == dict(theirs.items())


async def test_a_rejection_rolls_back_with_its_reason(running):
    async with running.client() as alice, running.client(mutators={}) as bob:
        await alice.mutate("orders.create", order_id="7", total=3).server()
        await alice.mutate("orders.ship", order_id="7", carrier="dhl").server()
        with pytest.raises(MutationRejected) as raised:
            await bob.mutate("orders.ship", order_id="7", carrier="ups").server()
        assert raised.value.code == "not_shippable"
        [entry] = (await bob.read("orders", ["7"])).entries
        assert entry.value["carrier"] == "dhl"


async def test_mutations_over_many_broken_connections_take_effect_once_each_in_order(running):
    async with (
        running.client() as alice,
        running.client() as bob,
        alice.collection("orders").watch(all=True) as mine,
        bob.collection("orders").watch(all=True) as theirs,
    ):
        for n in range(60):
            alice.mutate("orders.count", key="n")
            bob.mutate("orders.count", key="n")
            assert mine.get("n") >= n + 1
            if n % 10 == 5:
                await running.cut()
                alice.wake()
                bob.wake()
            await trio.sleep(0.005)
        await alice.settled()
        await bob.settled()
        await until(lambda: mine.get("n") == theirs.get("n") == 120)
        assert (await alice.read("orders", ["n"])).entries[0].value == 120


async def test_a_view_never_goes_back_while_its_own_mutations_are_decided(running):
    """SETTLE: every state that `changes` shows of a counter that only this client raises is at least the last."""
    async with running.client() as alice, alice.collection("orders").watch(all=True) as view:
        seen = [0]

        async def look():
            async for _ in view.changes():
                assert view.get("n", 0) >= seen[-1]
                seen[:] = [view.get("n", 0)]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            for n in range(100):
                alice.mutate("orders.count", key="n")
                if n % 25 == 24:
                    await running.cut()
                    alice.wake()
                await trio.sleep(0.002)
            await alice.settled()
            nursery.cancel_scope.cancel()
        assert view.get("n") == seen[0] == 100


async def test_an_unknown_collection_ends_the_watch_and_refuses_the_read(running):
    async with running.client() as client:
        with pytest.raises(SubscriptionClosed, match="permission_denied"):
            async with client.collection("nothing").watch(all=True):
                pass
        with pytest.raises(RequestFailed, match="permission_denied"):
            await client.read("nothing", ["k"])
        with pytest.raises(MutationRejected):
            await client.mutate("nothing.put", key="k", value=1).server()
