"""Whatever a loader or a mutator does wrong is told to that request alone and logged once; everybody else is served meanwhile."""

import contextlib

import pytest
import structlog
import trio

from syncd.app import App
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.plain_client import PlainClient
from tests.integration.nodes import make_config


@pytest.fixture(autouse=True)
def log_lines():
    with structlog.testing.capture_logs() as lines:
        yield lines


def faulty_app():
    app = App()
    items = app.collection("items", ttl=60, load_timeout=0.5, max_value_bytes=10_000)
    app.num_loads = 0

    @items.loader
    async def load(key):
        app.num_loads += 1
        return await faulty_load(key)

    add_mutators(app.collection("boxes"))
    return app


async def faulty_load(key):
    match key:
        case "fails":
            raise ConnectionError("secret of the database")
        case "hangs":
            await trio.sleep_forever()
        case "slow":
            await trio.sleep(0.3)
        case "wrong":
            return object()
        case "huge":
            return "x" * 1_000_000
    return key


def add_mutators(boxes):
    @boxes.mutator
    def put(tx, key: str, value: int):
        tx.put(key, value)

    @boxes.mutator
    def explode(tx, key: str):
        tx.put(key, 1)
        raise ZeroDivisionError("secret of the mutator")

    @boxes.mutator
    def loop(tx, key: str):
        tx.put(key, 1)
        while True:
            pass

    @boxes.mutator
    def huge(tx, key: str):
        tx.put(key, "x" * 1_000_000)

    @boxes.mutator
    def wrong(tx, key: str):
        tx.put(key, object())

    @boxes.mutator
    def result(tx, key: str):
        tx.put(key, 1)
        return object()


@contextlib.asynccontextmanager
async def serving(tmp_path, app):
    """Run a node with an application; yields it and a function that connects and greets."""
    config = make_config(tmp_path, insecure=True)
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(
            open_node(config, app_in_force(app.definition(), config))
        )

        async def connect():
            client = await PlainClient.connect(node.addresses[0][1])
            stack.push_async_callback(client.aclose)
            await client.hello()
            return client

        with trio.fail_after(30):
            yield node, connect


async def mutate(client, mid, name, *args):
    await client.send("mutate", mid=mid, name=f"boxes.{name}", args=list(args))
    kind, body = await client.expect("outcome", "error", "out_of_order")
    assert kind == "outcome", body
    return body


LOADS = {
    "fails": ("load_failed", "load_failed"),
    "hangs": ("load_timeout", "load_timeout"),
    "wrong": ("bad_source", "bad_source"),
    "huge": ("bad_source", "bad_source"),
}


@pytest.mark.parametrize("key", LOADS)
async def test_a_loader_that_fails_is_told_to_its_reader_alone(tmp_path, log_lines, key):
    code, event = LOADS[key]
    async with serving(tmp_path, faulty_app()) as (_node, connect):
        reader, other = await connect(), await connect()
        await reader.send("read", id=1, collection="items", keys=[key])
        for number in range(20):
            kind, body = await other.ask("read", collection="items", keys=[f"k{number}"])
            assert kind == "ok", body
            assert body["entries"][0]["value"] == f"k{number}"
        kind, body = await reader.receive()
        assert (kind, body["id"], body["code"]) == ("error", 1, code)
        assert "secret" not in str(body)
        kind, _ = await reader.ask("read", collection="items", keys=["fine"])
        assert kind == "ok"
    assert [line["event"] for line in log_lines if line["log_level"] == "error"] == [event]


async def test_a_reader_that_leaves_takes_nothing_with_it(tmp_path, log_lines):
    app = faulty_app()
    async with serving(tmp_path, app) as (_node, connect):
        leaver, stayer = await connect(), await connect()
        await leaver.send("read", id=1, collection="items", keys=["slow"])
        await stayer.send("read", id=1, collection="items", keys=["slow"])
        await trio.sleep(0.05)
        await leaver.aclose()
        kind, body = await stayer.receive()
        assert (kind, body["entries"][0]["value"]) == ("ok", "slow")
        assert app.num_loads == 1
    assert [line for line in log_lines if line["log_level"] == "error"] == []


MUTATORS = {
    "explode": ("mutator_failed", ["mutator_failed"]),
    "loop": ("mutator_timeout", ["mutator_failed"]),
    "wrong": ("mutator_failed", ["mutator_failed"]),
    "result": ("mutator_failed", ["mutator_failed"]),
    "huge": ("too_large", []),
}


@pytest.mark.parametrize("name", MUTATORS)
async def test_a_mutator_that_fails_is_told_to_its_client_alone(tmp_path, log_lines, name):
    code, events = MUTATORS[name]
    async with serving(tmp_path, faulty_app()) as (_node, connect):
        client, other = await connect(), await connect()
        await client.send("mutate", mid=1, name=f"boxes.{name}", args=["a"])
        await client.send("mutate", mid=2, name="boxes.put", args=["b", 2])
        for mid in range(1, 21):
            assert (await mutate(other, mid, "put", f"k{mid}", mid))["status"] == "ok"
        _, rejected = await client.expect("outcome")
        assert (rejected["mid"], rejected["status"]) == (1, "rejected")
        assert rejected["error"]["code"] == code
        assert "secret" not in str(rejected)
        _, following = await client.expect("outcome")
        assert (following["mid"], following["status"]) == (2, "ok")
        _, body = await other.ask("read", collection="boxes", keys=["a", "b", "k20"])
        assert [entry.get("value") for entry in body["entries"]] == [None, 2, 20]
    assert [line["event"] for line in log_lines if line["log_level"] == "error"] == events
