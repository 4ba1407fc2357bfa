"""The backend publishers about collections: what they send and make of the answers, and the same against a real node."""

import math

import pytest

from syncd import App
from syncd.backend import (
    AsyncPublisher,
    Entry,
    Mutated,
    MutationRejected,
    Position,
    Refused,
    Unreachable,
)
from syncd.backend.calls import value_from_json
from syncd.backend.calls_state import json_from_value
from syncd.http.json_values import from_jsonable
from tests.integration.nodes import DURABLE, make_config, running
from tests.integration.test_client_backend import Api, error

PLACE = {"epoch": "e", "offset": 3}
OK = {"status": "ok", "value": 7, "positions": {"orders": PLACE}}


def test_a_mutation_has_one_key_over_all_its_attempts_and_another_the_next_time():
    away = error("store_unavailable", retryable=True, after_ms=20)
    api = Api((503, away), (504, away), (200, OK), (200, OK))
    publisher = api.publisher()
    mutated = publisher.mutate("orders.ship", {"order_id": "o1"})
    assert mutated == Mutated(7, {"orders": Position("e", 3)})
    publisher.mutate("orders.ship", {"order_id": "o1"})
    assert len(set(api.keys[:3])) == 1
    assert api.keys[3] != api.keys[0]
    assert api.bodies[0] == {"name": "orders.ship", "args": {"order_id": "o1"}}
    assert len(api.waits) == 2


def test_a_key_of_ones_own_is_sent_and_absent_arguments_are_not():
    api = Api((200, OK))
    api.publisher().mutate("tidy", idempotency_key="job-7")
    assert (api.keys, api.bodies) == (["job-7"], [{"name": "tidy"}])


def test_a_rejection_is_an_error_that_is_not_tried_again():
    told = {"code": "unknown_order", "message": "No such order."}
    api = Api((200, {"status": "rejected", "error": told, "positions": {}}))
    with pytest.raises(MutationRejected) as caught:
        api.publisher().mutate("orders.ship", ["o1", "ACME"])
    assert (caught.value.code, caught.value.message) == ("unknown_order", "No such order.")
    assert api.waits == []


def test_an_outcome_no_longer_kept_is_not_taken_for_success():
    api = Api((200, {"status": "unknown", "positions": {}}))
    with pytest.raises(Refused) as caught:
        api.publisher().mutate("orders.ship")
    assert caught.value.code == "unknown"


def test_another_request_under_a_key_is_refused_at_once():
    api = Api((422, error("idempotency_mismatch")))
    with pytest.raises(Refused):
        api.publisher().mutate("a", idempotency_key="k")
    assert api.waits == []


@pytest.mark.parametrize("answer", [{}, {"status": "ok"}, {"status": "rejected"}, [], "no"])
def test_an_answer_that_is_none_of_syncds_is_told_so(answer):
    with pytest.raises(Unreachable):
        Api((200, answer)).publisher().mutate("a")


@pytest.mark.parametrize(
    "value",
    [
        b"\x00\xff",
        [b"", {"a": (1, 2.5, None)}],
        math.inf,
        {"$base64": "x"},
        {"$escape": {"$float": b"a"}},
        {"$base64": 1, "b": 2},
    ],
)
def test_arguments_reach_the_server_as_they_are_here(value):
    expected = [b"", {"a": [1, 2.5, None]}] if isinstance(value, list) else value
    assert from_jsonable(json_from_value(value)) == expected
    assert value_from_json(json_from_value(value)) == expected


def test_an_invalidation_names_one_text_or_several():
    api = Api(*[(200, {"positions": {"prices": PLACE}})] * 3)
    publisher = api.publisher()
    assert publisher.invalidate("prices", keys="apple") == {"prices": Position("e", 3)}
    publisher.invalidate("prices", tags=["fruit"], cause="import")
    publisher.invalidate("prices", everything=True)
    assert api.bodies == [
        {"collection": "prices", "keys": ["apple"]},
        {"collection": "prices", "tags": ["fruit"], "cause": "import"},
        {"collection": "prices", "all": True},
    ]


@pytest.mark.parametrize("named", [{}, {"keys": [], "tags": []}, {"keys": "a", "everything": True}])
def test_an_invalidation_that_leaves_open_what_is_meant_is_not_sent(named):
    api = Api()
    with pytest.raises(ValueError, match="exactly one"):
        api.publisher().invalidate("prices", **named)


def test_a_read_repeats_keys_and_passes_positions_on():
    rows = [{"key": "a", "version": 3, "value": {"$base64": "AP8="}}]
    rows += [{"key": "b", "version": 3, "deleted": True}]
    api = Api((200, {"channel": "orders", "position": PLACE, "entries": rows}))
    after = {"orders": Position("e", 3), "orders/eu": Position("f", 4)}
    found = api.publisher().read("orders", ["a", "b"], after=after)
    assert found.values == {"a": b"\x00\xff"}
    assert found.entries[1] == Entry("b", 3, None, is_deleted=True)
    query = api.requests[0].url.params
    assert query.get_list("key") == ["a", "b"]
    assert query["after"] == "orders=e:3,orders/eu=f:4"


async def test_a_backend_changes_and_reads_a_real_node(tmp_path):
    app = App()
    app.collection("notes", partitioned=True, write="anyone")
    config = make_config(tmp_path, DURABLE)
    async with running(config, app=app) as (node, _connect):
        url = f"http://127.0.0.1:{node.addresses[0][1]}"
        async with AsyncPublisher(url, config.api_keys["test"]) as publisher:
            value = {"$base64": "not binary", "raw": [b"\x00"]}
            mutated = await publisher.mutate("notes.put", {"key": "a/1", "value": value})
            found = await publisher.read("notes", "a/1", after=mutated.positions)
            assert found.values == {"a/1": value}
            assert found.position == mutated.positions["notes/a"]
            positions = await publisher.invalidate("notes", keys="a/1", cause="test")
            assert positions["notes/a"].offset == found.position.offset + 1
            assert (await publisher.cache_stats())["total"]["mutations_ok"] == 1
            assert await publisher.clear_cache("notes") == {"notes": 1}
            assert await publisher.warm_cache("notes", ["a/1", "a/2"]) == {"notes": 1}
            changed = await publisher.change_cache_config("notes", max_entries=5)
            assert changed == (await publisher.cache_config())["notes"]
            assert changed["max_entries"] == 5
