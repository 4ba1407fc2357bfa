"""What every store keeps of changes that the application has to hear of: dirty keys, from the commit to the acknowledgement."""

import itertools

from syncd.ports_state import Committed, Conflict, Entry, EntryRead


def test_a_forwarded_change_makes_its_key_dirty_and_others_do_not(log, mutation, put, delete):
    log.mutate(
        mutation(
            "c",
            1,
            put("orders", "plain"),
            put("orders", "told", is_forwarded=True),
            put("orders/eu", "told", is_forwarded=True),
            delete("orders", "never was", is_forwarded=True),
        )
    )
    assert log.dirty("orders") == [
        ("orders", "never was", 3),
        ("orders", "told", 2),
        ("orders/eu", "told", 1),
    ]


def test_a_deleted_entry_is_dirty_at_the_version_of_its_deletion(log, mutation, put, delete):
    log.mutate(mutation("c", 1, put("orders", "k", is_forwarded=True)))
    log.mutate(mutation("c", 2, delete("orders", "k", is_forwarded=True)))
    assert log.entry("orders", "k") is None
    assert log.dirty("orders") == [("orders", "k", 2)]


def test_the_newest_forwarded_version_is_the_dirty_one(log, mutation, put):
    twice = [put("orders", "k", is_forwarded=True), put("orders", "k", b"2", is_forwarded=True)]
    log.mutate(mutation("c", 1, *twice))
    assert log.dirty("orders") == [("orders", "k", 2)]
    log.mutate(mutation("c", 2, put("orders", "k", is_forwarded=True)))
    assert log.dirty("orders") == [("orders", "k", 3)]
    log.mutate(mutation("c", 3, put("orders", "k", b"not forwarded")))
    assert log.dirty("orders") == [("orders", "k", 3)]
    assert log.entry("orders", "k") == Entry("k", 4, b"not forwarded")


def test_what_does_not_stand_makes_nothing_dirty(log, mutation, put):
    told = put("orders", "k", is_forwarded=True)
    log.mutate(mutation("c", 1))
    log.mutate(
        mutation("c", 1, told),
        mutation("c", 5, told),
        mutation("c", 2, told, reads=[("orders", "k", 9)]),
    )
    assert log.dirty("orders") == []


def test_only_the_dirty_version_can_be_acknowledged(log, mutation, put):
    for mid in (1, 2):
        log.mutate(mutation("c", mid, put("orders", "k", is_forwarded=True)))
    for version in (1, 3):
        log.forwarded("orders", "k", version)
    log.forwarded("orders", "other", 2)
    log.forwarded("never", "k", 2)
    log.mutate(mutation("d", 1))
    assert log.dirty("orders") == [("orders", "k", 2)]
    log.forwarded("orders", "k", 2)
    assert log.dirty("orders") == []
    log.mutate(mutation("d", 2))
    assert log.dirty("orders") == []


def test_an_acknowledgement_that_comes_late_leaves_the_newer_change_dirty(log, mutation, put):
    log.mutate(mutation("c", 1, put("orders", "k", is_forwarded=True)))
    log.forwarded("orders", "k", 1)
    log.mutate(mutation("c", 2, put("orders", "k", is_forwarded=True)))
    assert log.dirty("orders") == [("orders", "k", 2)]
    log.forwarded("orders", "k", 1)
    log.trim()
    assert log.dirty("orders") == [("orders", "k", 2)]


def test_a_rollback_brings_back_what_was_dirty_and_keeps_what_was_acknowledged(
    log, mutation, put, delete
):
    both = [put("orders", key, is_forwarded=True) for key in "ab"]
    log.mutate(mutation("c", 1, *both))
    log.forwarded("orders", "a", 1)
    log.mutate(
        mutation("c", 2, *[delete("orders", key, is_forwarded=True) for key in "abc"]), commit=False
    )
    log.store.rollback()
    assert log.dirty("orders") == [("orders", "b", 2)]
    log.mutate(mutation("c", 2))
    assert log.dirty("orders") == [("orders", "b", 2)]


def test_dirty_keys_come_in_order_of_the_collection_and_its_partitions_and_nothing_beside(
    log, mutation, put
):
    channels = ["orders", "orders-old", "orders!", "orders/a", "orders/b/c", "orders0", "order"]
    keys = ["", "1", "я", "\U0001f600"]
    places = [*itertools.product(channels, keys)]
    log.mutate(mutation("c", 1, *[put(c, k, is_forwarded=True) for c, k in reversed(places)]))
    inside = [place for place in places if place[0] in ("orders", "orders/a", "orders/b/c")]
    assert [place[:2] for place in log.dirty("orders")] == inside
    for index, after in enumerate(inside):
        page = log.dirty("orders", after=after, limit=3)
        assert [place[:2] for place in page] == inside[index + 1 : index + 4]
    log.forwarded("orders", "1", 3)
    log.forwarded("orders/a", "", 4)
    left = [place for place in inside if place not in {("orders", "1"), ("orders/a", "")}]
    assert [place[:2] for place in log.dirty("orders", limit=5)] == left[:5]
    assert [place[:2] for place in log.dirty("orders", after=("orders-old", "1"))] == left[3:]
    assert log.dirty("none") == []


