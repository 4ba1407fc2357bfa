"""The Python client over trio-websocket and memory streams, against the model server, on a clock that jumps."""

import contextlib
import random

import pytest
import trio
import trio.testing

from syncd.client import (
    ClientClosed,
    ConnectionState,
    ConnectionStopped,
    Event,
    Position,
    PresenceChanged,
    RequestFailed,
    Reset,
    ResetCause,
    Subscribed,
    SubscriptionClosed,
    Unauthorized,
    open_client,
)
from syncd.client.transport import target_from_url
from syncd.codes import CloseCode
from tests.integration.model_node import URL, Node, until


@pytest.fixture
async def node(nursery):
    return Node(nursery)


async def take(subscription, count):
    with trio.fail_after(120):
        return [await anext(subscription) for _ in range(count)]


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


# ---------------------------------------------------------------- presence and history


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


# ---------------------------------------------------------------- the connection's life


async def test_states_are_told_and_the_client_comes_back_when_the_node_does(autojump_clock, node):
    seen = []

    async def watch(client, *, task_status=trio.TASK_STATUS_IGNORED):
        task_status.started()
        async for state in client.states():
            seen.append(state)  # noqa: PERF401 - seen while it runs

    node.is_down = True
    async with trio.open_nursery() as nursery, node.client() as client:
        await nursery.start(watch, client)
        await trio.sleep(60)
        assert node.num_dials > 3
        node.is_down = False
        await until(lambda: client.state is ConnectionState.CONNECTED)
    assert seen[-2:] == [ConnectionState.CONNECTED, ConnectionState.CLOSED]
    assert ConnectionState.OFFLINE in seen


async def test_a_node_that_goes_silent_is_noticed(autojump_clock, node):
    async with node.client() as client:
        await until(lambda: client.state is ConnectionState.CONNECTED)
        started = trio.current_time()
        await until(lambda: node.num_dials == 2)
        assert 34 <= trio.current_time() - started <= 37


async def test_a_node_that_accepts_and_says_nothing_is_given_up(autojump_clock, node):
    node.is_deaf = True
    async with node.client():
        await until(lambda: node.num_dials == 2)


async def test_waking_dials_at_once(autojump_clock, node):
    node.is_down = True
    async with node.client() as client:
        await until(lambda: node.num_dials > 6 and client.state is ConnectionState.OFFLINE)
        node.is_down = False
        before = trio.current_time()
        client.wake()
        await until(lambda: client.state is ConnectionState.CONNECTED)
        assert trio.current_time() - before < 0.5


@pytest.mark.parametrize("code", [CloseCode.DISCONNECTED, CloseCode.TAKEN_OVER])
async def test_a_terminal_close_raises_a_typed_error_out_of_the_block(autojump_clock, node, code):
    with pytest.raises(ConnectionStopped) as caught:  # noqa: PT012 - raised by leaving the block
        async with node.client() as client:
            await until(lambda: client.state is ConnectionState.CONNECTED)
            node.session.end(int(code), reconnect=False)
            await trio.sleep_forever()
    assert caught.value.code == code


async def test_a_terminal_close_ends_calls_that_wait(autojump_clock, node):
    with pytest.raises(ConnectionStopped):  # noqa: PT012 - raised by leaving the block
        async with node.client() as client:
            await until(lambda: client.state is ConnectionState.CONNECTED)
            node.session.end(CloseCode.DISCONNECTED, reconnect=False)
            await client.publish("demo:a", 1)


async def test_a_fixed_token_that_is_refused_ends_the_client(autojump_clock, node):
    node.model.tokens = {"good"}
    with pytest.raises(Unauthorized):
        async with node.client(token="bad"):
            await trio.sleep_forever()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_token_is_fetched_and_fetched_anew_when_it_is_refused(autojump_clock, node, kind):
    node.model.tokens = {"second"}
    tokens = iter(["first", "second"])

    def plain():
        return next(tokens)

    async def fetch():
        await trio.sleep(1)
        return next(tokens)

    async with node.client(token=plain if kind == "plain" else fetch) as client:
        await client.publish("demo:a", 1)
        assert node.session.token == "second"


async def test_a_token_function_that_fails_is_asked_again(autojump_clock, node):
    calls = []

    def source():
        calls.append(1)
        if len(calls) < 3:
            raise OSError
        return "t"

    async with node.client(token=source) as client:
        await client.publish("demo:a", 1)
    assert len(calls) == 3


async def test_a_token_function_without_a_token_ends_the_client(autojump_clock, node):
    with pytest.raises(Unauthorized):
        async with node.client(token=lambda: None):
            await trio.sleep_forever()


