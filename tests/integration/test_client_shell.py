"""The Python client's subscriptions over trio-websocket and memory streams, against the model server, on a clock that jumps."""

import pytest
import trio

from syncd.client import (
    ConnectionState,
    Event,
    Position,
    PresenceChanged,
    RequestFailed,
    Reset,
    ResetCause,
    Subscribed,
    SubscriptionClosed,
)
from tests.integration.model_node import Node, take, until


@pytest.fixture
async def node(nursery):
    return Node(nursery)


# ---------------------------------------------------------------- publish and subscribe


async def test_what_one_client_publishes_another_receives_with_its_position(autojump_clock, node):
    async with (
        node.client() as alice,
        node.client() as bob,
        bob.subscribe("demo:a") as subscription,
    ):
        position = await alice.publish("demo:a", {"n": 1, "b": b"\x00"}, name="note", key="k")
        [event] = await take(subscription, 1)
        assert isinstance(event, Event)
        assert (event.data, event.name, event.key) == ({"n": 1, "b": b"\x00"}, "note", "k")
        assert (event.position, event.by) == (position, alice.client_id)
        assert subscription.position == position


async def test_a_subscription_goes_on_from_a_position(autojump_clock, node):
    for n in range(3):
        node.model.publish("demo:a", n)
    epoch = node.model.channel("demo:a").epoch
    async with (
        node.client() as client,
        client.subscribe("demo:a", Position(epoch, 1)) as subscription,
    ):
        assert subscription.started.recovered
        assert [e.data for e in await take(subscription, 2)] == [1, 2]
        assert subscription.position == Position(epoch, 3)


async def test_the_position_follows_what_was_handed_out_not_what_was_received(autojump_clock, node):
    async with node.client() as client, client.subscribe("demo:a") as subscription:
        assert subscription.position.offset == 0
        for n in range(3):
            node.model.publish("demo:a", n)
        await trio.sleep(1)
        assert subscription.position.offset == 0
        await take(subscription, 2)
        assert subscription.position.offset == 2


async def test_a_lost_connection_raises_nothing_and_loses_nothing(autojump_clock, node):
    async with node.client() as client, client.subscribe("demo:a") as subscription:
        first_id = client.client_id
        for n in range(20):
            node.model.publish("demo:a", 2 * n)
            await node.cut()
            node.model.publish("demo:a", 2 * n + 1)
            await trio.sleep(1)
        assert [e.data for e in await take(subscription, 40)] == list(range(40))
        assert client.client_id == first_id


async def test_a_publication_made_offline_waits_and_happens_once(autojump_clock, node):
    async with node.client() as client, trio.open_nursery() as nursery:
        await until(lambda: client.state is ConnectionState.CONNECTED)
        node.is_down = True
        await node.cut()
        await until(lambda: client.state is ConnectionState.OFFLINE)
        nursery.start_soon(client.publish, "demo:a", "x")
        await trio.sleep(30)
        node.is_down = False
    assert [e["data"] for e in node.model.channel("demo:a").events] == ["x"]


async def test_an_answer_lost_with_its_connection_does_not_repeat_the_event(autojump_clock, node):
    async with node.client() as client:
        await until(lambda: client.state is ConnectionState.CONNECTED)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.publish, "demo:a", "x")
            await until(lambda: node.model.channel("demo:a").top == 1)
            await node.cut()
    assert node.model.channel("demo:a").top == 1
    assert len(node.model.results) == 1


async def test_history_that_is_lost_is_told_as_a_reset(autojump_clock, node):
    async with node.client() as client, client.subscribe("demo:a") as subscription:
        node.model.publish("demo:a", 1)
        await take(subscription, 1)
        node.model.change_epoch("demo:a")
        node.model.publish("demo:a", 2)
        reset, event = await take(subscription, 2)
        assert isinstance(reset, Reset)
        assert reset.cause is ResetCause.EPOCH_CHANGED
        assert event.position == subscription.position


