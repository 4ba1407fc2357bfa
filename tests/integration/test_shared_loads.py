"""Two nodes that share a Redis and the loads of a collection: one asks the source, the other takes what it brings."""

import tempfile
from pathlib import Path

import msgpack
import pytest
import trio

from syncd.actors.cache_owner import claiming
from syncd.actors.kit import Reply
from syncd.ids import ChannelName
from syncd.model.definitions_check import app_in_force
from syncd.ports_state import Committed, EntryWrite, KeyName, MutationCommit
from syncd.server import open_node
from syncd.store.base import Retention, StoreOptions
from syncd.store.loads import ClaimState, FinishedLoad
from syncd.store.redis_store import RedisStore
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from syncd.wire.encode_entries import entry_record
from tests.integration.loads_world import LOAD_S, Source, expired, make_app, reading, two_nodes
from tests.integration.nodes import make_config, wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="syncd-") as folder, RedisServer(Path(folder)) as redis:
        yield redis


@pytest.fixture
def empty(server):
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
async def world(empty, tmp_path):
    async with two_nodes(empty, tmp_path) as world:
        yield world


def change(server, key, value):
    """Commit a change as a third node would."""
    options = StoreOptions(lambda _channel: Retention(1000, 3600.0))
    store = RedisStore(server.url, options, node="third")
    prices, name = ChannelName("prices"), KeyName(key)
    record = entry_record(name, 5, value=msgpack.packb(value))
    write = EntryWrite(prices, name, msgpack.packb(value), record)
    results = store.begin_commit([MutationCommit(None, 0, [], [write], b"", 5)])
    store.commit()
    store.close()
    assert isinstance(results[0], Committed)


async def finish(node, key):
    """End a node's claim of a key, with nothing loaded."""
    over, reply = FinishedLoad((ChannelName("prices"), KeyName(key)), 0.0), Reply()
    holder = node.name
    node.store.rebuild(lambda store: store.loads.finish(holder, [over]), reply.resolve)
    await reply.wait()


async def test_what_both_want_is_loaded_once(world):
    async with reading(world, "a", "b", "none") as (loader, answers):
        world.source.gate.set()
    assert answers == [[1, 2, None]] * 2
    assert world.source.calls == [(loader, ["a", "b", "none"])]
    assert world.count(loader, "keys_loaded") == 3
    assert world.count(1 - loader, "keys_taken") == world.count(1 - loader, "load_waits") == 3
    assert world.count(1 - loader, "loads") == world.count(loader, "keys_taken") == 0


async def test_what_is_fresh_on_one_node_is_taken_by_the_other_later(world):
    world.source.gate.set()
    assert await world.read(0, "a") == [1]
    assert await world.read(1, "a") == [1]
    assert len(world.source.calls) == 1
    assert world.count(1, "keys_taken") == 1
    assert await world.read(1, "a") == [1]
    assert world.count(1, "hits") == 1


@pytest.mark.parametrize("invalidator", [0, 1])
async def test_what_was_asked_before_an_invalidation_counts_on_no_node(world, invalidator):
    """DESIGN 5.9: the load that runs is discarded, by the node that waits for it too."""
    async with reading(world, "a") as (loader, answers):
        world.source.values["a"] = "new"
        await world.apps[invalidator].invalidate("prices", keys=["a"])
        other = world.nodes[1 - invalidator].cache_owner
        await wait_for(
            trio.lowlevel.checkpoint,
            lambda _: (
                other.holdings.heads.get("prices")
                == world.nodes[invalidator].cache_owner.holdings.heads.get("prices")
            ),
        )
        world.source.gate.set()
    assert answers == [["new"]] * 2
    assert world.source.calls[0] == (loader, ["a"])
    assert len(world.source.calls) == 2
    assert await world.read(0, "a") == await world.read(1, "a") == ["new"]
    assert len(world.source.calls) == 2


@pytest.mark.parametrize("what", [{"keys": ["a"]}, {"tags": ["t"]}, {"everything": True}])
async def test_whoever_reads_after_an_invalidation_reads_no_older_load_on_any_node(world, what):
    world.source.gate.set()
    assert await world.read(0, "a") == await world.read(1, "a") == [1]
    for number in range(2):
        world.source.values["a"] = f"new {number}"
        await world.apps[number].invalidate("prices", **what)
        head = world.nodes[number].cache_owner.holdings.heads.get("prices")
        after = {"prices": {"epoch": head.epoch, "offset": head.offset}}
        for client in world.clients:
            _, told = await client.ask("read", collection="prices", keys=["a"], after=after)
            assert [entry["value"] for entry in told["entries"]] == [f"new {number}"]
    assert len(world.source.calls) == 3


async def test_a_node_whose_holder_died_loads_for_itself_when_the_lease_is_over(world):
    """Whatever the time that a load may take."""
    place, reply, lease_s = (ChannelName("prices"), KeyName("a")), Reply(), 0.5
    world.nodes[0].store.rebuild(
        lambda store: store.loads.claim([place], "dead", lease_s, 1), reply.resolve
    )
    assert [claim.state for claim in await reply.wait()] == [ClaimState.GRANTED]
    world.source.gate.set()
    began_at = trio.current_time()
    assert await world.read(1, "a") == [1]
    assert lease_s * 0.8 <= trio.current_time() - began_at < LOAD_S
    assert world.source.calls == [(1, ["a"])]
    assert world.count(1, "load_waits") == 1


