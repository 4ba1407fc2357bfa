"""What bodies and queries about collections ask for, and which are refused."""

import math

import pytest
from werkzeug.datastructures import MultiDict

from syncd.errors import SyncdError
from syncd.http.json_values import from_jsonable, jsonable
from syncd.http.state_commands import (
    parse_change_settings,
    parse_clear,
    parse_entries,
    parse_invalidate,
    parse_mutate,
    parse_warm,
    total_counts,
)
from syncd.ids import Position


def mutation(key=None, **body):
    return parse_mutate(body, service="billing", idempotency_key=key)


def refused(parse, *arguments, **named):
    with pytest.raises(SyncdError) as caught:
        parse(*arguments, **named)
    return caught.value.code.value


# ------------------------------------------------------------------------------------------------ mutate


def test_a_mutation_is_the_services_own_and_has_a_key_only_if_one_is_given():
    asked = mutation(name="orders.ship", args={"order_id": "o1"})
    assert (asked.name, asked.args) == ("orders.ship", {"order_id": "o1"})
    assert asked.identity.service == "billing"
    assert asked.idempotency is None
    keyed = mutation("k", name="orders.ship").idempotency
    assert (keyed.identity, keyed.operation, keyed.key) == ("service:billing", "mutate", "k")
    assert mutation("batch/3", name="a", uid="mine").idempotency.key == "mine"


def test_a_request_is_another_by_its_name_and_arguments_and_not_by_the_order_of_their_keys():
    def digest(name, args):
        return mutation("k", name=name, args=args).idempotency.request_hash

    first = digest("a", {"x": 1, "y": {"b": 1, "a": 2}})
    assert first == digest("a", {"y": {"a": 2, "b": 1}, "x": 1})
    others = [
        ("b", {"x": 1, "y": {"b": 1, "a": 2}}),
        ("a", {"x": 1, "y": {"b": 2, "a": 1}}),
        ("a", {"x": True, "y": {"b": 1, "a": 2}}),
        ("a", {"x": 1.0, "y": {"b": 1, "a": 2}}),
        ("a", [1, 2]),
        ("a", None),
    ]
    digests = {digest(name, args) for name, args in others}
    assert len(digests | {first}) == 1 + len(others)


def test_arguments_hold_binary_data_as_it_is_read():
    args = {"a": [{"$base64": "AP8="}, {"$float": "Infinity"}], "b": {"$escape": {"$base64": 1}}}
    assert mutation(name="a", args=args).args == {"a": [b"\x00\xff", math.inf], "b": {"$base64": 1}}


@pytest.mark.parametrize(
    "value",
    [
        {"$base64": 1},
        {"$base64": "A"},
        {"$base64": "é"},
        {"$float": "1"},
        {"$float": []},
        {"$escape": 1},
        [{"x": {"$escape": "a"}}],
    ],
)
def test_what_only_looks_like_binary_data_is_refused(value):
    assert refused(from_jsonable, value) == "bad_request"


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "a",
        [b"\x00", {"$base64": "x"}],
        {"$escape": {"$float": b""}},
        {"$base64": 1, "a": 2},
    ],
)
def test_a_value_comes_back_as_it_was_shown(value):
    assert from_jsonable(jsonable(value)) == value


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"name": 1},
        {"name": "x" * 161},
        {"name": "a", "arg": {}},
        {"name": "a", "client": "c1"},
        {"name": "a", "mid": 1},
        {"name": "a", "args": "text"},
        {"name": "a", "args": 7},
        {"name": "a", "args": {"$base64": "AAAA"}},
        {"name": "a", "args": [2**53]},
        {"name": "a", "args": deep(40)},
        {"name": "a", "args": [0] * 10_001},
        {"name": "a", "uid": ""},
        {"name": "a", "uid": 1},
        {"name": "a", "uid": "x" * 129},
    ],
)
def test_a_mutation_of_the_wrong_shape_is_refused(body):
    assert refused(parse_mutate, body, service="billing") == "bad_request"


# ------------------------------------------------------------------------------------------------ invalidate


def test_an_invalidation_names_keys_tags_or_all():
    keys = parse_invalidate({"collection": "prices", "keys": ["a", "b"], "cause": "import"})
    assert (keys.keys, keys.tags, keys.cause, keys.is_empty) == (["a", "b"], [], "import", False)
    tags = parse_invalidate({"collection": "prices", "tags": ["fruit"]})
    assert (tags.keys, tags.tags, tags.is_empty) == ([], ["fruit"], False)
    everything = parse_invalidate({"collection": "prices", "all": True})
    assert (everything.keys, everything.tags, everything.is_empty) == ([], [], False)


