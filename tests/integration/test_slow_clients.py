"""BOUNDED: clients that do not read cost what the limits say, and those beside them nothing."""

import pytest
import trio

from syncd.config import HistoryKind, Mode
from syncd.testing.crowd import wait_until
from syncd.testing.history import History
from tests.integration.nodes import (
    LATEST,
    make_config,
    namespace,
    publish,
    read_until,
    running,
    subscribe,
)
from tests.integration.slow_scenario import slow_beside_fast

TIGHT = {
    "frame_bytes": 16_384,
    "outbox_bytes": 65_536,
    "recovery_bytes": 32_768,
    "send_buffer_bytes": 8192,
}
QUICK = {"slow_client_s": 0.5, "tick_s": 0.05, "close_s": 0.5, "stop_s": 1.0}


@pytest.mark.slow
@pytest.mark.process
def test_two_hundred_that_never_read_beside_eight_hundred_that_do(tmp_path):
    slow_beside_fast(tmp_path, num_readers=800, num_mutes=200, num_rounds=3, num_events=100)


def small(name, history=HistoryKind.MEMORY, mode=Mode.STREAM, **options):
    return namespace(name, history, mode, max_data_bytes=16_384, **options)


async def flood(publisher, channel, count, *, keys=0, size=2000, first=0):
    """Publish `count` events; with `keys` under that many keys in turn."""
    for number in range(first, first + count):
        key = f"k{number % keys}" if keys else None
        await publish(publisher, channel, 1, size=size, key=key, first=number)


@pytest.mark.parametrize("driver", ["epoll", "stream"])
@pytest.mark.parametrize(
    "kind", [small("log", HistoryKind.DURABLE), small("mem")], ids=lambda k: k.name
)
async def test_a_client_that_falls_behind_lags_where_it_is_and_recovers_all(tmp_path, kind, driver):
    history = History()
    config = make_config(tmp_path, kind, limits=TIGHT, driver=driver)
    async with running(config) as (node, connect):
        channel = f"{kind.name}:c"
        publisher, client = await connect(), await connect(receive_buffer_bytes=2048)
        observer = history.observer("slow", channel)
        await subscribe(client, observer)
        await flood(publisher, channel, 150)
        assert node.admin.statistics().num_lagged == 1
        with trio.fail_after(10):
            while not observer.num_lagged:
                message, body = await client.receive()
                observer.take(message, body)
                if message == "lagged":
                    assert body["position"]["offset"] == observer.offset
        assert 0 < observer.offset < 150
        answer = await subscribe(client, observer)
        assert answer["recovered"]
        await publish(publisher, channel, 5)
        await read_until(client, observer, 155)
        assert observer.offsets == list(range(1, 156))
        assert node.admin.statistics().closes == {}
    assert history.violations == []


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_a_client_that_takes_nothing_is_cut_off_and_only_then(tmp_path, driver):
    config = make_config(tmp_path, small("mem"), limits=TIGHT, timing=QUICK, driver=driver)
    async with running(config) as (node, connect):
        publisher, mute = await connect(), await connect(receive_buffer_bytes=2048)
        await mute.ask("subscribe", channel="mem:c")
        quiet = await connect()
        await quiet.ask("subscribe", channel="mem:other")
        await trio.sleep(2 * QUICK["slow_client_s"])
        assert node.admin.statistics().closes == {}, "an idle client is no slow one"
        started = trio.current_time()
        await flood(publisher, "mem:c", 100)
        await wait_until(lambda: node.admin.statistics().closes, 10, "the slow one is cut off")
        assert node.admin.statistics().closes == {"4001": 1}
        assert trio.current_time() - started >= QUICK["slow_client_s"]
        assert (await quiet.ask("publish", channel="mem:other", data=1))[0] == "ok"


@pytest.mark.parametrize("driver", ["epoll", "stream"])
async def test_a_client_that_reads_slowly_but_reads_is_never_cut_off(tmp_path, driver):
    config = make_config(tmp_path, small("mem"), limits=TIGHT, timing=QUICK, driver=driver)
    history = History()
    async with running(config) as (node, connect):
        publisher, client = await connect(), await connect(receive_buffer_bytes=2048)
        observer = history.observer("slow", "mem:c")
        await subscribe(client, observer)
        await flood(publisher, "mem:c", 25)
        started = trio.current_time()
        for number in range(25, 85):
            await read_until(client, observer, observer.offset + 1)
            await publish(publisher, "mem:c", 1, size=2000, first=number)
            await trio.sleep(0.03)
        assert trio.current_time() - started > 3 * QUICK["slow_client_s"]
        assert node.admin.statistics().closes == {}
        await read_until(client, observer, 85)
        assert observer.num_lagged == 0
    assert history.violations == []


@pytest.mark.parametrize("driver", ["epoll", "stream"])
@pytest.mark.parametrize("kind", [LATEST.name, "kept"])
async def test_on_a_latest_channel_a_slow_reader_gets_the_newest_of_each_key(
    tmp_path, kind, driver
):
    store = HistoryKind.MEMORY if kind == LATEST.name else HistoryKind.DURABLE
    config = make_config(tmp_path, small(kind, store, Mode.LATEST), limits=TIGHT, driver=driver)
    history = History()
    channel = f"{kind}:c"
    async with running(config) as (node, connect):
        publisher, client = await connect(), await connect(receive_buffer_bytes=2048)
        observer = history.observer("slow", channel, is_latest=True)
        await subscribe(client, observer)
        await flood(publisher, channel, 400, keys=7)
        marks = []
        with trio.fail_after(10):
            while not marks or marks[-1]["position"]["offset"] < 400:
                message, body = await client.receive()
                observer.take(message, body)
                if message == "mark":
                    marks.append(body)
        assert observer.num_lagged == 0
        assert node.admin.statistics().num_lagged == 0
        assert node.admin.statistics().num_conflated > 100
        assert observer.num_seen < 300
        newest = {}
        for event in observer.events:
            newest[event["key"]] = event["data"]["n"]
        assert newest == {f"k{n % 7}": n for n in range(393, 400)}
        assert observer.offsets == sorted(set(observer.offsets))
        assert observer.position()["offset"] == 400
        await publish(publisher, channel, 1, key="k0", first=1000)
        await read_until(client, observer, 401)
        assert observer.events[-1]["data"] == {"n": 1000}
        await client.aclose()
        observer.disconnected()
        answer = await subscribe(await connect(), observer)
        assert answer["recovered"]
        assert answer["events"] == []
    assert history.violations == []


async def test_a_client_that_does_not_read_its_answers_is_not_read_either(tmp_path):
    config = make_config(tmp_path, small("mem"), limits=TIGHT)
    async with running(config) as (node, connect):
        publisher, client = await connect(), await connect(receive_buffer_bytes=2048)
        await publish(publisher, "mem:c", 10, size=3000)
        num_sent = 0
        with trio.move_on_after(10):
            async with trio.open_nursery() as nursery:

                async def ask():
                    nonlocal num_sent
                    while True:
                        await client.send("history", id=num_sent, channel="mem:c", limit=10)
                        num_sent += 1

                nursery.start_soon(ask)
                connection = next(c for c in node.hub.connections if c.id == client.session)
                await wait_until(lambda: connection.is_paused, 9, "it is not read any more")
                nursery.cancel_scope.cancel("paused")
        assert connection.is_paused
        for number in range(3):
            assert (await publisher.ask("publish", channel="mem:c", data=number))[0] == "ok"
        num_got = 0
        with trio.fail_after(30):
            while num_got < num_sent:
                message, _body = await client.receive()
                num_got += message in {"ok", "error"}
        assert not connection.is_paused
