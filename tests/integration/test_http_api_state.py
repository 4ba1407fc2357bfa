"""Collections over HTTP: against a real node what each route does, through Quart's test client what it refuses and when it waits."""

import contextlib

import httpx
import pytest

from syncd import App, Tagged
from syncd.codes import ErrorCode
from syncd.errors import RequestRejected, StoreUnavailable
from tests.integration.http_fakes import World
from tests.integration.http_fakes import make_config as make_world_config
from tests.integration.nodes import DURABLE, make_config, running


class Source:
    """A price list far away, which notes what it was asked for."""

    def __init__(self):
        self.values = {"apple": 30, "pear": 45}
        self.asked = []


def make_app(source):
    app = App()
    orders = app.collection("orders")

    @orders.mutator
    def create(tx, order_id: str):
        tx.put(order_id, {"status": "new"})
        return {"created": order_id}

    @orders.mutator
    def ship(tx, order_id: str, carrier: str):
        order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
        tx.put(order_id, {**order, "status": "shipped", "carrier": carrier})

    prices = app.collection("prices", ttl="10 min", volatile=True)

    @prices.loader
    async def load(keys: list[str]):
        source.asked += keys
        return {key: Tagged(source.values[key], ["fruit"]) for key in keys if key in source.values}

    app.collection("notes", partitioned=True, write="anyone")
    return app


class Node:
    """A node with the application, and its HTTP API."""

    def __init__(self, client, source):
        self.client = client
        self.source = source

    async def post(self, path, body, **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(f"/api/{path}", json=body, headers=sent)
        return answer.status_code, answer.json()

    async def get(self, path, params=(), **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.get(f"/api/{path}", params=params, headers=sent)
        return answer.status_code, answer.json()

    async def value(self, collection, key):
        _, answer = await self.get("entries", {"collection": collection, "key": key})
        return answer["entries"][0].get("value")


@contextlib.asynccontextmanager
async def node_of(folder):
    source = Source()
    config = make_config(folder, DURABLE)
    async with running(config, app=make_app(source)) as (node, _connect):
        url = f"http://127.0.0.1:{node.addresses[0][1]}"
        headers = {"Authorization": f"Bearer {config.api_keys['test']}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield Node(client, source)


@pytest.fixture
async def node(tmp_path):
    async with node_of(tmp_path) as node:
        yield node


@pytest.fixture
def world():
    return World(make_world_config())


# ------------------------------------------------------------------------------------------------ mutate


async def test_a_mutation_takes_effect_and_tells_where(node):
    status, answer = await node.post("mutate", {"name": "orders.create", "args": ["o1"]})
    assert (status, answer["status"], answer["value"]) == (200, "ok", {"created": "o1"})
    assert answer["positions"]["orders"]["offset"] == 1
    _, read = await node.get("entries", {"collection": "orders", "key": "o1"})
    assert read["position"] == answer["positions"]["orders"]
    assert read["entries"] == [{"key": "o1", "version": 1, "value": {"status": "new"}}]


async def test_a_rejection_is_an_answer_and_not_an_error(node):
    args = {"order_id": "nope", "carrier": "ACME"}
    answer = await node.post("mutate", {"name": "orders.ship", "args": args})
    error = {"code": "unknown_order", "message": "No such order."}
    assert answer == (200, {"status": "rejected", "error": error, "positions": {}})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "orders.explode"}, "unknown_mutator"),
        ({"name": "orders.ship", "args": {"order_id": 7, "carrier": "a"}}, "bad_arguments"),
        ({"name": "orders.ship", "args": ["o1"]}, "bad_arguments"),
        ({"name": "orders.create", "args": ["\n"]}, "bad_key"),
    ],
)
async def test_a_mutation_that_can_never_run_is_rejected_by_its_code(node, body, code):
    status, answer = await node.post("mutate", body)
    assert (status, answer["status"], answer["error"]["code"]) == (200, "rejected", code)


