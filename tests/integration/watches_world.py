"""A real node with collections of every kind, clients that change them, and what a client by the letter of SPEC 17 has of one."""

import contextlib
import itertools
import time

import trio

from syncd import App
from syncd.config import AuthSettings
from syncd.model.definitions_check import app_in_force
from syncd.model.tokens import TokenClaims, make_token
from syncd.server import open_node
from syncd.testing.plain_client import PlainClient
from syncd.wire.merge_patch import apply_patch
from tests.integration.nodes import DURABLE, make_config

SECRET = "0123456789abcdef0123456789abcdef"


def make_app():
    """Collections of every kind that these tests need; `mutate` and `write` are open where nothing else is said."""
    app = App(mutate="anyone")
    options = {"read": "anyone", "mutate": "anyone", "write": "anyone", "max_value_bytes": 16_384}
    app.collection("orders", **options)
    app.collection("short", history_size=5, **options)
    app.collection(
        "regions", partitioned=True, **{**options, **dict.fromkeys(("read", "write"), "claim")}
    )
    app.collection(
        "drafts", partitioned=True, **{**options, **dict.fromkeys(("read", "write"), "owner")}
    )
    app.collection("staff", **{**options, "read": "role:staff"})

    @app.mutator
    def spoil(
        tx, collection: str, keys: list[str] = (), tags: list[str] = (), everything: bool = False
    ):
        tx.invalidate(*keys, tags=tags, everything=everything, collection=collection)

    return app


def token(user, **claims):
    return make_token(TokenClaims(user, **claims), SECRET, now_s=time.time())


class World:
    """A node with its application, and clients that hang up at the end."""

    def __init__(self, node, stack):
        self.node, self._stack = node, stack

    async def connect(self, *, receive_buffer_bytes=0, **hello):
        port = self.node.addresses[0][1]
        client = await PlainClient.connect(port, receive_buffer_bytes=receive_buffer_bytes)
        self._stack.push_async_callback(client.aclose)
        await client.hello(**hello)
        client.mids = itertools.count(1)
        return client


@contextlib.asynccontextmanager
async def open_world(folder, **options):
    app = make_app()
    auth = AuthSettings(algorithms=("HS256",), hmac_secret=SECRET)
    config = make_config(folder, DURABLE, auth=auth, **options)
    with trio.fail_after(30):
        async with contextlib.AsyncExitStack() as stack:
            definition = app_in_force(app.definition(), config)
            node = await stack.enter_async_context(open_node(config, definition))
            yield World(node, stack)


async def mutate(client, name, **args):
    """Send one mutation and return its outcome, or the error."""
    await client.send("mutate", mid=next(client.mids), name=name, args=args)
    _, body = await client.expect("outcome", "error", "out_of_order")
    return body


async def spoil(client, collection, **what):
    """Have entries told as invalidated; `keys`, `tags` or `everything`."""
    outcome = await mutate(client, "spoil", collection=collection, **what)
    assert outcome["status"] == "ok", outcome


async def put(client, key, value, collection="orders"):
    outcome = await mutate(client, f"{collection}.put", key=key, value=value)
    assert outcome["status"] == "ok", outcome
    [position] = outcome["positions"].values()
    return position


async def many(client, calls, *, at_once=20):
    """Send mutations, some at a time without waiting for each; all must be ok. Returns the last position."""
    for start in range(0, len(calls), at_once):
        part = calls[start : start + at_once]
        for name, args in part:
            await client.send("mutate", mid=next(client.mids), name=name, args=args)
        for _ in part:
            _, outcome = await client.expect("outcome", "error", "out_of_order")
            assert outcome["status"] == "ok", outcome
    [position] = outcome["positions"].values()
    return position


async def fill(client, count, size=1000, collection="orders"):
    """Put `count` entries k1, k2, ...; returns the last position."""
    value = {"n": 0, "fill": bytes(size)}
    keys = [f"k{number + 1}" for number in range(count)]
    return await many(client, [(f"{collection}.put", {"key": key, "value": value}) for key in keys])


class View:
    """What a client by the letter of SPEC 17 has of one channel."""

    def __init__(self):
        self.entries = {}
        """Key to (version, value); deleted ones are None with their version while a snapshot is under way."""
        self.told = set()
        self.position = None
        self.is_complete = True
        self.early = []
        """Patches of entries that are still to come."""
        self.invalidations = []
        self.log = []

    def take(self, kind, body):
        self.log.append(kind)
        if kind in ("watched", "snapshot"):
            self._page(kind, body)
        elif kind == "event":
            self._event(body)
        elif kind == "mark":
            self._stand_at(body["position"])
        elif kind == "invalidate":
            self.invalidations.append(body)
            self._stand_at({"epoch": body["epoch"], "offset": body["offset"]})

    def _page(self, kind, body):
        assert kind == "watched" or not self.is_complete, "pages come behind `watched`"
        if kind == "watched":
            self._stand_at(body["position"])
            self.told, self.is_complete = set(), False
            if body["recovered"]:
                assert body["entries"] == []
                self.is_complete = True
                return
        self.told |= {entry["key"] for entry in body["entries"]} | set(body["unchanged"])
        for entry in body["entries"]:
            value = None if entry.get("deleted") else entry["value"]
            self._set(entry["key"], entry["version"], value)
        self.is_complete = not body["more"]
        if self.is_complete:
            early, self.early = self.early, []
            for each in early:
                self._patch(each)
            self.entries = {key: entry for key, entry in self.entries.items() if key in self.told}

    def _set(self, key, version, value):
        if version > self.entries.get(key, (0, None))[0]:
            self.entries[key] = (version, value)

    def _event(self, body):
        data, key, offset = body["data"], body["key"], body["offset"]
        self._stand_at({"epoch": body["epoch"], "offset": offset})
        self.told.add(key)
        if "patch" in data:
            self._patch(body)
        else:
            self._set(key, offset, data.get("value"))

    def _patch(self, body):
        data, key, offset = body["data"], body["key"], body["offset"]
        version, value = self.entries.get(key, (0, None))
        if offset <= version:
            return
        if data["base"] == version:
            self._set(key, offset, apply_patch(value, data["patch"]))
        else:
            assert not self.is_complete, "a patch on what was never told"
            self.early.append(body)

    def _stand_at(self, position):
        self.position = position

    def values(self):
        return {key: value for key, (_, value) in self.entries.items() if value is not None}

    async def read_to(self, client, offset):
        """Read until the snapshot is complete and the view stands at an offset or behind it."""
        while not self.is_complete or self.position["offset"] < offset:
            kind, body = await client.receive()
            assert kind not in ("lagged", "unsubscribed", "error"), body
            self.take(kind, body)
        return self

    async def read_to_mark(self, client):
        """Read up to the next mark."""
        while self.log[-1] != "mark":
            kind, body = await client.receive()
            assert kind not in ("lagged", "unsubscribed", "error"), body
            self.take(kind, body)

    async def watch(self, client, **body):
        """Ask and read until `watched`, taking what comes."""
        await client.send("watch", id=1, collection=body.pop("collection", "orders"), **body)
        while True:
            kind, answer = await client.receive()
            self.take(kind, answer)
            assert kind != "error", answer
            if kind == "watched":
                return answer


async def everything(client, collection="orders"):
    """What a fresh watch of all is told."""
    view = View()
    answer = await view.watch(client, collection=collection, all=True)
    await view.read_to(client, answer["position"]["offset"])
    return view.values()
