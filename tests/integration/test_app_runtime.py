"""An application's own code asks the node that runs it: from loaders, hooks, authorizers and tasks."""

import pytest
import trio

from syncd import App, ConfigError, MutationRejected, Tagged
from syncd.errors import RequestRejected, SyncdError
from tests.integration.nodes import DURABLE, make_config, running


@pytest.fixture
def app():
    return App()


def running_app(folder, app):
    return running(make_config(folder, DURABLE), app=app)


async def test_a_backend_reads_mutates_and_invalidates_in_its_own_process(tmp_path, app):
    source = {"apple": 30}
    stock = app.collection("stock", partitioned=True)
    prices = app.collection("prices", ttl="10 min", volatile=True)

    @stock.mutator
    def take(tx, key: str, pieces: int):
        left = (tx.get(key) or 10) - pieces
        if left < 0:
            tx.reject("sold_out", "Not so many.")
        tx.put(key, left)
        return left

    @prices.loader
    async def load(key):
        return Tagged(source[key], ["fruit"]) if key in source else None

    async with running_app(tmp_path, app):
        assert await app.mutate("stock.take", ("eu/apple", 3)) == 7
        assert await app.mutate("stock.take", {"key": "us/pear", "pieces": 1}) == 9
        with pytest.raises(MutationRejected) as caught:
            await app.mutate("stock.take", ["eu/apple", 8])
        assert (caught.value.code, caught.value.message) == ("sold_out", "Not so many.")
        keys = ["eu/apple", "us/pear", "us/plum"]
        assert await app.read("stock", keys) == {"eu/apple": 7, "us/pear": 9}
        assert await app.read("prices", ["apple", "plum"]) == {"apple": 30}
        source["apple"] = 31
        await app.invalidate("prices", tags="fruit")
        assert await app.read("prices", "apple") == {"apple": 31}


async def test_under_one_key_the_applications_mutation_happens_once(tmp_path, app):
    app.collection("counts", write="anyone")
    async with running_app(tmp_path, app):
        for _ in range(3):
            assert await app.mutate("counts.incr", ["a"], idempotency_key="k") == 1
        with pytest.raises(SyncdError) as caught:
            await app.mutate("counts.incr", ["b"], idempotency_key="k")
        assert caught.value.code.value == "idempotency_mismatch"
        assert await app.read("counts", ["a", "b"]) == {"a": 1}


async def test_a_loader_may_read_another_collection_and_a_hook_may_invalidate_it(tmp_path, app):
    loaded, forwarded = [], trio.Event()
    orders = app.collection("orders", write="anyone")
    totals = app.collection("totals", ttl="10 min", volatile=True)

    @totals.loader
    async def total(key):
        loaded.append(key)
        return (await app.read("orders", key)).get(key, {}).get("cents", 0)

    @orders.on_commit
    async def forward(change):
        await app.invalidate("totals", keys=change.key)
        forwarded.set()

    async with running_app(tmp_path, app):
        assert await app.read("totals", "o1") == {"o1": 0}
        await app.mutate("orders.put", {"key": "o1", "value": {"cents": 5}})
        with trio.fail_after(10):
            await forwarded.wait()
        assert await app.read("totals", "o1") == {"o1": 5}
        assert loaded == ["o1", "o1"]


async def test_a_warm_up_may_read(tmp_path, app):
    warmed = trio.Event()
    app.collection("hot", write="anyone")
    prices = app.collection("prices", ttl="10 min", volatile=True)

    @prices.loader
    async def load(key):
        warmed.set()
        return 1

    @prices.warm
    async def warm():
        return [*await app.read("hot", "none"), "apple"]

    async with running_app(tmp_path, app):
        with trio.fail_after(10):
            await warmed.wait()


@pytest.mark.parametrize("args", [object(), {"key": 2**53}, {1: 2}, {"key": {1, 2}}])
async def test_arguments_that_no_client_could_send_are_rejected(tmp_path, app, args):
    app.collection("counts", write="anyone")
    async with running_app(tmp_path, app):
        with pytest.raises(MutationRejected) as caught:
            await app.mutate("counts.incr", args)
        assert caught.value.code == "bad_arguments"


async def test_a_key_that_is_none_is_refused_before_anything_happens(tmp_path, app):
    app.collection("notes", partitioned=True)
    async with running_app(tmp_path, app):
        for ask in (app.read("notes", ["a/1", "b"]), app.invalidate("notes", keys=["a/1", "b"])):
            with pytest.raises(RequestRejected) as caught:
                await ask
            assert caught.value.code.value == "bad_key"


async def test_an_application_is_closed_while_a_node_runs_it_and_free_again_after(tmp_path, app):
    app.collection("orders")
    with trio.CancelScope() as scope:
        async with running_app(tmp_path, app):
            with pytest.raises(ConfigError):
                app.collection("late")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    app.collection("late")
    with pytest.raises(RuntimeError, match="no node runs"):
        await app.read("orders", "a")