async def test_under_one_key_a_mutation_happens_once_and_is_answered_alike(node):
    body = {"name": "notes.incr", "args": {"key": "a/hits"}}
    first = await node.post("mutate", body, Idempotency_Key="k1")
    again = await node.post("mutate", {**body, "uid": "k1"})
    assert first == again
    assert first[1]["status"] == "ok"
    assert await node.value("notes", "a/hits") == 1
    other = {"name": "notes.incr", "args": {"key": "a/other"}}
    status, answer = await node.post("mutate", other, Idempotency_Key="k1")
    assert (status, answer["error"]["code"]) == (422, "idempotency_mismatch")
    assert await node.value("notes", "a/other") is None


async def test_a_rejection_is_kept_under_its_key_and_stays_one(node):
    body = {"name": "orders.ship", "args": ["o1", "ACME"]}
    first = await node.post("mutate", body, Idempotency_Key="k1")
    await node.post("mutate", {"name": "orders.create", "args": ["o1"]})
    assert await node.post("mutate", body, Idempotency_Key="k1") == first
    assert (await node.post("mutate", body))[1]["status"] == "ok"


async def test_the_outcome_of_a_key_outlives_the_node(tmp_path):
    body = {"name": "orders.create", "args": ["o1"]}
    async with node_of(tmp_path) as node:
        first = await node.post("mutate", body, Idempotency_Key="k1")
    async with node_of(tmp_path) as node:
        assert await node.post("mutate", body, Idempotency_Key="k1") == first


async def test_binary_data_goes_in_as_it_comes_out(node):
    value = {"$base64": "AP8="}
    await node.post("mutate", {"name": "notes.put", "args": {"key": "a/b", "value": value}})
    assert await node.value("notes", "a/b") == value


# ------------------------------------------------------------------------------------------------ entries, invalidate


async def test_entries_come_in_the_order_asked_and_those_there_are_not_are_deleted(node):
    params = [("collection", "prices"), ("key", "pear"), ("key", "plum"), ("key", "apple")]
    status, answer = await node.get("entries", params)
    told = [(each["key"], each.get("value"), each.get("deleted")) for each in answer["entries"]]
    assert status == 200
    assert told == [("pear", 45, None), ("plum", None, True), ("apple", 30, None)]


async def test_an_invalidation_by_tag_lets_the_source_be_asked_again(node):
    assert await node.value("prices", "apple") == 30
    node.source.values["apple"] = 31
    assert await node.value("prices", "apple") == 30
    status, answer = await node.post("invalidate", {"collection": "prices", "tags": ["fruit"]})
    assert (status, list(answer["positions"])) == (200, ["prices"])
    assert await node.value("prices", "apple") == 31


async def test_an_invalidation_of_nothing_touches_nothing(node):
    await node.value("prices", "apple")
    answer = await node.post("invalidate", {"collection": "prices", "keys": []})
    assert answer == (200, {"positions": {}})
    await node.value("prices", "apple")
    assert node.source.asked == ["apple"]


async def test_keys_of_several_partitions_are_invalidated_in_their_channels(node):
    body = {"collection": "notes", "keys": ["a/1", "b/1", "a/2"]}
    _, answer = await node.post("invalidate", body)
    assert set(answer["positions"]) == {"notes/a", "notes/b"}


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("post", "invalidate", {"collection": "nope", "all": True}, "permission_denied"),
        ("post", "invalidate", {"collection": "nope", "keys": []}, "permission_denied"),
        ("post", "invalidate", {"collection": "notes", "keys": ["a"]}, "bad_key"),
        ("post", "invalidate", {"collection": "orders", "keys": ["\n"]}, "bad_key"),
        ("get", "entries", {"collection": "nope", "key": "a"}, "permission_denied"),
        ("get", "entries", {"collection": "orders", "key": "\n"}, "bad_key"),
        ("get", "entries", {"collection": "notes", "key": ["a/1", "b/1"]}, "bad_request"),
        ("get", "cache/stats", {"collection": "nope"}, "permission_denied"),
        ("post", "cache/config", {"collection": "nope", "ttl_s": 1}, "permission_denied"),
        ("post", "cache/config", {"collection": "prices", "max_entries": 0}, "bad_request"),
        ("post", "cache/config", {"collection": "prices", "ttl_s": "1 h"}, "bad_request"),
        ("post", "cache/config", {"collection": "prices", "stale_s": 2**70}, "bad_request"),
        ("post", "cache/clear", {"collection": "nope"}, "permission_denied"),
        ("post", "cache/warm", {"collection": "nope"}, "permission_denied"),
    ],
)
async def test_what_there_is_not_is_refused(node, method, path, body, code):
    status, answer = await getattr(node, method)(path, body)
    assert status in (400, 403)
    assert answer["error"]["code"] == code


