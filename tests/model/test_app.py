"""An application says what it is made of; what cannot be is refused where it is written."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import syncd
from syncd import App, ConfigError, MutationRejected
from syncd.config import Config
from syncd.model.definitions_check import app_in_force

if TYPE_CHECKING:
    from nowhere import Unknown


@pytest.fixture
def app():
    return App()


@pytest.fixture
def orders(app):
    return app.collection("orders")


def collection(app, name="orders"):
    return app.definition().collections[name]


async def nothing():
    return []


async def load(key):
    return key


async def commit(change):
    return None


# ------------------------------------------------------------------------------------------------ defining


def test_the_issues_example_can_be_written():
    app = App()
    orders = app.collection(
        "orders", max_entries=100_000, max_bytes="256 MiB", ttl="10 min", stale="1 h"
    )

    @orders.loader
    async def load(key): ...

    @orders.mutator
    def ship(tx, order_id: str, carrier: str):
        order = tx.get(order_id) or tx.reject("unknown_order", "No such order.")
        tx.put(order_id, {**order, "status": "shipped", "carrier": carrier})

    @app.authorizer
    def allow(identity, action, target): ...

    @app.on_commit("orders")
    async def forward(change): ...

    definition = app_in_force(app.definition("shop"), Config())
    made = definition.collections["orders"]
    assert (definition.name, definition.authorizer) == ("shop", allow)
    assert (made.max_bytes, made.ttl_s, made.stale_s) == (2**28, 600, 3600)
    assert (made.loader.call, made.loader.takes_list, made.on_commit) == (load, False, forward)
    assert definition.mutators.find("orders.ship").run is ship


def test_every_option_sets_its_field(app):
    app.collection(
        "orders",
        partitioned=True, volatile=True, max_entries=1, max_bytes=2, max_value_bytes="3 B", ttl=4, stale="5 s", jitter=0.6,
        negative_ttl=timedelta(seconds=7), history_size=8, history_age="9 min", load_timeout=10, load_concurrency=11,
        load_batch=12, warm=13, on_commit_timeout=14, on_commit_retry=15, on_commit_max_retry=16, read="anyone",
        mutate=["role:a", "owner"], write=(),
    )  # fmt: skip
    made = collection(app)
    assert (made.is_partitioned, made.is_volatile, made.max_entries, made.max_bytes) == (True, True, 1, 2)  # fmt: skip
    assert (made.max_value_bytes, made.ttl_s, made.stale_s, made.jitter) == (3, 4, 5, 0.6)
    assert (made.negative_ttl_s, made.history_size, made.history_age_s) == (7, 8, 540)
    assert (made.load_timeout_s, made.load_concurrency, made.load_batch, made.warm) == (10, 11, 12, 13)  # fmt: skip
    assert (made.on_commit_timeout_s, made.on_commit_retry_s, made.on_commit_max_retry_s) == (14, 15, 16)  # fmt: skip
    assert (made.read, made.mutate, made.write) == (("anyone",), ("role:a", "owner"), ())


def test_an_option_that_is_none_is_not_given(app):
    app.collection("orders", ttl=None, read=None)
    assert (collection(app).ttl_s, collection(app).read) == (None, None)


async def _one(key): ...
async def _many(keys): ...
async def _listed(ids: list[str]): ...
async def _bare(ids: list): ...
async def _sequence(ids: Sequence[str]): ...
async def _text(ids: str) -> dict[str, str]: ...
async def _half_known(ids: list[Unknown]): ...
async def _unknown(ids: Unknown): ...


class _Method:
    async def load(self, keys): ...
    async def __call__(self, key): ...


@pytest.mark.parametrize(
    ("loader", "expected"),
    [
        (_one, False), (_many, True), (_listed, True), (_bare, True), (_sequence, True), (_text, False),
        (_half_known, True), (_unknown, False), (_Method().load, True), (_Method(), False),
        (functools.partial(_listed), True),
    ],
)  # fmt: skip
def test_a_loader_takes_lists_if_its_parameter_says_so(app, orders, loader, expected):
    orders.loader(loader)
    assert collection(app).loader.takes_list is expected


def test_mutators_are_named_by_their_function_or_by_hand_and_stay_functions(app, orders):
    @orders.mutator
    def ship(tx): ...

    @orders.mutator("cancel-now")
    def cancel(tx): ...

    @app.mutator
    def sweep(tx): ...

    @app.mutator("tidy")
    def other(tx): ...

    @orders.mutator()
    def again(tx): ...

    assert app.definition().mutators.names() == [
        "orders.again", "orders.cancel-now", "orders.ship", "sweep", "tidy",
    ]  # fmt: skip
    assert callable(ship)


def test_keys_to_warm_are_a_number_or_what_a_function_returns(app, orders):
    assert orders.warm(nothing) is nothing
    assert collection(app).warm is nothing


def test_a_definition_is_what_it_was_when_it_was_taken(app, orders):
    before = app.definition()
    app.collection("other")
    orders.mutator("late")(lambda tx: None)
    assert set(before.collections) == {"orders"}
    assert before.mutators.names() == []


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tll": 1}, "collection x: there is no option tll (did you mean ttl?)"),
        ({"ttl": "soon"}, "collection x: ttl must be a duration"),
        ({"ttl": -1}, "collection x: ttl must be a duration"),
        ({"ttl": timedelta(seconds=-1)}, "collection x: ttl must be a duration"),
        ({"max_bytes": "lots"}, "collection x: max_bytes must be a size"),
        ({"max_entries": "1"}, "collection x: max_entries must be a number"),
        ({"max_entries": True}, "collection x: max_entries must be a number"),
        ({"volatile": "yes"}, "collection x: volatile must be True or False"),
        ({"read": 1}, "collection x: read must be a rule or a list of rules"),
        ({"read": [1]}, "collection x: read must be a rule or a list of rules"),
    ],
)
def test_an_option_that_is_not_one_is_refused(app, options, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        app.collection("x", **options)


def _generator(tx):
    yield


async def _async_generator(key):
    yield


@pytest.mark.parametrize(
    ("define", "told"),
    [
        (lambda app, orders: app.collection("orders"), "collection orders is defined twice"),
        (lambda app, orders: orders.loader(lambda key: key), "collection orders: loader must be an async function"),
        (lambda app, orders: orders.loader(_async_generator), "loader must be an async function"),
        (lambda app, orders: orders.loader(5), "loader must be an async function"),
        (lambda app, orders: orders.loader(nothing), "loader must take (key) or (keys)"),
        (lambda app, orders: [orders.loader(load), orders.loader(load)], "loader is given twice"),
        (lambda app, orders: orders.warm(load), "warm must take ()"),
        (lambda app, orders: app.on_commit("order"), "There is no collection order (did you mean orders?)"),
        (lambda app, orders: app.on_commit(commit), 'write `@app.on_commit("orders")`'),
        (lambda app, orders: app.on_commit("orders")(lambda change: None), "on_commit must be an async function"),
        (lambda app, orders: [orders.on_commit(commit), app.on_commit("orders")(commit)], "on_commit is given twice"),
        (lambda app, orders: app.authorizer(lambda identity: True), "authorizer must take (identity, action, target)"),
        (lambda app, orders: app.authorizer("me"), "authorizer: 'me' is no function"),
        (lambda app, orders: [app.authorizer(lambda a, b, c: True), app.authorizer(lambda a, b, c: False)], "there is one already"),
        (lambda app, orders: orders.mutator(load), "neither async nor a generator"),
        (lambda app, orders: orders.mutator(_generator), "neither async nor a generator"),
        (lambda app, orders: orders.mutator(lambda tx: None), "'<lambda>' cannot be a mutator's name"),
        (lambda app, orders: orders.mutator("x")(lambda: None), "first parameter is `tx`"),
        (lambda app, orders: [orders.mutator("x")(lambda tx: 1), orders.mutator("x")(lambda tx: 2)], "there is a mutator orders.x already"),
        (lambda app, orders: orders.mutator(5), "mutator: 5 is no function"),
        (lambda app, orders: App(mutate=5), "App: mutate must be a rule"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_where_it_is_written(app, orders, define, told):
    with pytest.raises(ConfigError, match=re.escape(told)):
        define(app, orders)


# ------------------------------------------------------------------------------------------------ at run time


class Runtime:
    """A node, as far as applications can tell; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    async def invalidate(self, collection, *, keys, tags, everything):
        self.asked.append((collection, keys, tags, everything))

    async def read(self, collection, keys):
        return {key: f"{collection} {key}" for key in keys}

    async def mutate(self, name, args, *, idempotency_key):
        raise MutationRejected("gone", f"{name} {args} {idempotency_key}")


