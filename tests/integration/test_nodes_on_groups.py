"""Two nodes on a real cluster of three masters, and behind real Sentinels that replace the master under them."""

import contextlib

import pytest
import trio

from syncd.testing.plain_client import PlainClient
from syncd.testing.process import ServerProcess
from syncd.testing.redis_process import redis_executable
from tests.integration.redis_groups import open_cluster, open_watched

PATIENT_S = 60.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(
        redis_executable() is None, reason="no redis-server (make test installs it)"
    ),
]
CONFIG = """
[namespaces.demo]
history = "durable"
allow = { subscribe = ["anyone"], publish = ["anyone"], history = ["anyone"] }

[namespaces.live]
mode = "ephemeral"
allow = { subscribe = ["anyone"], publish = ["anyone"] }
"""


@contextlib.contextmanager
def two_nodes(folder, url):
    with contextlib.ExitStack() as stack:
        nodes = []
        for name in ("a", "b"):
            own = folder / name
            own.mkdir()
            node = stack.enter_context(ServerProcess(own, CONFIG, arguments=("--redis", url)))
            node.start()
            nodes.append(node)
        yield nodes


async def connect(node):
    client = await PlainClient.connect(node.port)
    await client.hello()
    return client


async def publish_until_ok(client, channel, data):
    """Publish, again while the store is away; the `uid` makes it once."""
    while True:
        kind, answer = await client.ask(
            "publish", channel=channel, data=data, uid=f"{channel}-{data}"
        )
        if kind == "ok":
            return answer
        assert answer["retryable"], answer
        await trio.sleep(0.2)


async def test_nodes_on_a_cluster_hear_each_other(tmp_path):
    with open_cluster(tmp_path) as masters:
        url = f"redis+cluster://127.0.0.1:{masters[1].port}"
        with two_nodes(tmp_path, url) as nodes, trio.fail_after(PATIENT_S):
            speaker, listener = [await connect(node) for node in nodes]
            channels = [f"{kind}:{n}" for kind in ("demo", "live") for n in range(6)]
            for channel in channels:
                assert (await listener.ask("subscribe", channel=channel))[0] == "subscribed"
            for number in range(5):
                for channel in channels:
                    await publish_until_ok(speaker, channel, number)
            seen = {channel: [] for channel in channels}
            while any(len(each) < 5 for name, each in seen.items() if name.startswith("demo")):
                event = (await listener.expect("event"))[1]
                seen[event["channel"]].append(event["data"])
            for channel in channels[:6]:
                assert seen[channel] == list(range(5))
            for client in (speaker, listener):
                await client.aclose()


async def test_nodes_behind_sentinels_go_on_after_a_failover(tmp_path):
    with open_watched(tmp_path) as (master, _replica, sentinels):
        places = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
        url = f"redis+sentinel://{places}/main"
        with two_nodes(tmp_path, url) as nodes, trio.fail_after(PATIENT_S):
            speaker, listener = [await connect(node) for node in nodes]
            assert (await listener.ask("subscribe", channel="demo:a"))[0] == "subscribed"
            await publish_until_ok(speaker, "demo:a", 1)
            assert (await listener.expect("event"))[1]["data"] == 1
            await trio.to_thread.run_sync(master.kill)
            told = await publish_until_ok(speaker, "demo:a", 2)
            # An epoch that nobody vouches for is over: then the subscriber is told so, and asks anew.
            has_seen = False
            while not has_seen:
                kind, body = await listener.expect("event", "subscribed", "unsubscribed", "lagged")
                if kind in ("unsubscribed", "lagged"):
                    kind, body = await listener.ask("subscribe", channel="demo:a")
                if kind == "event":
                    has_seen = body["data"] == 2
                else:
                    has_seen = body["position"] == told["position"]
            for node in nodes:
                await trio.to_thread.run_sync(node.wait_ready)
            for client in (speaker, listener):
                await client.aclose()
