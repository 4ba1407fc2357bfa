"""Two nodes in one Trio run that share a Redis, and what each of them is to know of what is done on the other.

The steps ask again while the store is away: they may begin in the middle of a failover.
"""

import contextlib
import itertools

import trio

from syncd import App
from syncd.config import Action, HistoryKind, Mode, Namespace
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.crowd import wait_as_told
from syncd.testing.plain_client import PlainClient
from tests.integration.nodes import (
    ANYONE,
    DURABLE,
    EPHEMERAL,
    LATEST,
    MEMORY,
    make_config,
    wait_for,
)

ROOM = Namespace(
    "room",
    mode=Mode.EPHEMERAL,
    history=HistoryKind.NONE,
    presence=True,
    allow={**ANYONE, Action.PRESENCE: ("anyone",)},
)


def make_app(source, told=()):
    app = App(mutate="anyone")
    options = {"read": "anyone", "mutate": "anyone", "write": "anyone"}
    app.collection("orders", **options)
    prices = app.collection("prices", read="anyone", ttl="1 h")
    app.collection("drafts", volatile=True, **options)

    @prices.loader
    async def load(key: str):
        return source.get(key)

    accounts = app.collection("accounts", **options)

    @accounts.on_commit
    async def forward(change):
        told.append((app, change.key, change.version, change.value))

    return app


class World:
    """Nodes, and clients that hang up at the end."""

    def __init__(self, url, folder, stack):
        self._url, self._folder, self._stack = url, folder, stack
        self.source = {"a": 1}
        self.nodes = []
        self.apps = []
        self.told = []

    @contextlib.asynccontextmanager
    async def node(self):
        kinds = (DURABLE, MEMORY, LATEST, EPHEMERAL, ROOM)
        config = make_config(self._folder, *kinds, redis=self._url)
        app = make_app(self.source, self.told)
        async with open_node(config, app_in_force(app.definition(), config)) as node:
            await wait_for(trio.lowlevel.checkpoint, lambda _: node.bridge.is_up)
            self.nodes.append(node)
            self.apps.append(app)
            yield node

    async def connect(self, index, **hello):
        client = await PlainClient.connect(self.nodes[index].addresses[0][1])
        self._stack.push_async_callback(client.aclose)
        client.welcome = await client.hello(**hello)
        client.mids = itertools.count(1)
        return client


@contextlib.asynccontextmanager
async def two_nodes(url, folder):
    """Run both; a test has a minute."""
    async with contextlib.AsyncExitStack() as stack:
        world = World(url, folder, stack)
        await stack.enter_async_context(world.node())
        await stack.enter_async_context(world.node())
        with trio.fail_after(60):
            yield world


# ------------------------------------------------------------------------------------------------ steps


async def until_done(client, kind, **body):
    """Ask, and again while the store is away."""
    while True:
        answer_kind, answer = await client.ask(kind, **body)
        if answer_kind != "error":
            return answer
        assert answer["retryable"], answer
        await wait_as_told(answer)


async def subscribe(client, channel, **body):
    return await until_done(client, "subscribe", channel=channel, **body)


async def publish(client, channel, data, **body):
    return (await until_done(client, "publish", channel=channel, data=data, **body)).get("position")


async def mutate(client, name, **args):
    return await send_mutation(client, next(client.mids), name, args)


async def send_mutation(client, mid, name, args):
    """Have a mutation decided: sent again under its number while the store is away."""
    while True:
        await client.send("mutate", mid=mid, name=name, args=args)
        kind, body = await client.expect("outcome", "error", "out_of_order")
        if kind == "outcome":
            assert body["status"] == "ok", body
            return body
        assert body.get("retryable"), body
        await wait_as_told(body)


async def put(client, collection, key, value):
    return await mutate(client, f"{collection}.put", key=key, value=value)


async def value_of(client, key, **body):
    """Read one order."""
    answer = await until_done(client, "read", collection="orders", keys=[key], **body)
    return answer["entries"][0].get("value")


async def data_of(client, count):
    return [(await client.expect("event"))[1]["data"] for _ in range(count)]


# ------------------------------------------------------------------------------------------------ what is to be so