async def test_a_running_node_is_asked_through_the_application(app, orders):
    runtime = Runtime()
    app.definition().bind(runtime)
    await app.invalidate("orders", keys=["a", "b"])
    await app.invalidate("orders", keys="a")
    await app.invalidate("orders", tags={"t"})
    await app.invalidate("orders", everything=True)
    assert runtime.asked == [
        ("orders", ["a", "b"], [], False),
        ("orders", ["a"], [], False),
        ("orders", [], ["t"], False),
        ("orders", [], [], True),
    ]
    assert await app.read("orders", ["a"]) == {"a": "orders a"}
    with pytest.raises(MutationRejected, match=r"gone: orders.ship \[1\] k"):
        await app.mutate("orders.ship", [1], idempotency_key="k")


async def test_no_keys_are_nothing_to_invalidate(app, orders):
    runtime = Runtime()
    app.bind(runtime)
    await app.invalidate("orders", keys=[])
    await app.invalidate("orders", tags=iter(()))
    assert runtime.asked == []


@pytest.mark.parametrize(
    "given", [{}, {"keys": ["a"], "tags": ["b"]}, {"keys": [], "everything": True}]
)
async def test_exactly_one_way_of_invalidating_is_given(app, orders, given):
    app.bind(Runtime())
    with pytest.raises(ValueError, match="exactly one of"):
        await app.invalidate("orders", **given)