async def test_a_newer_token_reaches_the_session_in_place(autojump_clock, node):
    async with node.client(token="t1") as client:
        await client.publish("demo:a", 1)
        client.set_token("t2")
        await until(lambda: node.session.token == "t2")
        assert node.num_dials == 1


# ---------------------------------------------------------------- ends


async def test_an_exception_of_the_block_leaves_it_as_it_is(autojump_clock, node):
    with pytest.raises(ZeroDivisionError):
        async with node.client() as client, client.subscribe("demo:a"):
            raise ZeroDivisionError


async def test_leaving_the_block_closes_the_connection_politely(autojump_clock, node):
    async with node.client() as client, client.presence("demo:a") as room:
        await room.set(1)
    await until(lambda: not node.model.sessions)
    assert not node.model.channel("demo:a").members
    assert node.connections[0].closed.code == 1000


async def test_a_closed_client_refuses_calls_instead_of_hanging(autojump_clock, node):
    async with node.client() as client:
        pass
    with pytest.raises(ClientClosed):
        await client.publish("demo:a", 1)
    with pytest.raises(ClientClosed):
        async with client.subscribe("demo:a"):
            pytest.fail("never entered")


async def test_cancelling_the_block_ends_within_two_seconds_even_with_a_stuck_server(
    autojump_clock, node
):
    with trio.move_on_after(5) as scope:
        async with node.client() as client, client.subscribe("demo:a"):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() <= scope.deadline + 2


async def test_a_cancelled_publication_is_not_sent_after_the_reconnect(autojump_clock, node):
    node.is_down = True
    async with node.client() as client:
        with trio.move_on_after(5):
            await client.publish("demo:a", "x")
        node.is_down = False
        await until(lambda: client.state is ConnectionState.CONNECTED)
        await trio.sleep(5)
    assert "demo:a" not in node.model.channels


async def test_more_requests_than_may_wait_wait_for_a_place(autojump_clock, node):
    async with node.client() as client, trio.open_nursery() as nursery:
        for n in range(1500):
            nursery.start_soon(client.publish, "demo:a", n)
    assert node.model.channel("demo:a").top == 1500


@pytest.mark.parametrize(
    ("url", "host", "port", "resource", "is_tls", "header"),
    [
        ("ws://h", "h", 80, "/ws", False, "h"),
        ("ws://h:8400/", "h", 8400, "/ws", False, "h:8400"),
        ("wss://h/x?y=1", "h", 443, "/x?y=1", True, "h"),
        ("http://[::1]:8400", "::1", 8400, "/ws", False, "[::1]:8400"),
        ("https://h:443/sync", "h", 443, "/sync", True, "h"),
    ],
)
def test_a_url_says_where_to_connect(url, host, port, resource, is_tls, header):
    target = target_from_url(url)
    assert (target.host, target.port, target.resource) == (host, port, resource)
    assert (target.is_tls, target.host_header) == (is_tls, header)


@pytest.mark.parametrize("url", ["", "h:8400", "ftp://h", "ws://", "ws:///x"])
def test_what_is_no_url_is_refused_at_once(url):
    with pytest.raises(ValueError, match="ws://HOST"):
        target_from_url(url)


def dialling(nursery, serve):
    """Return when was dialled, and what dials: each stream's other end is served so."""
    dials = []

    async def open_stream():
        dials.append(trio.current_time())
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    return dials, open_stream


async def test_an_upgrade_that_is_refused_with_retry_after_is_obeyed(autojump_clock, nursery):
    async def refuse(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
            head = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"
            await stream.send_all(head)

    dials, open_stream = dialling(nursery, refuse)
    async with open_client(URL, open_stream=open_stream, rng=random.Random(1)):
        await until(lambda: len(dials) == 2)
    assert 7 <= dials[1] - dials[0] <= 8


@pytest.mark.parametrize(
    "answer", [None, b"", b"HTTP/1.1 101 Switch", b"HTTP/1.1 502 Bad\r\n\r\n<h1>"]
)
async def test_an_end_before_the_answer_to_the_upgrade_ends_the_attempt_at_once(
    autojump_clock, nursery, answer
):
    """As of a proxy whose server is away. None: it does not even read the request."""

    async def leave(stream):
        if answer is not None:
            await stream.receive_some()
        if answer:
            await stream.send_all(answer)
        await trio.aclose_forcefully(stream)

    dials, open_stream = dialling(nursery, leave)
    async with open_client(URL, open_stream=open_stream, rng=random.Random(1)):
        await until(lambda: len(dials) == 2)
    assert dials[1] - dials[0] <= 1
