"""An application's definitions are brought into force: the operator wins, defaults are safe, contradictions are refused."""

import re

import attrs
import pytest

from syncd.config import AuthSettings, CollectionSettings, Config, Limits, Namespace
from syncd.errors import ConfigError
from syncd.model.definitions import AppDefinition, CollectionDefinition, LoaderDefinition
from syncd.model.definitions_check import app_in_force, is_open
from syncd.model.mutators import Mutators

AUTH = AuthSettings(algorithms=("HS256",), hmac_secret="an hmac secret of thirty-two bytes or more")
CLOSED = Config(auth=AUTH)


async def load(key):
    return key


async def commit(change):
    return None


def ship(tx):
    """Do nothing, for want of anything."""


LOADER = LoaderDefinition(load)


def app(*mutators, authorizer=None, **options):
    """An application with the collection `orders` and these mutators of it."""
    registry = Mutators()
    for name in mutators:
        registry.add(name, ship, collection="orders")
    return AppDefinition(
        collections={"orders": CollectionDefinition("orders", **options)},
        mutators=registry,
        authorizer=authorizer,
    )


def orders(definition, config=CLOSED):
    return app_in_force(definition, config).collections["orders"]


def rules(collection):
    return (collection.read, collection.mutate, collection.write)


# ------------------------------------------------------------------------------------------------ defaults


def test_where_nothing_is_said_the_authenticated_read_and_mutate_and_nobody_writes():
    ready = app_in_force(app(), CLOSED)
    assert rules(ready.collections["orders"]) == (("authenticated",), ("authenticated",), ())
    assert ready.mutate == ("authenticated",)
    assert ready.mutators.names() == []


@pytest.mark.parametrize("config", [Config(), attrs.evolve(CLOSED, insecure=True)])
def test_in_the_open_anyone_reads_and_mutates_and_still_nobody_writes(config):
    ready = app_in_force(app(), config)
    assert rules(ready.collections["orders"]) == (("anyone",), ("anyone",), ())
    assert ready.mutate == ("anyone",)


def test_namespaces_of_ones_own_are_no_open_mode():
    """A node that serves a public feed, with an API key and no tokens, must not open its collections."""
    assert not is_open(Config(namespaces={"feed": Namespace("feed")}))
    assert is_open(Config())


def test_an_authorizer_decides_alone_where_there_are_no_rules_but_opens_no_built_in_mutator():
    ready = orders(app(authorizer=lambda *_: True, read=("role:a",)))
    assert rules(ready) == (("role:a",), ("anyone",), ())


def test_the_operator_wins_over_the_application_and_leaves_the_rest():
    config = attrs.evolve(
        CLOSED,
        collections={
            "orders": CollectionSettings("orders", mutate=("role:b",), max_bytes=5_000_000)
        },
    )
    ready = orders(app(mutate=("role:ignored",)), config)
    assert rules(ready) == (("authenticated",), ("role:b",), ())
    assert (ready.max_bytes, ready.max_entries) == (5_000_000, 100_000)


def test_the_operator_can_take_a_permission_away():
    config = attrs.evolve(CLOSED, collections={"orders": CollectionSettings("orders", write=())})
    ready = app_in_force(app(write=("anyone",)), config)
    assert ready.collections["orders"].write == ()
    assert ready.mutators.names() == []


def test_built_in_mutators_are_there_where_a_rule_allows_them_and_own_ones_of_their_name_stay():
    definition = app("put", write=("role:a",))
    ready = app_in_force(definition, CLOSED)
    assert ready.mutators.names() == [
        "orders.delete", "orders.incr", "orders.patch", "orders.put",
    ]  # fmt: skip
    assert ready.mutators.find("orders.put").run is ship
    assert not ready.mutators.find("orders.put").is_built_in
    assert ready.mutators.find("orders.patch").is_built_in
    assert definition.mutators.names() == ["orders.put"], "the application's own are untouched"


def test_without_an_application_the_configuration_makes_collections():
    config = attrs.evolve(
        CLOSED,
        collections={"notes": CollectionSettings("notes", write=("owner",), read=("anyone",))},
    )
    with pytest.raises(ConfigError, match="owner needs partitioned"):
        app_in_force(None, config)
    config = attrs.evolve(
        CLOSED, collections={"notes": CollectionSettings("notes", write=("role:a",))}
    )
    ready = app_in_force(None, config)
    assert ready.mutators.find("notes.put") is not None
    assert app_in_force(None, Config()).collections == {}


# ------------------------------------------------------------------------------------------------ ownership


def test_syncd_owns_what_can_be_changed_here_and_is_told_to_no_source():
    assert app_in_force(app("ship"), CLOSED).is_owned("orders")
    assert app_in_force(app(write=("anyone",)), CLOSED).is_owned("orders")
    assert not app_in_force(app("ship", on_commit=commit), CLOSED).is_owned("orders")
    assert not app_in_force(app(loader=LOADER, ttl_s=1), CLOSED).is_owned("orders")


