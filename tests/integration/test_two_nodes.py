"""Two nodes in one Trio run that share a real Redis: what one commits reaches clients of the other, and what the bus loses is found."""

import tempfile
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import wait_for
from tests.integration.two_nodes import (
    check_outcomes,
    check_reads_follow_writes,
    check_watches,
    data_of,
    mutate,
    publish,
    put,
    subscribe,
    two_nodes,
)

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def server():
    with (
        tempfile.TemporaryDirectory(prefix="syncd-two-") as folder,
        RedisServer(Path(folder), appendfsync="always") as redis,
    ):
        yield redis


@pytest.fixture
def redis(server):
    client = server.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture
async def world(server, redis, tmp_path):
    async with two_nodes(server.url, tmp_path) as world:
        yield world


@pytest.mark.parametrize("channel", ["log:a", "mem:a", "now:a"])
async def test_both_nodes_publish_into_one_order(world, channel):
    here, there = await world.connect(0), await world.connect(1)
    author_here, author_there = await world.connect(0), await world.connect(1)
    for reader in (here, there):
        await subscribe(reader, channel)
    async with trio.open_nursery() as nursery:

        async def write(author, name):
            for n in range(20):
                await publish(author, channel, [name, n], key=f"{name}{n}")

        nursery.start_soon(write, author_here, "here")
        nursery.start_soon(write, author_there, "there")
    seen = [[(await reader.expect("event"))[1] for _ in range(40)] for reader in (here, there)]
    assert [e["offset"] for e in seen[0]] == list(range(1, 41))
    assert [(e["offset"], e["data"]) for e in seen[0]] == [
        (e["offset"], e["data"]) for e in seen[1]
    ]


async def test_an_ephemeral_publication_reaches_the_other_node_and_is_told_once_at_home(world):
    here, there, author = await world.connect(0), await world.connect(1), await world.connect(0)
    await subscribe(here, "live:a")
    await subscribe(there, "live:a")
    await wait_for(
        trio.lowlevel.checkpoint,
        lambda _: world.nodes[1].bridge.statistics().bus.num_subscribed > 0,
    )
    for n in range(5):
        await publish(author, "live:a", n)
    assert await data_of(there, 5) == [0, 1, 2, 3, 4]
    assert await data_of(here, 5) == [0, 1, 2, 3, 4]


async def test_who_comes_from_another_node_with_a_position_misses_nothing(world):
    author, first = await world.connect(0), await world.connect(0)
    resident = await world.connect(1)
    await subscribe(resident, "log:a")
    await subscribe(first, "log:a")
    for n in range(3):
        await publish(author, "log:a", n)
    events = [(await first.expect("event"))[1] for _ in range(3)]
    position = {"epoch": events[-1]["epoch"], "offset": events[-1]["offset"]}
    # The other node may not have heard of these yet: a position ahead of it is not lost.
    moved = await world.connect(1)
    answer = await subscribe(moved, "log:a", position=position)
    assert answer["recovered"]
    assert answer["events"] == []
    await publish(author, "log:a", "next")
    assert await data_of(moved, 1) == ["next"]


async def test_what_the_bus_loses_is_found_in_the_log(world, redis):
    reader, author = await world.connect(1), await world.connect(0)
    await subscribe(reader, "log:a")
    await publish(author, "log:a", 0)
    assert await data_of(reader, 1) == [0]
    redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    for n in range(1, 6):
        await publish(author, "log:a", n)
    assert await data_of(reader, 5) == [1, 2, 3, 4, 5]


async def test_a_watch_on_one_node_is_told_what_a_client_of_the_other_changes(world):
    await check_watches(world, "a")


async def test_an_entry_in_memory_of_one_node_is_not_served_after_the_other_changed_it(world):
    await check_reads_follow_writes(world, "a")


async def test_counters_that_both_nodes_raise_lose_nothing(world):
    clients = [await world.connect(index % 2) for index in range(6)]
    async with trio.open_nursery() as nursery:

        async def count(client):
            for _ in range(15):
                await mutate(client, "orders.incr", key="sum")

        for client in clients:
            nursery.start_soon(count, client)
    for client in clients[:2]:
        _, answer = await client.ask("read", collection="orders", keys=["sum"])
        assert answer["entries"][0]["value"] == 90


async def test_a_mutation_sent_again_through_the_other_node_is_answered_and_not_repeated(world):
    await check_outcomes(world, "sum")


async def test_an_invalidation_on_one_node_has_the_other_load_anew(world):
    reader = await world.connect(1)
    _, before = await reader.ask("read", collection="prices", keys=["a"])
    assert before["entries"][0]["value"] == 1
    kind, _ = await reader.ask("watch", collection="prices", keys=["a"])
    assert kind == "watched"
    world.source["a"] = 2
    await world.apps[0].invalidate("prices", keys="a")
    _, event = await reader.expect("event")
    assert event["data"] == {"value": 2}


async def test_a_volatile_collection_is_one_for_both(world):
    here, there = await world.connect(0), await world.connect(1)
    await put(here, "drafts", "a", "text")
    _, answer = await there.ask("read", collection="drafts", keys=["a"])
    assert answer["entries"][0]["value"] == "text"


async def test_a_node_that_starts_later_has_everything(world):
    author = await world.connect(0)
    await publish(author, "log:a", 1)
    await put(author, "orders", "a", 1)
    async with world.node():
        late = await world.connect(2)
        answer = await subscribe(late, "log:a")
        assert answer["position"]["offset"] == 1
        _, read = await late.ask("read", collection="orders", keys=["a"])
        assert read["entries"][0]["value"] == 1


async def test_changes_made_on_both_nodes_are_told_the_application_by_one_and_in_order(world):
    here, there = await world.connect(0), await world.connect(1)
    for n in range(20):
        await put((here, there)[n % 2], "accounts", "a", n)
        await put((there, here)[n % 2], "accounts", f"k{n}", n)
    told = await wait_for(
        trio.lowlevel.checkpoint,
        lambda _: (
            {each[1] for each in world.told} >= {f"k{n}" for n in range(20)}
            and any(each[1] == "a" and each[3] == 19 for each in world.told)
        ),
    )
    assert told is None
    versions = [version for _, key, version, _ in world.told if key == "a"]
    assert versions == sorted(versions)
    assert len({id(app) for app, *_ in world.told}) == 1
    # Once it was acknowledged no node takes the entry for dirty any more.
    for node in world.nodes:
        holding = node.cache_owner.holdings.by_name["accounts"]
        await wait_for(
            trio.lowlevel.checkpoint, lambda _, h=holding: not (h.dirty or h.dirty_elsewhere)
        )


async def test_either_node_tells_what_operators_did_on_both(world):
    async with httpx.AsyncClient(headers={"Authorization": "Bearer key-of-the-tests"}) as http:
        urls = [f"http://127.0.0.1:{node.addresses[0][1]}/api" for node in world.nodes]

        async def told(url):
            entries = (await http.get(f"{url}/audit")).json()["entries"]
            return [entry["details"]["user"] for entry in entries]

        for number, url in enumerate([*urls, *urls]):
            await http.post(f"{url}/disconnect", json={"user": f"user-{number}"})
            expected = [f"user-{n}" for n in range(number, -1, -1)]
            for each in urls:
                await wait_for(partial(told, each), lambda told, all_=expected: told == all_)