async def check_publications(world, channels):
    """Whatever is published on one node arrives at a subscriber of the other: once, in its channel's order."""
    author, reader = await world.connect(0), await world.connect(1)
    for channel in channels:
        await subscribe(reader, channel)
    await until_heard(author, reader, channels)
    for number in range(5):
        for channel in channels:
            await publish(author, channel, number, uid=f"{channel}-{number}")
    seen = {channel: [] for channel in channels}
    while any(len(each) < 5 for each in seen.values()):
        _, event = await reader.expect("event")
        seen[event["channel"]].append(event["data"])
    assert seen == {channel: [*range(5)] for channel in channels}


async def until_heard(author, reader, channels):
    """Publish until the reader hears of every channel: without history nothing is found that was said before Redis listened for it."""
    heard = set()
    while len(heard) < len(channels):
        silent = [channel for channel in channels if channel not in heard]
        for channel in silent:
            await publish(author, channel, "begin")
        with trio.move_on_after(0.2):
            while len(heard) < len(channels):
                heard.add((await reader.expect("event"))[1]["channel"])
    for channel in channels:
        await publish(author, channel, "began")
    ended = set()
    while len(ended) < len(channels):
        _, event = await reader.expect("event")
        if event["data"] == "began":
            ended.add(event["channel"])


async def check_watches(world, key):
    """A mutation on one node is told who watches on the other."""
    author, watcher = await world.connect(0), await world.connect(1)
    await put(author, "orders", key, {"n": 1})
    watched = await until_done(watcher, "watch", collection="orders", all=True)
    values = {entry["key"]: entry.get("value") for entry in watched["entries"]}
    assert values[key] == {"n": 1}
    await put(author, "orders", key, {"n": 2})
    _, event = await watcher.expect("event")
    assert (event["key"], event["data"]) == (key, {"value": {"n": 2}})


async def check_reads_follow_writes(world, key):
    """READ-YOUR-WRITES: who was told an outcome reads nothing older on the other node, which has the entry in memory."""
    author, reader = await world.connect(0), await world.connect(1)
    await put(author, "orders", key, 1)
    for n in range(2, 12):
        assert await value_of(reader, key) == n - 1
        outcome = await put(author, "orders", key, n)
        assert await value_of(reader, key, after=outcome["positions"]) == n


async def check_outcomes(world, key):
    """ONCE: a mutation that is sent again through the other node is answered what it was answered before."""
    author = await world.connect(0)
    outcome = await mutate(author, "orders.incr", key=key)
    await author.aclose()
    await check_outcome(world, author, outcome, key)


async def check_outcome(world, author, outcome, key):
    """As for `check_outcomes`; the author is gone, and counted the key up once."""
    again = await world.connect(1, clients=[author.welcome["clients"][0]])
    assert again.welcome["clients"][0]["last_mid"] == outcome["mid"]
    assert await send_mutation(again, outcome["mid"], "orders.incr", {"key": key}) == outcome
    assert await value_of(again, key) == 1


async def check_presence(world, channel):
    """A member of one node is known to who looks on the other: who was there, who comes, what changes, who leaves."""
    here, late, watcher = [await world.connect(index) for index in (0, 0, 1)]
    await until_done(here, "presence", channel=channel, state="here")
    await watcher.send("subscribe", id=99, channel=channel, presence=True)
    crowd = Present()
    await crowd.until(watcher, {name_of(here): "here"})
    await until_done(late, "presence", channel=channel, state="late")
    await crowd.until(watcher, {name_of(here): "here", name_of(late): "late"})
    await until_done(here, "presence", channel=channel, state="there")
    await crowd.until(watcher, {name_of(here): "there", name_of(late): "late"})
    await until_done(late, "presence", channel=channel, state=None)
    await crowd.until(watcher, {name_of(here): "there"})


def name_of(client):
    return client.welcome["clients"][0]["client"]


class Present:
    """Who is present, as one watcher was told."""

    def __init__(self):
        self.states = {}

    async def until(self, watcher, wanted):
        while self.states != wanted:
            kind, body = await watcher.expect("presence_state", "presence_diff")
            if kind == "presence_state":
                self.states = {}
                members = body["members"]
            else:
                members = body["joins"] + body["updates"]
                for name in body["leaves"]:
                    del self.states[name]
            for member in members:
                self.states[member["member"]] = member["states"][-1]["state"]