async def test_notices_tell_every_start_of_the_subscription(autojump_clock, node):
    async with (
        node.client() as client,
        client.subscribe("demo:a", notices=True, presence=True) as subscription,
    ):
        first, members = await take(subscription, 2)
        assert isinstance(first, Subscribed)
        assert isinstance(members, PresenceChanged)
        await node.cut()
        second, _ = await take(subscription, 2)
        assert (second.was_recovering, second.recovered) == (True, True)


# ---------------------------------------------------------------- refusals


async def test_a_channel_that_is_denied_raises_where_it_was_asked_for(autojump_clock, node):
    node.model.denied.add("demo:secret")
    async with node.client() as client:
        with pytest.raises(RequestFailed) as caught:
            async with client.subscribe("demo:secret"):
                pytest.fail("never entered")
        assert caught.value.code == "permission_denied"
        with pytest.raises(RequestFailed):
            await client.publish("demo:secret", 1)
        await client.publish("demo:a", 1)


async def test_a_subscription_that_is_revoked_raises_after_what_came_before(autojump_clock, node):
    async with node.client() as client, client.subscribe("demo:a") as subscription:
        node.model.publish("demo:a", 1)
        node.session.revoke("demo:a")
        [event] = await take(subscription, 1)
        assert event.data == 1
        with pytest.raises(SubscriptionClosed) as caught:
            await take(subscription, 1)
        assert caught.value.code == "revoked"


async def test_one_channel_has_one_subscription(autojump_clock, node):
    async with node.client() as client, client.subscribe("demo:a"):
        with pytest.raises(RequestFailed) as caught:
            async with client.subscribe("demo:a"):
                pytest.fail("never entered")
        assert caught.value.code == "already_subscribed"


async def test_after_the_block_the_server_carries_no_subscription(autojump_clock, node):
    async with node.client() as client:
        async with client.subscribe("demo:a"):
            assert list(node.session.subscriptions) == ["demo:a"]
        await until(lambda: not node.session.subscriptions)
        async with client.subscribe("demo:a"):
            assert list(node.session.subscriptions) == ["demo:a"]


# ---------------------------------------------------------------- slow applications


async def test_a_slow_application_is_bounded_stops_nobody_else_and_misses_nothing(
    autojump_clock, node
):
    async with (
        node.client() as client,
        client.subscribe("demo:slow", buffer=10) as slow,
        client.subscribe("demo:quick") as quick,
    ):
        for n in range(500):
            node.model.publish("demo:slow", n)
            if n % 7 == 0:
                await trio.sleep(0.01)
        await trio.sleep(1)
        assert len(slow._items) < 30, "ten, and at most one frame more"
        assert "demo:slow" not in node.session.subscriptions
        await client.publish("demo:quick", "still here")
        assert (await take(quick, 1))[0].data == "still here"
        assert [e.data for e in await take(slow, 500)] == list(range(500))


async def test_publishing_from_within_the_loop_of_a_full_subscription_does_not_deadlock(
    autojump_clock, node
):
    async with node.client() as client, client.subscribe("demo:a", buffer=2) as subscription:
        for n in range(20):
            node.model.publish("demo:a", n)
        for n in range(20):
            [event] = await take(subscription, 1)
            assert event.data == n
            with trio.fail_after(10):
                await client.publish("demo:b", event.data)
    assert node.model.channel("demo:b").top == 20


async def test_a_slow_application_of_an_ephemeral_channel_is_told_that_it_missed_something(
    autojump_clock, node
):
    async with node.client() as client, client.subscribe("live:x", buffer=2) as subscription:
        for n in range(10):
            node.model.publish("live:x", n)
            await trio.sleep(0.02)
        items = await take(subscription, 3)
        assert [getattr(i, "data", None) for i in items] == [0, 1, None]
        assert items[2].cause is ResetCause.NOT_KEPT
        node.model.publish("live:x", "now")
        assert (await take(subscription, 1))[0].data == "now"
