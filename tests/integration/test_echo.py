"""The echo server that outside conformance suites talk to: the same gateway as a node's, under a strict client."""

import subprocess
import sys
from functools import partial

import pytest
import trio
import trio_websocket
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.gateway.gateway import bind
from syncd.testing.echo import make_config, make_echo
from syncd.testing.raw_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    RawClient,
    client_frame,
    request_head,
)

PATIENT_S = 20.0
drivers = pytest.mark.parametrize("driver", ["epoll", "stream"])


async def with_echo(driver, visit):
    """Run the echo server and `visit(client)` with an opened raw client."""
    config = make_config(0, driver)
    listeners = bind(config.listen)
    port = listeners[0].getsockname()[1]
    with trio.fail_after(PATIENT_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(make_echo(config).run, listeners))
            async with RawClient.over(await trio.open_tcp_stream("127.0.0.1", port)) as client:
                await client.upgrade(request_head("/any/path?at=all", subprotocol=None))
                await visit(client)
            nursery.cancel_scope.cancel()


@drivers
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_048_576, 16_777_216])
async def test_messages_of_every_size_come_back(driver, opcode, size):
    async def visit(client):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, client_frame(opcode, b"*" * size))
            frame = await client.receive_frame()
        assert (frame.opcode, frame.payload == b"*" * size) == (opcode, True)

    await with_echo(driver, visit)


@drivers
async def test_a_message_above_16_mib_is_refused(driver):
    async def visit(client):
        await client.send(client_frame(BINARY, declared_bytes=16_777_217))
        assert (await client.receive_close()).close_code == 1009

    await with_echo(driver, visit)


@drivers
async def test_any_number_of_fragments_with_pings_between_them(driver):
    async def visit(client):
        await client.send(client_frame(TEXT, b"", is_final=False))
        for number in range(2000):
            await client.send(
                client_frame(CONTINUATION, "\u00e9".encode(), is_final=False)
                + client_frame(PING, b"%d" % number)
            )
            assert (await client.receive_frame()).payload == b"%d" % number
        await client.send(client_frame(CONTINUATION))
        frame = await client.receive_frame()
        assert (frame.opcode, frame.payload.decode()) == (TEXT, "\u00e9" * 2000)

    await with_echo(driver, visit)


async def test_the_first_subprotocol_offered_is_taken():
    config = make_config(0)
    listeners = bind(config.listen)
    url = f"ws://127.0.0.1:{listeners[0].getsockname()[1]}/chat"
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(make_echo(config).run, listeners))
        async with trio_websocket.open_websocket_url(url, subprotocols=["chat", "other"]) as client:
            assert client.subprotocol == "chat"
            for message in ("text", b"binary", "", b"", "\U0001f600"):
                await client.send_message(message)
                assert await client.get_message() == message
            await client.ping(b"there?")
        assert client.closed.code == 1000
        nursery.cancel_scope.cancel()


FRAMES = st.lists(
    st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.text(max_size=60), st.integers(1, 4)),
    max_size=12,
)


def written(frames):
    """Bytes of messages cut into fragments, pings whole, and what must come back."""
    data, expected = b"", []
    for opcode, text, num_parts in frames:
        payload = text.encode()[:125]
        payload = payload.decode(errors="ignore").encode()
        if opcode == PING:
            data += client_frame(PING, payload)
            expected.append((PONG, payload))
            continue
        size = len(payload) // num_parts + 1
        parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        for number, part in enumerate(parts):
            data += client_frame(
                opcode if number == 0 else CONTINUATION, part, is_final=number == len(parts) - 1
            )
        expected.append((opcode, payload))
    return data + client_frame(CLOSE, (1000).to_bytes(2, "big")), expected


@pytest.mark.parametrize("driver", ["epoll", "stream"])
@settings(max_examples=25)
@given(frames=FRAMES, step=st.integers(1, 50))
def test_whatever_is_sent_in_whatever_pieces_comes_back_in_order(driver, frames, step):
    data, expected = written(frames)

    async def visit(client):
        for at in range(0, len(data), step):
            await client.send(data[at : at + step])
        frames = [await client.receive_frame() for _ in expected]
        assert [(frame.opcode, frame.payload) for frame in frames] == expected
        assert (await client.receive_close()).close_code == 1000
        assert await client.read_to_end() == b""

    trio.run(with_echo, driver, visit)


@pytest.mark.process
@drivers
async def test_the_command_serves_until_it_is_ended(driver):
    command = [sys.executable, "-u", "-m", "syncd.testing.echo", "0", "--driver", driver]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, check=False)
        )
        with trio.fail_after(PATIENT_S):
            line = (await process.stdout.receive_some()).decode()
            url = line.split()[-1]
            async with trio_websocket.open_websocket_url(url) as client:
                await client.send_message("hello")
                assert await client.get_message() == "hello"
        process.terminate()