@pytest.mark.parametrize("field", ["keys", "tags"])
def test_a_list_of_nothing_invalidates_nothing_rather_than_everything(field):
    assert parse_invalidate({"collection": "prices", field: []}).is_empty


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"keys": ["a"], "tags": ["b"]},
        {"keys": ["a"], "all": True},
        {"all": False},
        {"all": 1},
        {"keys": "a"},
        {"keys": [1]},
        {"keys": [""]},
        {"keys": ["x" * 256]},
        {"keys": ["a"] * 1001},
        {"tags": ["a"] * 101},
        {"tags": {"a": 1}},
        {"keys": ["a"], "cause": "x" * 256},
        {"keys": ["a"], "cause": 7},
        {"key": ["a"]},
        {"keys": ["a"], "collection": ""},
        {"keys": ["a"], "collection": 1},
        {"keys": ["a"], "collection": "x" * 65},
    ],
)
def test_an_invalidation_that_leaves_open_what_is_meant_is_refused(more):
    assert refused(parse_invalidate, {"collection": "prices", **more}) == "bad_request"


# ------------------------------------------------------------------------------------------------ entries


def entries(*fields, headers=()):
    return parse_entries(MultiDict([("collection", "orders"), *fields]), headers)


def test_keys_are_read_in_the_order_they_are_given():
    asked = entries(("key", "b"), ("key", "a"), ("key", "b"))
    assert (asked.collection, asked.keys, asked.after) == ("orders", ["b", "a", "b"], {})


def test_positions_come_by_header_or_query_and_partitions_may_have_odd_names():
    asked = entries(
        ("key", "a"),
        ("after", "orders/x=1,y=2=ef:3"),
        headers=["orders=ab:1 , prices=cd:2", "orders=ab:9"],
    )
    assert asked.after == {
        "orders": Position("ab", 9),
        "prices": Position("cd", 2),
        "orders/x=1,y=2": Position("ef", 3),
    }


@pytest.mark.parametrize(
    "after",
    [
        "orders",
        "orders=",
        "orders=ab",
        "orders=ab:",
        "orders=ab:-1",
        "orders=ab:1;prices=cd:2",
        "=ab:1",
        "orders=ab:9007199254740992",
        "orders=ab:\u0661",
        "orders=" + "a" * 65 + ":1",
        ",".join(f"o{n}=ab:1" for n in range(101)),
    ],
)
def test_a_position_that_is_none_is_refused(after):
    assert refused(entries, ("key", "a"), headers=[after]) == "bad_request"


def test_a_read_wants_keys_and_knows_no_other_fields():
    assert refused(entries) == "bad_request"
    assert refused(entries, *[("key", "a")] * 1001) == "bad_request"
    assert refused(entries, ("key", "a"), ("keys", "b")) == "bad_request"
    assert refused(parse_entries, MultiDict([("key", "a")]), []) == "bad_request"


# ------------------------------------------------------------------------------------------------ the cache


def test_clearing_and_warming_are_of_one_collection_or_of_all():
    assert parse_clear({}) is None
    assert parse_clear({"collection": "orders"}) == "orders"
    assert parse_warm({}).collection is None
    assert parse_warm({"collection": "orders", "keys": ["a"]}).keys == ["a"]


@pytest.mark.parametrize(
    ("parse", "body"),
    [
        (parse_clear, {"collection": ""}),
        (parse_clear, {"colection": "orders"}),
        (parse_warm, {"keys": ["a"]}),
        (parse_warm, {"collection": "orders", "keys": ["a"] * 10_001}),
        (parse_change_settings, {"collection": "orders"}),
        (parse_change_settings, {"max_entries": 1}),
        (parse_change_settings, {"collection": "orders", "max_entry": 1}),
        (parse_change_settings, {"collection": "orders", "max_entries": 2**53}),
        (parse_change_settings, {"collection": "orders", "max_bytes": -(2**64)}),
        (parse_change_settings, {"collection": "orders", "ttl_s": 10**400}),
        (parse_change_settings, {"collection": "orders", "stale_s": float("nan")}),
        (parse_change_settings, {"collection": "orders", "max_entries": [2**64]}),
        (parse_change_settings, {"collection": "orders", "max_entries": True}),
    ],
)
def test_an_order_to_the_cache_that_is_none_is_refused(parse, body):
    assert refused(parse, body) == "bad_request"


def test_a_total_sums_counts_and_weighs_means():
    rows = {
        "a": {"lookups": 4, "hits": 2, "stale_hits": 1, "loads": 1}
        | {"hit_rate": 0.75, "load_ms_mean": 10.0, "load_ms_max": 10.0},
        "b": {"lookups": 4, "hits": 0, "stale_hits": 0, "loads": 3}
        | {"hit_rate": 0.0, "load_ms_mean": 2.0, "load_ms_max": 5.0},
    }
    total = total_counts(rows)
    assert (total["lookups"], total["hits"], total["loads"]) == (8, 2, 4)
    assert (total["hit_rate"], total["load_ms_mean"], total["load_ms_max"]) == (0.375, 4.0, 10.0)
    assert total_counts({}) == {}
