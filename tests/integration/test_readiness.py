"""`/health/ready` tells the truth, soon: who stops, has an actor down, a store that cannot commit or a loop that lags gets no traffic."""

import signal
import threading
import time

import pytest
import trio

from syncd.actors.presence import Presence
from syncd.errors import StoreUnavailable
from syncd.store.sqlite import SqliteStore
from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess, free_port
from tests.integration.nodes import MEMORY, make_config, readiness_of, running

SOON_S = 1.0
SLACK_S = 2.0
"""What a busy machine may add to an answer."""


async def ready(node):
    return await trio.to_thread.run_sync(readiness_of, node.addresses[0][1])


async def until(node, wanted, within_s=SOON_S + SLACK_S):
    """Ask until the answer is this."""
    told = None
    with trio.move_on_after(within_s):
        while (told := await ready(node)) != wanted:  # noqa: ASYNC110 - told by a server
            await trio.sleep(0.02)
    assert told == wanted


OK = (200, [])


async def test_a_store_that_refuses_is_told_at_once_and_its_return_as_well(tmp_path, monkeypatch):
    async with running(make_config(tmp_path, MEMORY)) as (node, _connect):
        await until(node, OK)

        def refuse(_store):
            raise StoreUnavailable

        with monkeypatch.context() as patch:
            patch.setattr(SqliteStore, "probe", refuse)
            await until(node, (503, ["The store cannot commit."]))
        await until(node, OK)


async def test_a_store_that_hangs_is_told_within_a_second(tmp_path, monkeypatch):
    is_released = threading.Event()
    original = SqliteStore.probe

    def hang(store):
        assert is_released.wait(30)
        return original(store)

    async with running(make_config(tmp_path, MEMORY)) as (node, _connect):
        await until(node, OK)
        monkeypatch.setattr(SqliteStore, "probe", hang)
        await trio.sleep(0.6)  # what was seen of the store holds for half a second
        began = trio.current_time()
        assert await ready(node) == (503, ["The store does not answer."])
        assert trio.current_time() - began < SOON_S + SLACK_S
        is_released.set()
        await until(node, OK)


async def test_an_actor_that_is_down_is_told_while_it_is(tmp_path, monkeypatch):
    original, may_start = Presence.run, trio.Event()

    async def start_late(actor, *, task_status=trio.TASK_STATUS_IGNORED):
        await may_start.wait()
        await original(actor, task_status=task_status)

    async with running(make_config(tmp_path, MEMORY)) as (node, _connect):
        await until(node, OK)
        monkeypatch.setattr(Presence, "run", start_late)
        monkeypatch.setattr(Presence, "_obey", _crash)
        monkeypatch.setattr(Presence, "_fail", _crash)
        node.presence.submit_nowait([object()], 0)
        await until(node, (503, ["The actor presence is restarting."]))
        may_start.set()
        await until(node, OK)


def _crash(*_):
    raise RuntimeError("planted")


async def test_a_loop_that_lagged_is_told_as_soon_as_it_runs_again(tmp_path, monkeypatch):
    monkeypatch.setattr("syncd.upkeep.LAG_LIMIT_MS", 250.0)
    async with running(make_config(tmp_path, MEMORY)) as (node, _connect):
        async with trio.open_nursery() as nursery:
            told = []

            async def keep_asking():
                while (503, ["The event loop lags."]) not in told:
                    told.append(await ready(node))

            nursery.start_soon(keep_asking)
            await trio.lowlevel.checkpoint()
            time.sleep(1.0)  # noqa: ASYNC251, TID251 - the loop is held on purpose, for longer than a probe and the limit
            with trio.fail_after(SOON_S + SLACK_S):
                while not told or told[-1] == OK:  # noqa: ASYNC110 - another task asks over HTTP
                    await trio.sleep(0.01)
        await until(node, OK)


@pytest.mark.process
@pytest.mark.slow
async def test_a_node_that_stops_is_not_ready_at_once_and_never_again(tmp_path):
    api_port = free_port()
    listen = ("--api-listen", f"127.0.0.1:{api_port}")
    with ServerProcess(tmp_path, arguments=listen) as server:
        server.spawn()
        with trio.fail_after(30):
            while (await trio.to_thread.run_sync(_ask_or_none, api_port)) != OK:  # noqa: ASYNC110 - told by a server
                await trio.sleep(0.02)
        silent = await PlainClient.connect(server.port)
        await silent.hello()
        server.signal(signal.SIGTERM)
        began, told, times = trio.current_time(), [], []
        with trio.move_on_after(SOON_S + SLACK_S):
            while (answer := await trio.to_thread.run_sync(_ask_or_none, api_port)) is not None:
                told.append(answer)
                times.append(trio.current_time())
        await silent.aclose()
        assert await trio.to_thread.run_sync(server.wait, 10) == 0
    stopping = (503, ["The node is stopping."])
    assert stopping in told
    assert set(map(str, told[told.index(stopping) :])) == {str(stopping)}
    assert times[told.index(stopping)] - began < SOON_S, "the signal takes a moment, no more"


def _ask_or_none(port):
    try:
        return readiness_of(port)
    except OSError:
        return None
