"""200 clients of one node come back to another and recover: what each of them costs Redis, as Redis counts it, what scripts do included."""

import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
import trio

from syncd import App
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.plain_client import PlainClient
from syncd.testing.redis_process import redis_executable
from syncd.testing.redis_server import RedisServer
from tests.integration.nodes import DURABLE, make_config, wait_for

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(redis_executable() is None, reason="no redis-server here"),
]

NUM_CLIENTS = 200
NUM_MISSED = 2
MOST = 6.0
"""Redis commands a client."""

SHARED, OWN, PARTITION, ALL, KEYS = (
    ("subscribe", {"channel": "log:all"}),
    ("subscribe", {"channel": "log:{}"}),
    ("watch", {"collection": "lists", "partition": "{}"}),
    ("watch", {"collection": "orders", "all": True}),
    ("watch", {"collection": "orders", "keys": ["k0", "k1"]}),
)


def make_app():
    app = App(mutate="anyone")
    options = {"read": "anyone", "mutate": "anyone", "write": "anyone"}
    app.collection("orders", **options)
    app.collection("lists", partitioned=True, **options)
    return app


@pytest.fixture
async def world(tmp_path):
    """Two nodes on a Redis of their own, and a connection to that."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-")))
        server = stack.enter_context(RedisServer(folder / "r"))
        redis = stack.enter_context(server.client())
        nodes = []
        for _ in range(2):
            config = make_config(tmp_path, DURABLE, redis=server.url)
            app = app_in_force(make_app().definition(), config)
            node = await stack.enter_async_context(open_node(config, app))
            await wait_for(trio.lowlevel.checkpoint, lambda _, n=node: n.bridge.is_up)
            nodes.append(node)
        with trio.fail_after(60):
            yield nodes, redis


class Client:
    """One that subscribes and watches, and knows where it stands when it comes back."""

    def __init__(self, number, wishes):
        self.wishes = [
            (kind, {k: v.format(number) if isinstance(v, str) else v for k, v in body.items()})
            for kind, body in wishes
        ]
        self.claims = None
        self.positions = [None] * len(wishes)

    async def visit(self, node):
        client = await PlainClient.connect(node.addresses[0][1])
        try:
            hello = {} if self.claims is None else {"clients": self.claims}
            welcome = await client.hello(**hello)
            if self.claims is None:
                known = welcome["clients"]
                self.claims = [{name: c[name] for name in ("client", "secret")} for c in known]
            for index, (kind, body) in enumerate(self.wishes):
                await self._ask(client, index, kind, body)
        finally:
            await client.aclose()

    async def _ask(self, client, index, kind, body):
        position = self.positions[index]
        known = {} if position is None else {"position": position}
        answered, answer = await client.ask(kind, **body, **known)
        assert answered == {"subscribe": "subscribed", "watch": "watched"}[kind], answer
        if position is not None:
            assert answer["recovered"], answer
            if kind == "subscribe":
                assert [event["data"] for event in answer["events"]] == [*range(NUM_MISSED)]
        self.positions[index] = answer["position"]


async def all_visit(clients, node):
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.visit, node)


async def miss(node, clients):
    """Have something happen wherever anybody was."""
    author = await PlainClient.connect(node.addresses[0][1])
    await author.hello()
    mids = itertools.count(1)
    places = {(kind, str(sorted(body.items()))): body for c in clients for kind, body in c.wishes}
    for (kind, _), body in places.items():
        for number in range(NUM_MISSED):
            if kind == "subscribe":
                told, _ = await author.ask("publish", channel=body["channel"], data=number)
                assert told == "ok"
                continue
            key = f"{body['partition']}/k{number}" if "partition" in body else f"k{number}"
            args = {"key": key, "value": number}
            name = f"{body['collection']}.put"
            await author.send("mutate", mid=next(mids), name=name, args=args)
            _, outcome = await author.expect("outcome")
            assert outcome["status"] == "ok", outcome
    await author.aclose()


def num_commands(redis):
    return sum(told["calls"] for told in redis.info("commandstats").values())


@pytest.mark.parametrize(
    "wishes",
    [
        pytest.param([SHARED], id="one channel"),
        pytest.param([OWN], id="a channel of its own"),
        pytest.param([PARTITION], id="a partition of its own"),
        pytest.param([ALL], id="a collection"),
        pytest.param([KEYS], id="keys"),
        pytest.param([SHARED, OWN, ALL], id="what an application has"),
    ],
)
async def test_a_client_that_comes_back_to_another_node_costs_redis_little(world, wishes):
    (left, found), redis = world
    clients = [Client(number, wishes) for number in range(NUM_CLIENTS)]
    await all_visit(clients, left)
    await miss(left, clients)
    before = num_commands(redis)
    await all_visit(clients, found)
    per_client = (num_commands(redis) - before) / NUM_CLIENTS
    assert per_client <= MOST