def test_what_expires_and_has_no_way_back_takes_no_writes():
    assert not orders(app(loader=LOADER, ttl_s=1)).takes_writes
    assert orders(app(loader=LOADER, ttl_s=1, on_commit=commit)).takes_writes
    assert orders(app(loader=LOADER)).takes_writes


def test_an_owned_collection_may_be_filled_by_a_loader_that_nothing_expires():
    assert orders(app("ship", loader=LOADER)).loader is LOADER


def test_with_a_source_that_is_told_entries_may_expire():
    assert orders(app("ship", loader=LOADER, ttl_s=60, stale_s=5, on_commit=commit)).ttl_s == 60


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("mutators", "options", "told"),
    [
        (["ship"], {"ttl_s": 60.0, "loader": LOADER}, "ttl and the mutator orders.ship exclude each other without on_commit"),
        (["ship"], {"ttl_s": 60.0, "stale_s": 1.0, "loader": LOADER}, "ttl and stale and the mutator orders.ship exclude"),
        ([], {"ttl_s": 60.0, "loader": LOADER, "write": ("anyone",)}, "ttl and a write rule exclude each other"),
        ([], {"is_volatile": True, "on_commit": commit}, "volatile and on_commit exclude each other"),
        ([], {"stale_s": 1.0}, "stale needs ttl"),
        ([], {"ttl_s": 1.0}, "ttl needs a loader"),
        ([], {"ttl_s": 0.0, "loader": LOADER}, "ttl must be above 0"),
        ([], {"jitter": 1.0}, "jitter must be at least 0 and below 1"),
        ([], {"negative_ttl_s": -1.0}, "negative_ttl_s must not be below 0"),
        ([], {"max_entries": 0}, "max_entries must be above 0"),
        ([], {"load_batch": 0}, "load_batch must be above 0"),
        ([], {"max_bytes": 1000}, "max_value_bytes (262144) must not be above max_bytes (1000)"),
        ([], {"max_value_bytes": 600_000}, "at most half of limits.outbox_bytes (1048576)"),
        ([], {"on_commit_retry_s": 100.0}, "on_commit_retry_s (100) must not be above on_commit_max_retry_s (60)"),
        ([], {"warm": 100_001}, "warm (100001) must be 0 to max_entries (100000)"),
        ([], {"warm": -1}, "warm (-1) must be"),
        ([], {"read": ("nobody",)}, "read: There is no rule 'nobody'"),
        ([], {"write": ("owner",)}, "write: owner needs partitioned"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused_by_name(mutators, options, told):
    with pytest.raises(
        ConfigError, match=re.escape("collection orders: ") + ".*" + re.escape(told)
    ):
        app_in_force(app(*mutators, **options), CLOSED)


def test_the_operator_cannot_open_writes_on_what_expires():
    config = attrs.evolve(
        CLOSED, collections={"orders": CollectionSettings("orders", write=("anyone",))}
    )
    with pytest.raises(ConfigError, match="ttl and a write rule exclude"):
        app_in_force(app(ttl_s=1, loader=LOADER), config)


def test_all_problems_are_told_at_once():
    with pytest.raises(ConfigError) as failure:
        app_in_force(app(max_entries=0, stale_s=1.0, mutate=("x",)), CLOSED)
    assert len(str(failure.value).splitlines()) == 3


def test_a_name_is_one_of_a_channel_and_nobody_elses():
    named = AppDefinition(collections={"A b": CollectionDefinition("A b")})
    with pytest.raises(ConfigError, match="collection 'A b': a name is 1 to 64 of"):
        app_in_force(named, CLOSED)
    with pytest.raises(ConfigError, match=r"collection demo has the name of namespaces\.demo"):
        app_in_force(AppDefinition(collections={"demo": CollectionDefinition("demo")}), CLOSED)


def test_settings_of_a_collection_that_the_application_lacks_are_a_mistake():
    config = attrs.evolve(CLOSED, collections={"order": CollectionSettings("order")})
    with pytest.raises(ConfigError, match=r"\[collections.order\].*did you mean orders\?"):
        app_in_force(app(), config)


def test_a_mutator_of_no_collection_there_is_is_refused():
    mutators = Mutators()
    mutators.add("act", ship, collection="gone")
    with pytest.raises(ConfigError, match=r"mutator gone\.act: there is no collection gone"):
        app_in_force(AppDefinition(mutators=mutators), CLOSED)


def test_rules_of_the_applications_own_mutators_are_checked():
    with pytest.raises(ConfigError, match=r"App\.mutate: There is no rule"):
        app_in_force(AppDefinition(mutate=("nobody",)), CLOSED)


def test_values_that_clients_could_not_be_sent_are_refused_by_this_nodes_limits():
    config = attrs.evolve(CLOSED, limits=Limits(outbox_bytes=2 * 600_000))
    assert orders(app(max_value_bytes=600_000), config).max_value_bytes == 600_000
