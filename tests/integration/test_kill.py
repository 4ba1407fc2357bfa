"""DURABLE and RECOVER under fire: a real server process, killed while it commits, and stopped while it serves."""

import contextlib
import random
import signal
import subprocess

import pytest
import trio

from syncd.testing.crowd import Crowd, read_log, wait_until
from syncd.testing.history import History
from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess
from tests.integration.kill_scenario import (
    CHANNELS,
    CONFIG,
    NUM_PUBLISHERS,
    NUM_SUBSCRIBERS,
    in_thread,
    kill_under_load,
)

pytestmark = [pytest.mark.slow, pytest.mark.process]


async def test_acknowledged_events_survive_kills_and_everybody_gets_each_once(tmp_path):
    with ServerProcess(tmp_path, CONFIG) as server:
        crowd = await kill_under_load(server, 5, 1500, random.Random(7))
    assert sum(peer.num_resent for peer in crowd.publishers) > 0
    recovered = [o.num_recovered for peer in crowd.subscribers for o in peer.observers.values()]
    assert min(recovered) > 0
    assert sum(recovered) > 3 * len(recovered), "most kills met subscribers that were there"


async def test_a_stopped_node_says_goodbye_and_keeps_what_it_acknowledged(tmp_path):
    with ServerProcess(tmp_path, CONFIG) as server:
        await in_thread(server.start)
        history = History()
        crowd = Crowd(server.port, CHANNELS, history)
        async with trio.open_nursery() as nursery:
            await crowd.subscribe(nursery, NUM_SUBSCRIBERS)
            crowd.publish(nursery, NUM_PUBLISHERS)
            await wait_until(lambda: history.num_acknowledged > 500, 30, "load")
            code, took_s = await in_thread(server.stop)
            assert code == 0
            assert took_s < 10
            peers = [*crowd.publishers, *crowd.subscribers]
            await wait_until(lambda: all(peer.close_codes for peer in peers), 10, "all cut off")
            assert {tuple(peer.byes[:1]) for peer in peers} == {(4000,)}
            assert {peer.close_codes[0] for peer in peers} == {4000}
            await in_thread(server.start)
            await crowd.settle()
            await crowd.check()
            nursery.cancel_scope.cancel("seen enough")
        assert history.violations == []


async def test_a_second_server_on_the_same_database_is_refused_and_the_first_goes_on(tmp_path):
    with ServerProcess(tmp_path, CONFIG) as first, ServerProcess(tmp_path, CONFIG) as second:
        await in_thread(first.start)
        await in_thread(second.spawn)
        assert await in_thread(second.wait, 30) != 0
        assert "syncd.db" in second.tail()
        assert "another" in second.tail()
        assert "Traceback" not in second.tail()
        client = await PlainClient.connect(first.port)
        await client.hello()
        assert (await client.ask("publish", channel="log:0", data=1))[0] == "ok"
        await client.aclose()


async def test_a_uid_counts_once_however_often_it_is_sent_across_a_kill(tmp_path):
    with ServerProcess(tmp_path, CONFIG) as server:
        await in_thread(server.start)
        client = await PlainClient.connect(server.port)
        identity = (await client.hello())["clients"][0]
        request = {"channel": "log:0", "data": {"uid": "a"}, "uid": "a"}
        _, first = await client.ask("publish", **request)
        await client.aclose()
        await in_thread(server.kill)
        await in_thread(server.start)
        client = await PlainClient.connect(server.port)
        claim = {"client": identity["client"], "secret": identity["secret"]}
        await client.hello(clients=[claim])
        for _ in range(3):
            _, again = await client.ask("publish", **request)
            assert again["position"] == first["position"]
        _, other = await client.ask("publish", channel="log:0", data=2, uid="a")
        assert other["code"] == "idempotency_mismatch"
        await client.aclose()
        _, events = await read_log(server.port, "log:0")
        assert [event["data"] for event in events] == [{"uid": "a"}]


async def test_a_stop_with_a_client_that_never_reads_takes_no_longer(tmp_path):
    with ServerProcess(tmp_path, CONFIG) as server:
        await in_thread(server.start)
        client = await PlainClient.connect(server.port, receive_buffer_bytes=4096)
        await client.hello()
        await client.send("subscribe", id=1, channel="log:0")
        other = await PlainClient.connect(server.port)
        await other.hello()
        for _ in range(40):
            await other.ask("publish", channel="log:0", data=bytes(60_000))
        code, took_s = await in_thread(server.stop)
        assert code == 0
        assert took_s < 10
        await client.aclose()
        await other.aclose()


def test_a_node_asked_to_stop_again_and_again_still_stops_in_order(tmp_path):
    """Trio tells anew, to the default handler, of signals that nobody has taken: the second killed what was about to end."""
    with ServerProcess(tmp_path, CONFIG) as server:
        server.start()
        for _ in range(3000):
            server.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.003)
                break
        assert server.returncode == 0