# ------------------------------------------------------------------------------------------------ in a file


def dirty_rows(store):
    return store._connection.execute("SELECT count(*) FROM dirty").fetchone()[0]


def test_acknowledged_keys_leave_the_disk_with_a_transaction_or_a_slice(make_sqlite, mutation, put):
    store = make_sqlite()
    store.begin_commit([mutation("c", 1, *[put("orders", k, is_forwarded=True) for k in "abc"])])
    store.commit()
    store.acknowledge_forwarded("orders", "a", 1)
    assert dirty_rows(store) == 3
    store.begin_commit([mutation("c", 2)])
    store.commit()
    assert dirty_rows(store) == 2
    store.acknowledge_forwarded("orders", "b", 2)
    store.trim(0, 0.0)
    assert dirty_rows(store) == 1
    store.begin([])
    store.commit()
    assert [d.key for d in store.dirty("orders", None, 10)] == ["c"]


def test_very_many_acknowledged_keys_leave_the_disk_some_at_a_time_and_are_not_dirty_meanwhile(
    make_sqlite, mutation, put
):
    store = make_sqlite()
    keys = [f"{n:04}" for n in range(2500)]
    store.begin_commit([mutation("c", 1, *[put("orders", k, is_forwarded=True) for k in keys])])
    store.commit()
    for version, key in enumerate(keys, 1):
        store.acknowledge_forwarded("orders", key, version)
    assert store.dirty("orders", None, 10) == []
    store.begin_commit([mutation("c", 2, put("orders", "0000", is_forwarded=True))])
    store.rollback()
    assert (store.dirty("orders", None, 10), dirty_rows(store)) == ([], 2500)
    store.begin_commit([mutation("c", 2, *[put("orders", k, is_forwarded=True) for k in keys[:9]])])
    store.commit()
    assert [d.version for d in store.dirty("orders", None, 10)] == [*range(2501, 2510)]
    assert 2000 <= dirty_rows(store) <= 2009
    assert store.trim(0, 1.0).has_more
    while store.trim(0, 1.0).has_more:
        pass
    assert dirty_rows(store) == 9


def test_dirty_keys_survive_a_kill_with_those_whose_acknowledgement_was_lost(
    make_sqlite, mutation, put, delete, leave_by_kill
):
    store = make_sqlite()
    store.begin_commit([mutation("c", 1, *[put("orders", k, is_forwarded=True) for k in "ab"])])
    store.commit()
    store.acknowledge_forwarded("orders", "a", 1)
    store.begin_commit([mutation("c", 2, delete("orders", "b", is_forwarded=True))])
    survivor = make_sqlite(leave_by_kill())
    assert [(d.key, d.version) for d in survivor.dirty("orders", None, 10)] == [("a", 1), ("b", 2)]


def test_what_a_source_has_of_a_dirty_key_does_not_stand_until_that_was_acknowledged(
    log, mutation, put
):
    log.mutate(mutation("c", 1, put("orders", "k", is_forwarded=True), put("orders", "clean")))

    def load(key, version):
        commit = mutation(None, 0, put("orders", key, b"of the source"))
        commit.reads.append(EntryRead("orders", key, version, unless_dirty=True))
        return commit

    dirty, clean, stale = log.mutate(load("k", 1), load("clean", 2), load("clean", 2))
    assert isinstance(dirty, Conflict)
    assert dirty.is_dirty
    assert isinstance(clean, Committed)
    assert isinstance(stale, Conflict)
    assert not stale.is_dirty
    assert log.entry("orders", "k").value == b"v"
    log.forwarded("orders", "k", 1)
    (result,) = log.mutate(load("k", 1))
    assert isinstance(result, Committed)
    assert log.entry("orders", "k").value == b"of the source"


def test_a_key_made_dirty_in_the_same_transaction_is_dirty_for_a_load(log, mutation, put):
    load = mutation(None, 0, put("orders", "k", b"of the source"))
    load.reads.append(EntryRead("orders", "k", 1, unless_dirty=True))
    _, result = log.mutate(mutation("c", 1, put("orders", "k", is_forwarded=True)), load)
    assert isinstance(result, Conflict)
    assert result.is_dirty