async def test_a_read_after_a_position_of_the_future_says_that_it_is_behind(node):
    _, answer = await node.post("mutate", {"name": "orders.create", "args": ["o1"]})
    position = answer["positions"]["orders"]
    params = {"collection": "orders", "key": "o1"}
    here = f"orders={position['epoch']}:{position['offset']}"
    assert (await node.get("entries", params, Syncd_After=here))[0] == 200
    ahead = f"orders={position['epoch']}:{position['offset'] + 1}"
    status, answer = await node.get("entries", params, Syncd_After=ahead)
    assert (status, answer["error"]["code"]) == (503, "behind")


async def test_a_source_that_fails_is_a_bad_gateway(node):
    node.source.values["apple"] = object()
    status, answer = await node.get("entries", {"collection": "prices", "key": "apple"})
    assert (status, answer["error"]["code"]) == (502, "bad_source")


# ------------------------------------------------------------------------------------------------ batches


async def test_a_batch_mixes_kinds_and_has_the_effect_of_its_order(node):
    ship = {"mutate": {"name": "orders.ship", "args": ["o1", "ACME"]}}
    commands = [
        {"publish": {"channel": "log:a", "data": 1}},
        ship,
        {"mutate": {"name": "orders.create", "args": ["o1"]}},
        {"mutate": {"nme": "orders.create"}},
        ship,
        {"invalidate": {"collection": "prices", "all": True}},
        {"publish": {"channel": "log:a", "data": 2}},
    ]
    status, answer = await node.post("batch", {"commands": commands})
    results = answer["results"]
    assert status == 200
    assert [
        each["ok"].get("status") if "ok" in each else each["error"]["code"] for each in results
    ] == [
        None,
        "rejected",
        "ok",
        "bad_request",
        "ok",
        None,
        None,
    ]
    assert [results[n]["ok"]["position"]["offset"] for n in (0, 6)] == [1, 2]
    assert (await node.value("orders", "o1"))["status"] == "shipped"


async def test_a_batch_repeated_under_its_key_happens_once(node):
    commands = [{"mutate": {"name": "notes.incr", "args": ["a/n"]}}] * 3
    first = await node.post("batch", {"commands": commands}, Idempotency_Key="b")
    again = await node.post("batch", {"commands": commands}, Idempotency_Key="b")
    assert first == again
    assert await node.value("notes", "a/n") == 3


async def test_what_stands_behind_a_mutation_that_may_yet_happen_is_not_tried(world):
    """Repeated with the same key, the batch then still has the effect of its order."""
    mutate = {"mutate": {"name": "a"}}
    publish = {"publish": {"channel": "demo:a", "data": 1}}
    refusals = [RequestRejected(ErrorCode.IDEMPOTENCY_MISMATCH), None, StoreUnavailable()]
    world.cache_owner.refusals = refusals
    commands = [mutate, publish, mutate, mutate, publish, mutate]
    _, answer = await world.ask("POST", "/api/batch", {"commands": commands})
    told = ["ok" if "ok" in each else each["error"]["code"] for each in answer["results"]]
    assert told == ["idempotency_mismatch", "ok", "ok", *["store_unavailable"] * 3]
    assert len(world.cache_owner.commands) == 3
    assert len(world.broadcaster.commands) == 1


