"""The bus on a real Redis that is cut, killed, stopped and deafened: every fault ends in a confirmed subscription and a gap."""

import re
import signal

import pytest
import trio

from syncd.bus.settings import BusSettings
from syncd.testing.chaos_proxy import ChaosProxy
from syncd.testing.redis_process import RedisProcess, redis_executable
from tests.integration.bus_listener import QUICK, Listener, come, publish, publish_until_heard

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
TOPICS = [b"{t}:b:one", b"{t}:b:two"]


@pytest.fixture
def server(tmp_path):
    with RedisProcess(tmp_path) as server:
        yield server


@pytest.fixture
async def proxy(server, nursery):
    proxy = ChaosProxy("127.0.0.1", server.port)
    await nursery.start(proxy.run)
    return proxy


@pytest.fixture
async def speaker(server, nursery):
    speaker = Listener(server.url)
    await nursery.start(speaker.bus.run)
    await speaker.until(lambda: speaker.is_up)
    return speaker


@pytest.fixture
async def listener(proxy, nursery):
    listener = Listener(f"redis://127.0.0.1:{proxy.listen_port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: all(listener.num_gaps.get(topic) for topic in TOPICS))
    return listener


async def keep_publishing(speaker, listener):
    while True:
        for topic in TOPICS:
            publish(speaker, listener, topic)
        await trio.sleep(0.002)


async def test_messages_arrive_in_order_on_both_nodes_and_only_where_wanted(speaker, listener):
    for _ in range(1000):
        for topic in (*TOPICS, b"{t}:b:other"):
            assert publish(speaker, listener, topic)
        if listener.published[TOPICS[0]] % 100 == 0:
            await trio.lowlevel.checkpoint()
    await listener.until(lambda: all(len(listener.received[t]) == 1000 for t in TOPICS))
    assert set(listener.received) == set(TOPICS)
    await come(lambda: speaker.bus.statistics().num_published == 3000)
    counts = speaker.bus.statistics()
    assert (counts.num_published, counts.num_dropped, counts.num_refused) == (3000, 0, 0)
    assert listener.bus.statistics().num_received == 2000


async def test_interest_comes_and_goes_in_batches(server, speaker, listener):
    listener.bus.unwant(TOPICS[:1])
    listener.bus.want([b"{t}:b:%d" % number for number in range(2500)])
    await listener.until(lambda: len(listener.num_gaps) == 2502)
    assert b"pubsub_channels:2501\r" in server.ask("INFO", "stats")
    assert b"cmdstat_subscribe:calls=4," in server.ask("INFO", "commandstats")  # 1 and 3
    listener.bus.want(TOPICS[:1])
    await listener.subscribed(TOPICS[:1])
    await publish_until_heard(speaker, listener, TOPICS[0])


@pytest.mark.parametrize("fault", ["kill_clients", "cut", "restart", "hang", "black_hole", "flood"])
async def test_every_fault_ends_in_a_subscription_and_a_gap(
    fault, server, proxy, speaker, listener
):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_publishing, speaker, listener)
        await listener.until(lambda: len(listener.received.get(TOPICS[1], ())) > 20)
        before = dict(listener.num_gaps)

        def has_gaps():
            return all(listener.num_gaps[topic] > before[topic] for topic in TOPICS)

        await FAULTS[fault](server, proxy, listener, has_gaps)
        await listener.until(has_gaps)
        await listener.until(lambda: listener.is_up and speaker.is_up)
        heard = {topic: len(listener.received[topic]) for topic in TOPICS}
        await listener.until(lambda: all(len(listener.received[t]) > heard[t] + 20 for t in TOPICS))
        nursery.cancel_scope.cancel()
    await listener.until(lambda: not any(listener.unaccounted(topic) for topic in TOPICS))
    counts = listener.bus.statistics()
    assert counts.num_reconnects >= 1
    assert counts.num_subscribed == counts.num_topics >= 2


async def kill_clients(server, _proxy, _listener, _has_gaps):
    assert await trio.to_thread.run_sync(server.ask, "CLIENT", "KILL", "TYPE", "pubsub") >= 1


async def cut(_server, proxy, _listener, _has_gaps):
    proxy.cut()


async def restart(server, _proxy, listener, _has_gaps):
    await trio.to_thread.run_sync(server.kill)
    await listener.until(lambda: not listener.is_up)
    await trio.to_thread.run_sync(server.start)


async def hang(server, _proxy, listener, _has_gaps):
    server.signal(signal.SIGSTOP)
    try:
        # Its connections stay open and it says nothing: only the PING deadline tells.
        await listener.until(lambda: not listener.is_up, timeout_s=5.0)
    finally:
        server.signal(signal.SIGCONT)


async def black_hole(_server, proxy, listener, _has_gaps):
    started = trio.current_time()
    proxy.black_hole()
    await listener.until(lambda: not listener.is_up, timeout_s=5.0)
    noticed_s = trio.current_time() - started
    assert noticed_s < QUICK.ping_s + QUICK.pong_s + 1.0
    proxy.heal()