async def test_what_is_asked_of_a_collection_that_is_not_there_is_refused(app, orders):
    app.bind(Runtime())
    with pytest.raises(ValueError, match="no collection order "):
        await app.invalidate("order", keys=["a"])
    with pytest.raises(ValueError, match="no collection order "):
        await app.read("order", ["a"])
    with pytest.raises(ValueError, match="keys must be texts"):
        await app.read("orders", [1])


async def test_outside_of_a_node_it_is_told_how_to_start_one(app, orders):
    app.bind(Runtime())
    app.bind(None)
    for ask in (
        lambda: app.invalidate("orders", keys=[]),
        lambda: app.read("orders", []),
        lambda: app.mutate("orders.ship"),
    ):
        with pytest.raises(RuntimeError, match="syncd serve"):
            await ask()


def test_nothing_is_defined_while_a_node_runs(app, orders):
    app.bind(Runtime())
    for define in (
        lambda: app.collection("late"),
        lambda: orders.loader(load),
        lambda: app.authorizer(lambda a, b, c: True),
        lambda: orders.mutator("late")(lambda tx: None),
    ):
        with pytest.raises(ConfigError, match="runs already"):
            define()
    app.bind(None)
    app.collection("late")


# ------------------------------------------------------------------------------------------------ the package


def test_the_package_offers_what_it_names_and_nothing_else():
    for name in syncd.__all__:
        assert getattr(syncd, name).__name__ == name
    assert dir(syncd) == syncd.__all__
    with pytest.raises(AttributeError, match="nothing_like_this"):
        _ = syncd.nothing_like_this


def test_importing_the_package_imports_no_other_part_of_it():
    code = "import sys, syncd; print([name for name in sys.modules if name.startswith('syncd.')])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_an_application_can_be_written_without_importing_the_server():
    code = "import sys; from syncd import App; print('trio' in sys.modules, 'syncd.server' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False", "False"]
