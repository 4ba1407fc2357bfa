"""Two nodes whose Redis is away, hangs, or tells nothing: clients stay, what they want waits, and all of it is made good without a restart."""

import contextlib
import http.client
import json
import tempfile
from pathlib import Path

import pytest
import trio

from syncd.client import ConnectionState, open_client
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import readiness_of, wait_for
from tests.integration.two_nodes import (
    data_of,
    publish,
    put,
    subscribe,
    two_nodes,
    until_done,
    value_of,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]

READY = (200, [])
BUS_DOWN = (503, ["The bus to the other nodes is down."])
REFUSED = "The store cannot commit."
MUTATIONS = 20


@pytest.fixture
def server():
    with (
        tempfile.TemporaryDirectory(prefix="syncd-") as folder,
        RedisServer(Path(folder), appendfsync="always") as redis,
    ):
        yield redis


@pytest.fixture
async def world(server, tmp_path):
    async with two_nodes(server.url, tmp_path) as world:
        yield world


def ready(node):
    return trio.to_thread.run_sync(readiness_of, node.addresses[0][1])


async def until_ready(world, is_so):
    for node in world.nodes:
        await wait_for(lambda node=node: ready(node), is_so)


async def test_mutations_made_while_redis_hangs_take_effect_once_each_when_it_goes_on(
    world, server
):
    """What the store sent before it gave up is done by Redis afterwards, though nobody was told: then it is not done again."""
    urls = [f"http://127.0.0.1:{node.addresses[0][1]}" for node in world.nodes]
    async with open_client(urls[0]) as here, open_client(urls[1]) as there:
        clients = (here, there)
        for client in clients:
            assert await client.mutate("orders.incr", key="begun").server() in (1, 2)
        ids = [client.client_id for client in clients]
        left = []
        async with trio.open_nursery() as watching:
            for client in clients:
                watching.start_soon(note_leaving, client, left)
            with server.stopped():
                made = [
                    [client.mutate("orders.incr", key="sum") for _ in range(MUTATIONS)]
                    for client in clients
                ]
                await until_ready(world, lambda told: REFUSED in told[1])
                assert [each.outcome for mutations in made for each in mutations] == [None] * (
                    2 * MUTATIONS
                )
            with trio.fail_after(30):
                values = [[await each.server() for each in mutations] for mutations in made]
            watching.cancel_scope.cancel()
        assert sorted(values[0] + values[1]) == [*range(1, 2 * MUTATIONS + 1)]
        for own in values:
            assert own == sorted(own), "in the order in which they were made"
        newest = max(
            (each.outcome for mutations in made for each in mutations), key=lambda told: told.value
        )
        for client, own in zip(clients, values, strict=True):
            # Of the other's mutations this one was told nothing: they are read where their outcome is named.
            assert await sum_of(client) >= own[-1]
            assert await sum_of(client, after=newest.positions) == 2 * MUTATIONS
        assert (left, [client.client_id for client in clients]) == ([], ids)
        await until_ready(world, lambda told: told == READY)
        assert {each.num_restarts for node in world.nodes for each in node.health()} == {0}


async def sum_of(client, **options):
    (entry,) = (await client.read("orders", ["sum"], **options)).entries
    return entry.value


async def note_leaving(client, left):
    async for state in client.states():
        if state is not ConnectionState.CONNECTED:
            left.append(state)


async def test_a_cut_of_the_bus_alone_is_told_and_what_it_lost_is_made_good(world, server):
    author, reader = await world.connect(0), await world.connect(1)
    await subscribe(reader, "log:a")
    await publish(author, "log:a", 0)
    assert await data_of(reader, 1) == [0]
    await until_ready(world, lambda told: told == READY)
    server.ask("ACL", "SETUSER", "default", "-subscribe", "-ssubscribe")
    assert server.ask("CLIENT", "KILL", "TYPE", "pubsub") >= 2
    await until_ready(world, lambda told: told == BUS_DOWN)
    for number in range(1, 6):
        await publish(author, "log:a", number)
    outcome = await put(author, "orders", "a", 1)
    assert await value_of(reader, "a", after=outcome["positions"]) == 1
    server.ask("ACL", "SETUSER", "default", "+subscribe", "+ssubscribe")
    await until_ready(world, lambda told: told == READY)
    assert await data_of(reader, 5) == [1, 2, 3, 4, 5]


@contextlib.asynccontextmanager
async def killed(server):
    server.kill()
    yield
    await trio.to_thread.run_sync(server.start)


@contextlib.asynccontextmanager
async def hanging(server):
    with server.stopped():
        yield


@pytest.mark.parametrize("away", [killed, hanging])
async def test_while_redis_is_away_clients_stay_memory_is_read_and_writes_are_told_to_come_back(
    world, server, away
):
    node = world.nodes[0]
    author, reader = await world.connect(0), await world.connect(0)
    for channel in ("log:a", "live:a"):
        await subscribe(reader, channel)
    await put(author, "orders", "read", "as read")
    await put(author, "orders", "watched", "as watched")
    assert await value_of(author, "read") == "as read"
    await until_done(reader, "watch", collection="orders", keys=["watched"])
    await publish(author, "log:a", "before")
    assert await data_of(reader, 1) == ["before"]
    await until_ready(world, lambda told: told == READY)
    async with away(server):
        await wait_for(lambda: told_to_operators(node), lambda told: REFUSED in told)
        status, reasons = await ready(node)
        assert (status, REFUSED in reasons) == (503, True)
        kind, refused = await author.ask("publish", channel="log:a", data="meanwhile", uid="u-1")
        assert (kind, refused["code"], refused["retryable"]) == ("error", "store_unavailable", True)
        assert refused["after_ms"] > 0
        assert await value_of_now(author, "read") == "as read"
        assert await value_of_now(author, "watched") == "as watched"
        assert (await author.ask("publish", channel="live:a", data="live"))[0] == "ok"
        assert await data_of(reader, 1) == ["live"]
    await publish(author, "log:a", "meanwhile", uid="u-1")
    await publish(author, "log:a", "after")
    assert await data_of(reader, 2) == ["meanwhile", "after"], "once, though it was sent twice"
    await until_ready(world, lambda told: told == READY)
    assert await told_to_operators(node) == []
    assert {each.num_restarts for node in world.nodes for each in node.health()} == {0}


async def value_of_now(client, key):
    """Read one order without asking again."""
    kind, answer = await client.ask("read", collection="orders", keys=[key])
    assert kind != "error", answer
    return answer["entries"][0]["value"]


async def told_to_operators(node):
    """What both `syncd info` and the dashboard say of readiness; nobody has to ask for that first."""
    info = await trio.to_thread.run_sync(ask_as_operator, node, "/api/info")
    stats = await trio.to_thread.run_sync(ask_as_operator, node, "/api/admin/stats")
    return [each for each in info["not_ready"] if each in stats["now"]["not_ready"]]


def ask_as_operator(node, path):
    connection = http.client.HTTPConnection("127.0.0.1", node.addresses[0][1], timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer key-of-the-tests"})
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())
    finally:
        connection.close()
