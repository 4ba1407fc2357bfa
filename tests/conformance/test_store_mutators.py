"""Groups of mutators as the cache-owner runs them, over every store: what they saw of each other holds, and nothing else does."""

import msgpack
import pytest

from syncd.ids import ChannelName
from syncd.model.mutation_group import Mutation, MutationGroup, rerun_after
from syncd.model.mutators import Mutators
from syncd.model.recording import CollectionRules, Ground, Untimed
from syncd.ports import Identity
from syncd.ports_state import Committed, Conflict, KeyName, OutOfOrder

ORDERS = ChannelName("orders")


class StoredView:
    """What the store has, and what was seen before it changed behind somebody's back."""

    def __init__(self, store):
        self.store = store
        self.stale = {}

    def version_and_value(self, channel, key):
        if (channel, key) in self.stale:
            return self.stale[channel, key]
        found = self.store.entries(channel, [key])
        return (found[0].version, found[0].value) if found else (0, None)

    def tags(self, channel, key):
        return self.store.entries(channel, [key])[0].tags


@pytest.fixture
def view(store):
    return StoredView(store)


@pytest.fixture
def run(view):
    """Run `(client, mid, mutator, key, ...)`s as one group, and return what was decided with the store's results."""
    mutators = Mutators()
    for name in ("add", "move"):
        mutators.add(name, {"add": add, "move": move}[name], collection="orders")

    def run(*asked):
        ground = Ground(view, {"orders": CollectionRules("orders")}, 7, lambda *_: True, Untimed())
        group = MutationGroup(mutators, ground)
        for client, mid, name, *args in asked:
            group.run(Mutation(client, mid, f"orders.{name}", args, Identity()))
        results = view.store.begin_commit(group.commits)
        view.store.commit()
        return group.decided, results

    return run


def add(tx, key: str, number: int):
    tx.put(key, (tx.get(key) or 0) + number)


def move(tx, source: str, target: str):
    tx.put(target, tx.get(source))
    tx.delete(source)


def values(store):
    entries = store.scan(ORDERS, None, 100, 10**6).entries
    return {entry.key: msgpack.unpackb(entry.value) for entry in entries}


def test_mutations_of_one_group_on_one_key_all_take_effect(run, store):
    decided, results = run(
        *[("ann", mid, "add", "k", mid) for mid in (1, 2, 3)],
        ("bob", 1, "move", "k", "l"),
        ("ann", 4, "add", "k", 40),
        ("cid", 1, "add", "l", 100),
    )
    assert [type(result) for result in results] == [Committed] * 6
    assert values(store) == {"k": 40, "l": 106}
    assert rerun_after(decided, results) == []


def test_what_built_on_a_mutation_that_did_not_stand_runs_again_and_then_takes_effect(
    run, store, view
):
    run(("ann", 1, "add", "k", 1))
    view.stale[ORDERS, KeyName("k")] = (0, None)
    decided, results = run(
        ("bob", 1, "add", "k", 10),
        ("cid", 1, "add", "k", 100),
        ("cid", 2, "add", "other", 5),
        ("dan", 1, "add", "other", 7),
    )
    assert [type(result) for result in results] == [Conflict, Conflict, OutOfOrder, Conflict]
    assert values(store) == {"k": 1}
    view.stale.clear()
    again = rerun_after(decided, results)
    assert [(each.client, each.mid) for each in again] == [
        ("bob", 1),
        ("cid", 1),
        ("cid", 2),
        ("dan", 1),
    ]
    _, results = run(*[(m.client, m.mid, "add", *m.args) for m in again])
    assert [type(result) for result in results] == [Committed] * 4
    assert values(store) == {"k": 111, "other": 12}
