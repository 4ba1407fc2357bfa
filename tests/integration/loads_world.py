"""Two nodes that share a Redis and the loads of a collection, and a source that says who asked it for what."""

import contextlib

import attrs
import trio

from syncd import App, Tagged
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.plain_client import PlainClient
from tests.integration.nodes import make_config, wait_for

LOAD_S = 2.0


@attrs.define
class Source:
    """Says what is there once its gate is open; `calls` has which node asked for what."""

    values: dict = attrs.field(factory=dict)
    calls: list = attrs.field(factory=list)
    gate: trio.Event = attrs.field(factory=trio.Event)
    failures: list = attrs.field(factory=list)

    async def load(self, node, keys):
        self.calls.append((node, sorted(keys)))
        values = {key: Tagged(self.values[key], ["t"]) for key in keys if key in self.values}
        await self.gate.wait()
        if node in self.failures:
            raise OSError("the source is away")
        return values


@attrs.define
class World:
    nodes: list
    apps: list
    clients: list
    source: Source

    async def read(self, number, *keys):
        kind, answer = await self.clients[number].ask("read", collection="prices", keys=list(keys))
        if kind == "error":
            return answer["code"]
        return [entry.get("value") for entry in answer["entries"]]

    def count(self, number, name):
        return self.nodes[number].cache_owner.cache_statistics()["prices"][name]

    async def until(self, number, name, value):
        async def ask():
            await trio.lowlevel.checkpoint()
            return self.count(number, name)

        await wait_for(ask, lambda found: found == value)


def make_app(source, number, **options):
    app = App()
    options = {"ttl": "1 h", "load_timeout": LOAD_S, **options}
    prices = app.collection("prices", read="anyone", single_flight="cluster", **options)

    @prices.loader
    async def load(keys: list[str]):
        return await source.load(number, keys)

    return app


async def waiting(world):
    """Wait until one node loads and the other waits for it; return the number of the one that loads."""

    async def ask():
        await trio.lowlevel.checkpoint()
        return [world.count(number, "load_waits") for number in range(2)]

    waits = await wait_for(ask, any)
    return waits.index(0)


@contextlib.asynccontextmanager
async def reading(world, *keys):
    """Let both nodes read the same keys at the same time; yields the one that loads them, then fills in the answers."""
    answers = [None, None]

    async def read(number):
        answers[number] = await world.read(number, *keys)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(read, number)
        yield await waiting(world), answers


async def expired(world, key="a"):
    """Wait until a key is fresh on no node."""

    def is_fresh(node):
        holding = node.cache_owner.holdings.by_name["prices"]
        now = trio.current_time()
        entry = holding.memory.peek(("prices", key), now)
        return entry is not None and now < entry.fresh_until

    def is_over(_):
        return not any(map(is_fresh, world.nodes))

    await wait_for(trio.lowlevel.checkpoint, is_over)


@contextlib.asynccontextmanager
async def two_nodes(server, folder, **options):
    """Run two nodes, with options of the collection, and a client of each."""
    world = World([], [], [], Source({"a": 1, "b": 2}))
    async with contextlib.AsyncExitStack() as stack:
        for number in range(2):
            config = make_config(folder, redis=server.url)
            app = make_app(world.source, number, **options)
            node = await stack.enter_async_context(
                open_node(config, app_in_force(app.definition(), config))
            )
            await wait_for(trio.lowlevel.checkpoint, lambda _, n=node: n.bridge.is_up)
            client = await PlainClient.connect(node.addresses[0][1])
            stack.push_async_callback(client.aclose)
            await client.hello()
            world.nodes.append(node)
            world.apps.append(app)
            world.clients.append(client)
        with trio.fail_after(60):
            yield world
