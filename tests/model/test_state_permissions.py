"""Rules of collections: who may read, call mutators, and use the built-in ones, by channel and by name."""

import pytest

from syncd.config import Config
from syncd.errors import ConfigError
from syncd.model.definitions import AppDefinition, CollectionDefinition
from syncd.model.definitions_check import app_in_force
from syncd.model.mutators import Mutators
from syncd.model.state_permissions import StatePermissions
from syncd.ports import Identity

ANN = Identity(user="ann", claims={"channels": ["regions/eu", "tasks.close"]})
STAFF = Identity(user="sam", roles=frozenset({"staff"}))
NOBODY = Identity()


def close(tx, task: str):
    """Never run here."""


def permissions(*collections, mutate=("role:staff",), **mutators):
    registry = Mutators()
    for name, collection in mutators.items():
        registry.add(name, close, collection=collection)
    app = AppDefinition(
        collections={each.name: each for each in collections}, mutators=registry, mutate=mutate
    )
    return StatePermissions(app_in_force(app, Config()))


def test_reading_is_judged_by_the_channel_of_the_partition():
    rules = permissions(
        CollectionDefinition("regions", is_partitioned=True, read=("claim", "role:staff"))
    )
    assert rules.may_read(ANN, "regions/eu") is True
    assert rules.may_read(ANN, "regions/us") is False
    assert rules.may_read(STAFF, "regions/us") is True
    assert rules.may_read(NOBODY, "regions/eu") is False


def test_a_partition_may_be_its_owners():
    rules = permissions(CollectionDefinition("notes", is_partitioned=True, read=("owner",)))
    assert rules.may_read(ANN, "notes/ann") is True
    assert rules.may_read(ANN, "notes/sam") is False
    assert rules.may_read(NOBODY, "notes/ann") is False


def test_a_collection_that_is_none_admits_nobody():
    rules = permissions(CollectionDefinition("tasks", read=("anyone",)))
    assert rules.may_read(ANN, "nothing") is False
    assert rules.may_read(ANN, "nothing/tasks") is False


def test_without_rules_nothing_is_said():
    rules = StatePermissions(AppDefinition(collections={"tasks": CollectionDefinition("tasks")}))
    assert rules.may_read(ANN, "tasks") is None
    assert rules.may_mutate(ANN, rules.call_of("tasks.close"), "tasks.close") is None
    assert rules.may_write(ANN, rules.call_of("tasks.put"), "tasks") is None


@pytest.mark.parametrize(
    ("name", "collection", "is_built_in"),
    [
        ("tasks.close", "tasks", False),
        ("tasks.put", "tasks", True),
        ("tasks.delete", "tasks", False),
        ("tasks.nonsense", "tasks", False),
        ("shut.put", "shut", True),
        ("audit", None, False),
        ("put", None, False),
        ("nothing.put", None, False),
        ("tasks", "tasks", False),
        ("", None, False),
    ],
)
def test_a_mutator_is_under_the_rules_of_its_collection_also_one_that_does_not_exist(
    name, collection, is_built_in
):
    rules = permissions(
        CollectionDefinition("tasks", write=("anyone",)),
        CollectionDefinition("shut"),
        close="tasks",
        delete="tasks",
        audit=None,
    )
    call = rules.call_of(name)
    assert (call.collection, call.is_built_in) == (collection, is_built_in)


def test_calling_is_judged_by_the_mutators_name_and_writing_by_the_channel():
    rules = permissions(
        CollectionDefinition("tasks", mutate=("claim",), write=("role:staff",)), close="tasks"
    )
    own, built_in = rules.call_of("tasks.close"), rules.call_of("tasks.put")
    assert rules.may_mutate(ANN, own, "tasks.close") is True
    assert rules.may_mutate(STAFF, own, "tasks.close") is False
    assert rules.may_write(STAFF, built_in, "tasks") is True
    assert rules.may_write(ANN, built_in, "tasks") is False
    audit = rules.call_of("audit")
    assert rules.may_mutate(STAFF, audit, "audit") is True
    assert rules.may_mutate(ANN, audit, "audit") is False


def test_a_rule_that_is_none_is_told_at_start():
    with pytest.raises(ConfigError, match="nobody"):
        StatePermissions(
            AppDefinition(collections={"a": CollectionDefinition("a", read=("nobody",))})
        )
