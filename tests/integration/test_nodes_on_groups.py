"""Two nodes on a real cluster of three masters, and behind real Sentinels that replace the master under them."""

import pytest
import trio

from syncd.testing.redis_process import redis_executable, wait_until
from tests.integration.nodes import wait_for
from tests.integration.redis_groups import open_cluster, open_watched
from tests.integration.two_nodes import (
    Present,
    check_outcome,
    check_outcomes,
    check_presence,
    check_publications,
    check_reads_follow_writes,
    check_watches,
    mutate,
    name_of,
    publish,
    subscribe,
    two_nodes,
    until_done,
    value_of,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]


@pytest.fixture(scope="module")
def masters(tmp_path_factory):
    with open_cluster(tmp_path_factory.mktemp("cluster")) as masters:
        yield masters


@pytest.fixture
async def world(masters, tmp_path):
    for master in masters:
        master.ask("FLUSHALL")
    async with two_nodes(f"redis+cluster://127.0.0.1:{masters[1].port}", tmp_path) as world:
        yield world


@pytest.mark.parametrize("kind", ["log", "mem", "now"])
async def test_on_a_cluster_events_of_one_node_arrive_at_the_other(world, kind):
    await check_publications(world, [f"{kind}:{number}" for number in range(4)])


async def test_on_a_cluster_ephemeral_events_arrive_by_way_of_all_masters(world, masters):
    await check_publications(world, [f"live:{number}" for number in range(12)])
    shares = [len(each.ask("PUBSUB", "SHARDCHANNELS", "syncd:x:live:*")) for each in masters]
    assert sum(shares) == 12
    assert min(shares) > 0


async def test_on_a_cluster_a_mutation_on_one_node_is_watched_read_and_known_on_the_other(world):
    await check_watches(world, "watched")
    await check_reads_follow_writes(world, "read")
    await check_outcomes(world, "sum")


async def test_on_a_cluster_who_is_present_on_one_node_is_told_on_the_other(world):
    await check_presence(world, "room:a")


async def test_nodes_behind_sentinels_go_on_after_a_failover(tmp_path):
    """Before it and after it all is told, and what the replica had taken over is still so."""
    with open_watched(tmp_path) as (master, replica, sentinels):
        places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
        async with two_nodes(f"redis+sentinel://{places}/main", tmp_path) as world:
            await check_everything(world, "before")
            author, reader = await world.connect(0), await world.connect(1)
            await subscribe(reader, "log:kept")
            await publish(author, "log:kept", 1)
            assert (await reader.expect("event"))[1]["data"] == 1
            member, watcher, crowd = await world.connect(0), await world.connect(1), Present()
            await until_done(member, "presence", channel="room:kept", state="here")
            await watcher.send("subscribe", id=99, channel="room:kept", presence=True)
            await crowd.until(watcher, {name_of(member): "here"})
            once = await mutate(author, "orders.incr", key="once")
            await trio.to_thread.run_sync(let_follow, master, replica)

            await trio.to_thread.run_sync(master.kill)
            position = await publish(author, "log:kept", 2, uid="second")
            await until_reached(reader, "log:kept", position, 2)
            await author.aclose()
            await check_outcome(world, author, once, "once")
            assert await value_of(reader, "once", after=once["positions"]) == 1
            await until_done(member, "presence", channel="room:kept", state="still here")
            await crowd.until(watcher, {name_of(member): "still here"})
            await check_everything(world, "after")
            for node in world.nodes:
                await wait_for(
                    trio.lowlevel.checkpoint, lambda _, n=node: not n.reasons_not_ready()
                )


async def check_everything(world, name):
    await check_publications(world, [f"{kind}:{name}" for kind in ("log", "mem", "now", "live")])
    await check_watches(world, f"watched-{name}")
    await check_reads_follow_writes(world, f"read-{name}")
    await check_outcomes(world, f"sum-{name}")
    await check_presence(world, f"room:{name}")


def let_follow(master, replica):
    """Wait until the replica has everything that the master had when this was called."""
    upto = offset_of(master, b"master_repl_offset")
    wait_until(lambda: offset_of(replica, b"slave_repl_offset") >= upto, "the replica follows")


def offset_of(server, name):
    info = dict(
        line.split(b":", 1)
        for line in server.ask("INFO", "replication").splitlines()
        if b":" in line
    )
    return int(info[name])


async def until_reached(reader, channel, position, data):
    """An epoch that nobody vouches for is over: then the subscriber is told so, and asks anew."""
    while True:
        kind, body = await reader.expect("event", "subscribed", "unsubscribed", "lagged")
        if kind in ("unsubscribed", "lagged"):
            kind, body = "subscribed", await subscribe(reader, channel)
        if kind == "event" and body["data"] == data:
            return
        if kind == "subscribed" and body["position"] == position:
            return