async def test_a_batch_out_of_time_tells_what_may_have_happened_from_what_was_not_tried(
    world, autojump_clock
):
    world.cache_owner.is_silent = True
    commands = [{"publish": {"channel": "demo:a", "data": 1}}, *[{"mutate": {"name": "a"}}] * 2]
    _, answer = await world.ask("POST", "/api/batch", {"commands": commands})
    results = answer["results"]
    assert "ok" in results[0]
    assert [each["error"]["code"] for each in results[1:]] == ["store_unavailable", "overloaded"]
    assert "may still happen" in results[1]["error"]["message"]
    assert len(world.cache_owner.commands) == 1


# ------------------------------------------------------------------------------------------------ the cache


async def test_statistics_move_with_what_is_read(node):
    for key in ("apple", "apple", "plum"):
        await node.value("prices", key)
    _, stats = await node.get("cache/stats")
    prices, total = stats["collections"]["prices"], stats["total"]
    assert (prices["hits"], prices["misses"], prices["loads"]) == (1, 2, 2)
    assert set(stats["collections"]) == {"orders", "prices", "notes"}
    assert total["lookups"] == sum(each["lookups"] for each in stats["collections"].values())
    _, one = await node.get("cache/stats", {"collection": "prices"})
    assert list(one["collections"]) == ["prices"]
    assert one["total"] == prices


async def test_limits_change_while_the_node_runs(node):
    for key in ("apple", "pear"):
        await node.value("prices", key)
    body = {"collection": "prices", "max_entries": 1, "stale_s": 5}
    status, answer = await node.post("cache/config", body)
    assert (status, answer["collections"]["prices"]["max_entries"]) == (200, 1)
    _, config = await node.get("cache/config")
    assert config["collections"]["prices"] == answer["collections"]["prices"]
    _, stats = await node.get("cache/stats", {"collection": "prices"})
    assert (stats["total"]["num_entries"], stats["total"]["evictions"]) == (1, 1)


async def test_clearing_and_warming_count_entries_by_collection(node):
    body = {"collection": "prices", "keys": ["apple", "pear", "plum"]}
    assert await node.post("cache/warm", body) == (200, {"collections": {"prices": 2}, "total": 2})
    status, answer = await node.post("cache/clear", {})
    assert (status, set(answer["collections"])) == (200, {"orders", "prices", "notes"})
    assert answer["total"] >= 2
    await node.value("prices", "apple")
    assert node.source.asked.count("apple") == 2


async def test_the_node_lists_its_collections(node):
    _, info = await node.get("info")
    assert info["collections"]["notes"]["partitioned"] is True
    assert "orders.ship" in info["collections"]["orders"]["mutators"]
    assert info["collections"]["prices"]["ttl_s"] == 600


# ------------------------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("mutate", {"name": "a"}),
        ("invalidate", {"collection": "orders", "all": True}),
        ("cache/clear", {}),
        ("cache/warm", {}),
    ],
)
async def test_a_request_never_answered_is_a_504_and_one_never_taken_a_503(
    world, autojump_clock, path, body
):
    world.cache_owner.is_silent = True
    status, answer = await world.ask("POST", f"/api/{path}", body)
    assert (status, answer["error"]["code"]) == (504, "store_unavailable")
    world.cache_owner.is_full = True
    status, answer = await world.ask("POST", f"/api/{path}", body)
    assert (status, answer["error"]["code"]) == (503, "overloaded")
    assert answer["error"]["after_ms"] > 0


async def test_a_store_that_is_away_is_a_503_that_says_when_to_come_again(world):
    world.cache_owner.refusals = [StoreUnavailable()]
    response = await world.respond("POST", "/api/mutate", {"name": "a"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")


async def test_a_header_and_a_uid_that_differ_are_refused(world):
    body = {"name": "a", "uid": "x"}
    assert (await world.ask("POST", "/api/mutate", body, Idempotency_Key="y"))[0] == 400
    assert world.cache_owner.commands == []


async def test_mutations_reach_the_cache_owner_as_the_services(world):
    await world.ask("POST", "/api/mutate", {"name": "a", "args": [1]}, Idempotency_Key="k")
    command = world.cache_owner.commands[0]
    assert (command.client, command.identity.service, command.refusal) == (None, "billing", None)
    assert command.idempotency.identity == "service:billing"
    assert command.size_bytes > 0
