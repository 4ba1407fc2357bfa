"""The bus on a real cluster of three masters, and behind real Sentinels: topics follow their masters, with a gap each time."""

import signal

import pytest
import trio

from syncd.bus.topology import discover, slot_of_topic
from syncd.redis_address import Endpoint, parse_redis_url
from syncd.testing.redis_process import redis_executable
from tests.integration.bus_listener import Listener, come, publish, publish_until_heard
from tests.integration.redis_groups import open_cluster, open_watched

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
TOPICS = [b"{%d}:b:live" % number for number in range(30)]


@pytest.fixture
def cluster(tmp_path):
    with open_cluster(tmp_path) as nodes:
        yield nodes


def node_id(node):
    return node.ask("CLUSTER", "MYID").decode()


def move_slot(slot, source, target, others):
    """Give an empty slot to another master."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    for node in (target, source, *others):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))


async def test_topics_are_spread_over_the_masters_of_a_cluster(cluster, nursery):
    listener = Listener(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: len(listener.num_gaps) == len(TOPICS) and listener.is_up)
    for number in range(3000):
        assert publish(listener, listener, TOPICS[number % len(TOPICS)])
    await listener.until(lambda: all(len(listener.received.get(t, ())) == 100 for t in TOPICS))
    counts = listener.bus.statistics()
    assert len(counts.links) == 6
    assert counts.num_refused == 0
    shares = [len(node.ask("PUBSUB", "SHARDCHANNELS")) for node in cluster]
    assert sum(shares) == len(TOPICS)
    assert min(shares) > 0


async def test_a_topic_follows_its_slot_to_another_master(cluster, nursery):
    one, two, three = cluster
    topic = next(t for t in TOPICS if slot_of_topic(t) < 5000)
    listener = Listener(f"redis+cluster://127.0.0.1:{two.port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: len(listener.num_gaps) == len(TOPICS) and listener.is_up)
    await publish_until_heard(listener, listener, topic)
    before = listener.num_gaps[topic]
    await trio.to_thread.run_sync(move_slot, slot_of_topic(topic), one, two, [three])
    await listener.until(lambda: listener.num_gaps[topic] > before)
    await publish_until_heard(listener, listener, topic)
    name = topic.decode()
    await come(lambda: two.ask("PUBSUB", "SHARDNUMSUB", name)[1] == 1)
    await come(lambda: not listener.unaccounted(topic))


async def test_a_master_that_dies_and_comes_back_takes_only_its_topics_with_it(cluster, nursery):
    listener = Listener(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: len(listener.num_gaps) == len(TOPICS) and listener.is_up)
    mine = [t for t in TOPICS if slot_of_topic(t) >= 2 * (16_384 // 3)]
    others = [t for t in TOPICS if slot_of_topic(t) < 16_384 // 3]
    cluster[2].signal(signal.SIGSTOP)
    await listener.until(lambda: not listener.is_up)
    await publish_until_heard(listener, listener, others[0])
    cluster[2].signal(signal.SIGCONT)
    await listener.until(lambda: all(listener.num_gaps[t] >= 2 for t in mine))
    await listener.until(lambda: listener.is_up)
    await publish_until_heard(listener, listener, mine[0])
    assert {listener.num_gaps[t] for t in others} == {1}


# ------------------------------------------------------------------------------------------------ Sentinel


@pytest.fixture
def watched(tmp_path):
    with open_watched(tmp_path) as group:
        yield group


@pytest.mark.parametrize("fault", ["killed", "hung"])
async def test_the_bus_follows_a_failover(fault, watched, nursery):
    master, replica, sentinels = watched
    places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    url = f"redis+sentinel://{places}/main"
    assert discover(parse_redis_url(url)).endpoints == (Endpoint("127.0.0.1", master.port),)
    listener = Listener(url)
    listener.bus.want(TOPICS)
    await nursery.start(listener.bus.run)
    await listener.until(lambda: len(listener.num_gaps) == len(TOPICS) and listener.is_up)
    await publish_until_heard(listener, listener, TOPICS[0])
    if fault == "killed":
        await trio.to_thread.run_sync(master.kill)
    else:
        master.signal(signal.SIGSTOP)
    await listener.until(lambda: all(listener.num_gaps[t] == 2 for t in TOPICS))
    await listener.until(lambda: listener.is_up)
    addresses = {each.address for each in listener.bus.statistics().links}
    assert addresses == {f"127.0.0.1:{replica.port}"}
    await publish_until_heard(listener, listener, TOPICS[0])
    if fault == "hung":
        # It wakes up and still takes itself for the master until a Sentinel tells it: nobody may listen to it.
        master.signal(signal.SIGCONT)
        await publish_until_heard(listener, listener, TOPICS[0])
    assert not listener.unaccounted(TOPICS[0])
