"""The Python client's presence and history, against the model server."""

import pytest
import trio

from syncd.client import Position
from tests.integration.model_node import Node, take, until


@pytest.fixture
async def node(nursery):
    return Node(nursery)


async def test_members_come_change_and_go(autojump_clock, node):
    async with (
        node.client() as alice,
        node.client() as bob,
        bob.presence("demo:a") as seen,
    ):
        async with alice.presence("demo:a") as room:
            await room.set({"name": "Alice"})
            await until(lambda: seen.members)
            [member] = seen.members
            assert (member.member, member.states[0].state) == (alice.client_id, {"name": "Alice"})
            await room.set({"name": "A."})
            await until(lambda: seen.members[0].states[0].state == {"name": "A."})
        await until(lambda: not seen.members)


async def test_presence_is_announced_again_after_a_reconnect(autojump_clock, node):
    async with node.client() as client, client.presence("demo:a") as room:
        await room.set(1)
        await node.cut()
        node.model.channel("demo:a").members.clear()
        await until(lambda: node.model.channel("demo:a").members)
        assert list(node.model.channel("demo:a").members.values()) == [1]


async def test_iterating_presence_yields_the_newest_members(autojump_clock, node):
    async with node.client() as client, client.presence("demo:a") as room:
        assert await anext(room) == ()
        for n in range(5):
            node.model.announce("demo:a", f"c{n}", n)
        await trio.sleep(1)
        assert len(await anext(room)) == 5
        await room.leave()


async def test_presence_and_events_of_one_channel_live_side_by_side(autojump_clock, node):
    node.model.announce("demo:a", "p", 1)
    async with node.client() as client, client.subscribe("demo:a") as subscription:
        async with client.presence("demo:a") as room:
            assert [m.member for m in room.members] == ["p"]
            node.model.publish("demo:a", 1)
            await take(subscription, 1)
        node.model.publish("demo:a", 2)
        assert (await take(subscription, 1))[0].data == 2
    async with node.client() as client, client.presence("demo:a") as room:
        async with client.subscribe("demo:a") as subscription:
            node.model.publish("demo:a", 3)
            assert (await take(subscription, 1))[0].data == 3
        node.model.announce("demo:a", "q", 1)
        await until(lambda: len(room.members) == 2)


async def test_history_is_read_forward_and_backward(autojump_clock, node):
    for n in range(5):
        node.model.publish("demo:a", n)
    epoch = node.model.channel("demo:a").epoch
    async with node.client() as client:
        page = await client.history("demo:a", since=Position(epoch, 2), limit=2)
        assert [e.data for e in page.events] == [2, 3]
        assert page.position == Position(epoch, 5)
        page = await client.history("demo:a", reverse=True, limit=2)
        assert [e.data for e in page.events] == [4, 3]
