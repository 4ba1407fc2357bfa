"""The life of the Python client's connection: how it begins, comes back and ends, and what happens to calls meanwhile."""

import contextlib
import random

import pytest
import trio
import trio.testing
import trio_websocket

from syncd.client import ClientClosed, ConnectionState, ConnectionStopped, Unauthorized, open_client
from syncd.client.frames import MAX_FRAME_BYTES
from syncd.client.transport import Link, target_from_url
from syncd.codes import CloseCode
from tests.integration.model_node import URL, Node, until


@pytest.fixture
async def node(nursery):
    return Node(nursery)


def dialling(nursery, serve):
    """Return when was dialled, and what dials: each stream's other end is served so."""
    dials = []

    async def open_stream():
        dials.append(trio.current_time())
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, theirs)
        return ours

    return dials, open_stream


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


@pytest.mark.parametrize(
    ("num_bytes", "code"),
    [(0, CloseCode.TOO_BIG), (MAX_FRAME_BYTES + 1, CloseCode.PROTOCOL_ERROR_WS)],
)
async def test_a_frame_of_the_servers_that_is_too_big_is_told_from_one_of_ours(
    nursery, num_bytes, code
):
    async def serve(stream):
        async with trio.open_nursery() as inner:
            request = await trio_websocket.wrap_server_stream(inner, stream)
            connection = await request.accept(subprotocol="syncd.v1")
            with contextlib.suppress(trio_websocket.ConnectionClosed):
                if num_bytes:
                    await connection.send_message(b"x" * num_bytes)
                else:
                    await connection.aclose(CloseCode.TOO_BIG, "yours")

    _, open_stream = dialling(nursery, serve)
    link = Link(target_from_url(URL), open_stream, lambda: None, lambda _frame: None)
    with trio.fail_after(20):
        closure = await link.run()
    assert closure.code == code