async def flood(server, proxy, listener, has_gaps):
    """A subscriber that does not keep up is cut by Redis."""
    await trio.to_thread.run_sync(
        server.ask, "CONFIG", "SET", "client-output-buffer-limit", "pubsub 100kb 100kb 1"
    )
    proxy.delay_s = 0.2
    filler = "0" * 50_000

    def publish_much():
        for _ in range(400):
            server.ask("PUBLISH", "{t}:b:much", filler)

    listener.ignored.add(b"{t}:b:much")
    listener.bus.want(listener.ignored)
    await listener.until(lambda: b"{t}:b:much" in listener.num_gaps)
    await trio.to_thread.run_sync(publish_much)
    await listener.until(has_gaps)
    proxy.heal()


FAULTS = {each.__name__: each for each in (kill_clients, cut, restart, hang, black_hole, flood)}


async def test_while_the_link_is_down_publications_are_dropped_and_counted(server, speaker):
    await trio.to_thread.run_sync(server.kill)
    await speaker.until(lambda: not speaker.is_up)
    await come(lambda: not speaker.bus.publish(TOPICS[0], b"1"))  # the other link may end later
    assert speaker.bus.statistics().num_dropped == 1
    await trio.to_thread.run_sync(server.start)
    await speaker.until(lambda: speaker.is_up)
    assert speaker.bus.publish(TOPICS[0], b"1")


async def test_a_redis_that_is_not_there_at_the_start_is_waited_for(server, nursery):
    await trio.to_thread.run_sync(server.kill)
    listener = Listener(server.url)
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    assert not listener.bus.publish(TOPICS[0], b"1")
    await trio.to_thread.run_sync(server.start)
    await listener.until(lambda: len(listener.num_gaps) == 2)


async def test_cancelled_and_run_again_it_subscribes_what_is_still_wanted(server, speaker):
    listener = Listener(server.url)
    listener.bus.want(TOPICS)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.bus.run)
            await listener.subscribed(TOPICS)
            await publish_until_heard(speaker, listener, TOPICS[0])
            nursery.cancel_scope.cancel()
    assert listener.links == [True, False, True, False]
    assert set(listener.num_gaps.values()) == {2}
    await come(lambda: names(server) == ["syncd:publish", "syncd:subscribe"])


def names(server):
    """Of the connections that a bus holds."""
    return sorted(re.findall(r"name=(syncd\S+)", server.ask("CLIENT", "LIST").decode()))


async def test_a_user_with_the_least_rights_is_enough_and_a_wrong_password_is_told(server, nursery):
    server.ask(
        *("ACL", "SETUSER", "bus", "on", ">secret", "resetkeys", "resetchannels", "&{t}:b:*"),
        *("nocommands", "+ping", "+publish", "+subscribe", "+unsubscribe"),
    )
    listener = Listener(f"redis://bus:secret@127.0.0.1:{server.port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: len(listener.num_gaps) == 2 and listener.is_up)
    await publish_until_heard(listener, listener, TOPICS[0])
    assert listener.bus.publish(b"elsewhere", b"1")
    await come(lambda: listener.bus.statistics().num_refused)
    assert listener.is_up
    stranger = Listener(f"redis://bus:wrong@127.0.0.1:{server.port}")
    await nursery.start(stranger.bus.run)
    await come(
        lambda: any("WRONGPASS" in each.last_error for each in stranger.bus.statistics().links)
    )


def num_hellos(server):
    """How often a link was let in."""
    found = re.search(rb"cmdstat_hello:calls=(\d+)", server.ask("INFO", "commandstats"))
    return 0 if found is None else int(found[1])


async def test_a_user_who_may_not_subscribe_never_has_a_bus_that_is_up(server, nursery):
    server.ask(
        *("ACL", "SETUSER", "deaf", "on", ">secret", "&{t}:b:*"),
        *("nocommands", "+ping", "+publish"),
    )
    listener = Listener(f"redis://deaf:secret@127.0.0.1:{server.port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await come(lambda: num_hellos(server) > 5)
    assert listener.links == []
    assert any("NOPERM" in each.last_error for each in listener.bus.statistics().links)
    server.ask("ACL", "SETUSER", "deaf", "+subscribe")
    await listener.until(lambda: listener.is_up)


async def test_a_unix_socket_serves_as_well(tmp_path, nursery):
    path = tmp_path / "s"
    with RedisProcess(tmp_path, "--unixsocket", str(path)):
        listener = Listener(f"unix://{path}", settings=BusSettings())
        listener.bus.want(TOPICS)
        await nursery.start(listener.bus.run)
        await listener.until(lambda: len(listener.num_gaps) == 2 and listener.is_up)
        await publish_until_heard(listener, listener, TOPICS[0])
