"""Nodes inside the test's own Trio run: real sockets, every part in reach."""

import contextlib
import http.client
import json

import trio

from syncd.config import Action, Address, Config, HistoryKind, Limits, Mode, Namespace, Timing
from syncd.model.definitions_check import app_in_force
from syncd.server import open_node
from syncd.testing.plain_client import PlainClient

ANYONE = dict.fromkeys((Action.SUBSCRIBE, Action.PUBLISH, Action.HISTORY), ("anyone",))


def namespace(name, history, mode=Mode.STREAM, **options):
    return Namespace(name, mode=mode, history=history, allow=ANYONE, **options)


def make_config(folder, *namespaces, limits=None, timing=None, **options):
    """A node on a free port whose database lies in `folder`."""
    return Config(
        listen=Address(port=0),
        db=str(folder / "syncd.db"),
        api_keys={"test": "key-of-the-tests"},
        namespaces={ns.name: ns for ns in namespaces},
        limits=Limits(**(limits or {})),
        timing=Timing(**(timing or {})),
        **options,
    )


DURABLE = namespace("log", HistoryKind.DURABLE)
MEMORY = namespace("mem", HistoryKind.MEMORY)
LATEST = namespace("now", HistoryKind.MEMORY, Mode.LATEST)
LATEST_DURABLE = namespace("kept", HistoryKind.DURABLE, Mode.LATEST)
EPHEMERAL = Namespace(
    "live",
    mode=Mode.EPHEMERAL,
    history=HistoryKind.NONE,
    allow={Action.SUBSCRIBE: ("anyone",), Action.PUBLISH: ("anyone",)},
)


@contextlib.asynccontextmanager
async def running(config, *, app=None, limit_s=60):
    """Run a node, with an `App` if one is given; yields it and a function that connects and greets. A failure to stop in time is an error."""
    async with contextlib.AsyncExitStack() as stack:
        definition = app_in_force(None if app is None else app.definition(), config)
        node = await stack.enter_async_context(open_node(config, definition))
        port = node.addresses[0][1]

        async def connect(**options):
            client = await PlainClient.connect(port, **options)
            stack.push_async_callback(client.aclose)
            await client.hello()
            return client

        with trio.fail_after(limit_s):
            yield node, connect


async def publish(client, channel, count=1, *, size=0, key=None, first=0):
    """Publish `count` events `{"n": first...}` of about `size` bytes and return the last position."""
    body = {}
    extra = {} if key is None else {"key": key}
    for number in range(first, first + count):
        data = {"n": number, "fill": bytes(size)} if size else {"n": number}
        kind, body = await client.ask("publish", channel=channel, data=data, **extra)
        assert kind == "ok", body
    return body.get("position")


async def subscribe(client, observer, **body):
    """Subscribe an observer, with its position if it has one, and return the answer."""
    if observer.position() is not None and "position" not in body:
        body["position"] = observer.position()
    await client.send("subscribe", id=7, channel=observer.channel, **body)
    while True:
        kind, answer = await client.receive()
        assert kind != "error", answer
        observer.take(kind, answer)
        if kind == "subscribed":
            return answer


async def read_until(client, observer, offset):
    """Read until the observer stands at `offset`, or its subscription is over."""
    while observer.offset < offset:
        kind, body = await client.receive()
        observer.take(kind, body)
        if kind == "lagged":
            return


async def wait_for(ask, holds, timeout_s=20):
    """Ask again until the answer will do, and return it."""
    with trio.fail_after(timeout_s):
        while not holds(answer := await ask()):  # noqa: ASYNC110 - a condition of the node's, asked from outside
            await trio.sleep(0.02)
    return answer


def readiness_of(port):
    """Ask a node whether it is ready, in a thread; returns the status and the reasons."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["reasons"]
    finally:
        connection.close()
