"""SIGTERM: every client is told to come back, each with a slot of its own, and the node ends within 10 s though one never answers."""

import signal

import pytest
import trio

from syncd.testing.plain_client import Closed, PlainClient
from syncd.testing.process import ServerProcess

pytestmark = [pytest.mark.process, pytest.mark.slow]

CLIENTS = 20


async def read_to_the_end(client, byes):
    try:
        while True:
            kind, body = await client.receive()
            if kind == "bye":
                byes.append(body)
    except Closed:
        await client.aclose()


async def test_sigterm_tells_everybody_a_slot_and_ends_the_node_in_time(tmp_path):
    byes = []
    with ServerProcess(tmp_path) as server:
        await trio.to_thread.run_sync(server.start)
        clients = [await PlainClient.connect(server.port) for _ in range(CLIENTS)]
        for client in clients:
            await client.hello()
        silent = await PlainClient.connect(server.port)
        await silent.hello()
        await clients[0].ask("publish", channel="demo:a", data=1)
        server.signal(signal.SIGTERM)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(read_to_the_end, client, byes)
            code = await trio.to_thread.run_sync(server.wait, 10)
        await silent.aclose()
    assert code == 0
    assert len(byes) == CLIENTS
    assert all(bye["reconnect"] and 0 <= bye["after_ms"] <= 2500 for bye in byes)
    assert len({bye["after_ms"] for bye in byes}) > CLIENTS / 2, "they would all come at once"
    assert not (tmp_path / "syncd.db-wal").exists(), "the store was closed and its log written back"
