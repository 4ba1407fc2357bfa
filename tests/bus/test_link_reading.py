"""How a link reads: from a socket of the system's own at once, from any other stream as it can."""

import socket

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from syncd.bus.commands import LinkLost
from syncd.bus.link import _receiver

SIZE = 8


async def socket_pair():
    ours, theirs = socket.socketpair()
    return tuple(trio.SocketStream(trio.socket.from_stdlib_socket(each)) for each in (ours, theirs))


async def memory_pair():
    return memory_stream_pair()


@pytest.mark.parametrize("make_pair", [socket_pair, memory_pair])
async def test_what_comes_is_read_in_order_up_to_the_end(make_pair):
    ours, theirs = await make_pair()
    async with ours, theirs:
        receive = _receiver(ours, SIZE)
        read = []

        async def read_all():
            while True:
                try:
                    read.append(bytes(await receive()))
                except LinkLost:
                    return

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_all)
                await wait_all_tasks_blocked()
                assert read == []
                await theirs.send_all(b"one")
                while not read:
                    await trio.lowlevel.checkpoint()
                await theirs.send_all(bytes(range(20)))
                await theirs.aclose()
        assert read[0] == b"one"
        assert b"".join(read[1:]) == bytes(range(20))
        assert all(0 < len(each) <= SIZE for each in read)


async def test_a_socket_that_is_woken_for_nothing_is_waited_for_again(monkeypatch):
    ours, theirs = await socket_pair()
    wait, num_waits = trio.lowlevel.wait_readable, 0

    async def wake_for_nothing(fd):
        nonlocal num_waits
        num_waits += 1
        if num_waits > 1:
            await wait(fd)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wake_for_nothing)
    async with ours, theirs:
        receive = _receiver(ours, SIZE)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_send_once_blocked, theirs)
                assert await receive() == b"late"
        assert num_waits == 2


async def _send_once_blocked(stream):
    await wait_all_tasks_blocked()
    await stream.send_all(b"late")


async def test_a_reader_that_is_cancelled_leaves_what_comes_later():
    ours, theirs = await socket_pair()
    async with ours, theirs:
        receive = _receiver(ours, SIZE)
        with trio.move_on_after(0):
            await receive()
        await theirs.send_all(b"later")
        with trio.fail_after(5):
            assert await receive() == b"later"