@pytest.mark.parametrize("what", ["new", "as it was", "failed"])
async def test_whoever_waits_learns_of_the_end_of_a_load_at_once(
    empty, tmp_path, monkeypatch, what
):
    """Without asking again and again, whether or not the load has changed anything."""
    async with two_nodes(empty, tmp_path, ttl=0.1) as world:
        if what == "as it was":
            world.source.gate.set()
            for number in range(2):
                assert await world.read(number, "a") == [1]
            await expired(world, "a")
            world.source.gate = trio.Event()
        monkeypatch.setattr(claiming, "POLL_S", 3600.0)
        async with reading(world, "a") as (loader, answers):
            if what == "failed":
                world.source.failures.append(loader)
            world.source.gate.set()
            began_at = trio.current_time()
        assert trio.current_time() - began_at < LOAD_S
        assert answers[1 - loader] == [1]


async def test_what_was_changed_while_a_load_was_waited_for_is_not_taken_for_unchanged(
    empty, tmp_path
):
    """Found by reading: the source had again what it had had before the change, and that was kept under its old version."""
    async with two_nodes(empty, tmp_path, ttl=0.1) as world:
        world.source.gate.set()
        for number in range(2):
            assert await world.read(number, "a") == [1]
        await expired(world, "a")
        world.source.gate = trio.Event()
        del world.source.calls[:]
        async with reading(world, "a") as (loader, _):
            await trio.to_thread.run_sync(change, empty, "a", 2)
            await wait_for(
                trio.lowlevel.checkpoint,
                lambda _: all(
                    node.cache_owner.holdings.heads.get("prices").offset == 2
                    for node in world.nodes
                ),
            )
            await finish(world.nodes[loader], "a")
            await wait_for(trio.lowlevel.checkpoint, lambda _: len(world.source.calls) == 2)
            world.source.gate.set()
        for number, client in enumerate(world.clients):
            _, told = await client.ask("read", collection="prices", keys=["a"])
            (entry,) = told["entries"]
            assert (entry["value"], entry["version"] > 2) == (1, True), number


async def test_whoever_waits_for_a_load_that_fails_tries_itself(world):
    async with reading(world, "a") as (loader, answers):
        world.source.failures.append(loader)
        world.source.gate.set()
    assert answers[loader] == "load_failed"
    assert answers[1 - loader] == [1]
    assert world.source.calls == [(loader, ["a"]), (1 - loader, ["a"])]


async def test_what_is_watched_on_both_nodes_is_loaded_once_when_it_is_invalidated(world):
    world.source.gate.set()
    for number, client in enumerate(world.clients):
        kind, told = await client.ask("watch", collection="prices", keys=["a", "b"])
        assert kind == "watched", told
        assert [entry["value"] for entry in told["entries"]] == [1, 2], number
    world.source.values["a"] = "new"
    num_calls = len(world.source.calls)
    await world.apps[0].invalidate("prices", everything=True)
    for client in world.clients:
        while True:
            _, event = await client.expect("event")
            if event.get("key") == "a":
                break
        assert event["data"]["value"] == "new"
    for number in range(2):
        assert await world.read(number, "a", "b") == ["new", 2]
    loaded = [key for _, keys in world.source.calls[num_calls:] for key in keys]
    assert sorted(loaded) == ["a", "b"]


async def test_an_invalidation_of_another_key_neither_ends_nor_doubles_a_load(world):
    """Where keys are invalidated all the time, an expensive load would hardly ever be shared."""
    async with reading(world, "a") as (loader, answers):
        await world.apps[1 - loader].invalidate("prices", keys=["b"])
        world.source.gate.set()
    assert answers == [[1]] * 2
    assert world.source.calls == [(loader, ["a"])]
    await world.apps[loader].invalidate("prices", keys=["b"])
    for node in world.nodes:
        node.cache_owner.holdings.by_name["prices"].memory.clear()
    for number in range(2):
        assert await world.read(number, "a") == [1]
    assert len(world.source.calls) == 1, "it is fresh, and was not meant"


async def test_what_is_loaded_once_more_after_it_was_discarded_is_shared_like_any_load(world):
    """The end of the first claim was told behind the second one, and ended that."""
    world.source.gate.set()
    assert await world.read(0, "a") == [1]
    await world.apps[0].invalidate("prices", keys=["a"])
    world.source.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.read, 0, "a")
        await wait_for(trio.lowlevel.checkpoint, lambda _: len(world.source.calls) == 2)
        world.source.values["a"] = "new"
        await world.apps[0].invalidate("prices", keys=["a"])
        world.source.gate.set()
    assert [node for node, _ in world.source.calls] == [0, 0, 0]
    assert await world.read(1, "a") == ["new"]
    assert [node for node, _ in world.source.calls] == [0, 0, 0]


async def test_a_node_that_stops_keeps_nobody_waiting(world, server, tmp_path):
    source = Source({"a": 1})
    config = make_config(tmp_path, redis=server.url)
    app = make_app(source, 2)
    async with (
        open_node(config, app_in_force(app.definition(), config)),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(app.read, "prices", "a")
        await wait_for(trio.lowlevel.checkpoint, lambda _: len(source.calls) == 1)
        nursery.cancel_scope.cancel("the reader goes; the load is under way when its node stops")
    world.source.gate.set()
    assert await world.read(0, "a") == [1]
    assert world.source.calls == [(0, ["a"])]
    assert world.count(0, "load_waits") == 0
