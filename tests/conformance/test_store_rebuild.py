"""Rebuilds, the same in every store: leases, pages, and a swap that never overwrites what was changed meanwhile (REBUILD)."""

import random

import attrs
import pytest

from syncd.ports_state import Committed, Conflict, KeyName
from syncd.store.loads import FinishedLoad
from syncd.store.rebuilds import RebuildLease
from syncd.store.redis_store import RedisStore
from syncd.store.sqlite import SqliteStore
from tests.conformance.rebuild_play import ORDERS, PLAN, WHOLE, Play, acquire, prepare, row, values


@pytest.fixture
def filled(log, mutation, put):
    """Entries a, b and c, in the store of `log`."""
    writes = [put("orders", key, b"old", tags=["t"]) for key in "abc"]
    log.mutate(mutation(None, 0, *writes))
    return log


# ------------------------------------------------------------------------------------------------ leases


def test_one_lease_at_a_time_until_it_expires_and_tokens_ascend(store):
    first = acquire(store, "one", 0)
    assert isinstance(first, RebuildLease)
    assert acquire(store, "two", 99) == "one"
    assert store.rebuilds.renew(first, 99, 100)
    assert acquire(store, "two", 198) == "one"
    second = acquire(store, "two", 199)
    assert second.token > first.token
    assert not store.rebuilds.renew(first, 200, 100)


def test_a_released_lease_is_free_at_once(store):
    lease = acquire(store)
    assert store.rebuilds.release(lease, keeps_generation=False)
    assert not store.rebuilds.renew(lease, 0, 100)
    assert store.rebuilds.checkpoint("orders") is None
    assert isinstance(acquire(store, "two", 0), RebuildLease)


def test_a_stale_token_writes_nothing(filled):
    rebuilds = filled.store.rebuilds
    stale = acquire(filled.store, "one", 0)
    held = acquire(filled.store, "two", 100)
    assert not rebuilds.write_page(stale, [row("a"), row("x")], "x", 2)
    assert rebuilds.prepare(stale, PLAN, 1.0) is None
    assert rebuilds.swap(stale, PLAN) is None
    assert not rebuilds.release(stale, keeps_generation=False)
    assert values(filled) == dict.fromkeys("abc", b"old")
    assert rebuilds.write_page(held, [row("a")], "a", 1)
    assert rebuilds.swap(held, PLAN).num_changed == 3
    assert values(filled) == {"a": b"new"}


def test_two_collections_are_rebuilt_beside_each_other(store):
    assert isinstance(acquire(store), RebuildLease)
    other = store.rebuilds.acquire("items", "k", 0, lease_ms=100, resumes=False, fills=False)
    assert isinstance(other, RebuildLease)


# ------------------------------------------------------------------------------------------------ the swap


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_the_old_generation_is_read_until_the_swap_and_the_new_one_after(filled, plan):
    rebuilds = filled.store.rebuilds
    lease = acquire(filled.store)
    rebuilds.write_page(lease, [row("a", b"old", ["t"]), row("b", b"new", ["u"])], "b", 2)
    rebuilds.write_page(lease, [row("d", b"new", ["t"])], "d", 3)
    assert values(filled) == dict.fromkeys("abc", b"old")
    swapped = rebuilds.swap(lease, plan)
    assert values(filled) == {"a": b"old", "b": b"new", "d": b"new"}
    assert swapped.num_changed == 3
    assert filled.tagged("orders", "t") == [("orders", "a"), ("orders", "d")]
    assert filled.tagged("orders", "u") == [("orders", "b")]
    assert filled.store.count(ORDERS) == 3
    head = filled.head("orders")
    assert swapped.positions[ORDERS].offset == head.top
    assert filled.entry("orders", "a").version == 1
    assert rebuilds.renew(lease, 0, 100) is False


def test_each_change_of_a_small_swap_has_its_event(filled):
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row("a"), row("b", b"old", ["t"])], "b", 2)
    swapped = filled.store.rebuilds.swap(lease, PLAN)
    told = [(write.key, write.value) for write in swapped.writes]
    assert sorted(told) == [("a", b"new"), ("c", None)]
    assert list(swapped.versions) == [4, 5]
    assert filled.offsets("orders", after=3) == [4, 5]


def test_a_large_swap_has_one_version_and_its_log_begins_there(filled):
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row("a"), row("d")], "d", 2)
    swapped = filled.store.rebuilds.swap(lease, WHOLE)
    assert not swapped.writes
    assert filled.entry("orders", "a").version == filled.entry("orders", "d").version == 4
    head = filled.head("orders")
    assert (head.floor, head.top, filled.offsets("orders")) == (4, 4, [])


def test_nothing_is_told_when_nothing_has_changed(filled):
    lease = acquire(filled.store)
    rows = [row(key, b"old", ["t"]) for key in "abc"]
    filled.store.rebuilds.write_page(lease, rows, "c", 3)
    for plan in (PLAN, WHOLE):
        swapped = filled.store.rebuilds.swap(lease, plan)
        assert (swapped.num_changed, swapped.positions) == (0, {})
        lease = acquire(filled.store)
        filled.store.rebuilds.write_page(lease, rows, "c", 3)
    assert filled.head("orders").top == 3


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_only_keys_never_seen_are_filled_where_syncd_owns_the_entries(filled, plan):
    lease = acquire(filled.store, fills=True)
    filled.store.rebuilds.write_page(lease, [row("a"), row("d")], "d", 2)
    filled.store.rebuilds.swap(lease, attrs.evolve(plan, deletes_missing=False))
    assert values(filled) == {**dict.fromkeys("abc", b"old"), "d": b"new"}


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_a_change_made_meanwhile_wins_before_and_after_its_row_is_scanned(
    filled, mutation, put, delete, plan
):
    lease = acquire(filled.store)
    filled.mutate(mutation(None, 0, put("orders", "a", b"mine"), put("orders", "x", b"mine")))
    filled.store.rebuilds.write_page(lease, [row("a"), row("b"), row("c"), row("d")], "d", 4)
    filled.mutate(mutation(None, 0, put("orders", "b", b"mine"), delete("orders", "c")))
    filled.store.rebuilds.swap(lease, plan)
    assert values(filled) == {"a": b"mine", "b": b"mine", "d": b"new", "x": b"mine"}


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_what_the_application_did_not_have_at_the_start_is_not_deleted(
    filled, mutation, put, delete, plan
):
    """It may have been acknowledged behind the scan: then neither the source had it nor is it dirty any more."""
    dirty = mutation(
        None,
        0,
        put("orders", "x", b"mine", is_forwarded=True),
        delete("orders", "a", is_forwarded=True),
    )
    (result,) = filled.mutate(dirty)
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row("a"), row("b"), row("c")], "c", 3)
    for key, version in zip("xa", result.versions, strict=True):
        filled.forwarded("orders", key, version)
    filled.trim()
    filled.store.rebuilds.swap(lease, plan)
    assert values(filled) == {"b": b"new", "c": b"new", "x": b"mine"}


def test_changes_between_two_runs_of_a_job_are_known_to_the_second(filled, mutation, delete):
    first = acquire(filled.store, "j")
    filled.store.rebuilds.write_page(first, [row("a"), row("b")], "b", 2)
    assert filled.store.rebuilds.release(first, keeps_generation=True)
    filled.mutate(mutation(None, 0, delete("orders", "a")))
    assert filled.store.rebuilds.checkpoint("orders") == ("j", 2)
    second = acquire(filled.store, resumes=True)
    assert (second.after, second.done) == ("b", 2)
    filled.store.rebuilds.write_page(second, [row("c")], "c", 3)
    filled.store.rebuilds.swap(second, PLAN)
    assert values(filled) == {"b": b"new", "c": b"new"}


def test_a_job_that_is_not_resumed_begins_without_the_rows_of_the_last(filled):
    first = acquire(filled.store)
    filled.store.rebuilds.write_page(first, [row("x"), row("y")], "y", 2)
    filled.store.rebuilds.release(first, keeps_generation=True)
    second = acquire(filled.store)
    assert (second.after, second.done) == (None, 0)
    filled.store.rebuilds.write_page(second, [row("a")], "a", 1)
    filled.store.rebuilds.swap(second, PLAN)
    assert values(filled) == {"a": b"new"}


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_rows_come_in_any_order_and_of_two_of_a_key_the_later_one_counts(filled, plan):
    keys = ['"', "\\", "b", "é", "\uffff", "\U0001f600", "a", '"}', "z"]
    lease, rebuilds = acquire(filled.store), filled.store.rebuilds
    rebuilds.write_page(lease, [row(key, b"1st", ["u"]) for key in keys], "z", 9)
    again = [row("a", b"2nd"), row("a", b"old", ["t"]), row("é", b"2nd", ["v"]), row("c")]
    rebuilds.write_page(lease, again, "c", 13)
    swapped = rebuilds.swap(lease, plan)
    assert swapped.num_changed == len(keys) - 1 + 1, "a is as it was, c has changed"
    expected = {**dict.fromkeys(keys, b"1st"), "a": b"old", "é": b"2nd", "c": b"new"}
    assert values(filled) == expected
    assert list(values(filled)) == sorted(expected)
    assert filled.store.count(ORDERS) == len(expected)
    assert [key for _, key in filled.tagged("orders", "t")] == ["a"]
    assert [key for _, key in filled.tagged("orders", "u")] == sorted(set(keys) - {"a", "é"})
    assert [key for _, key in filled.tagged("orders", "v")] == ["é"]


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_an_entry_that_stays_keeps_its_version_over_any_number_of_swaps(
    filled, mutation, put, plan
):
    rows = [row("a", b"old", ["t"]), row("b"), row("d")]
    versions = []
    for number in range(4):
        lease = acquire(filled.store)
        filled.store.rebuilds.write_page(lease, [*rows, row("e", b"%d" % number)], "e", 4)
        top = filled.head("orders").top
        filled.store.rebuilds.swap(lease, plan)
        found = {entry.key: entry.version for entry in filled.scan("orders").entries}
        assert top < found.pop("e") <= filled.head("orders").top
        versions.append(found)
    assert versions == [versions[0]] * 4
    read = ("orders", "d", versions[0]["d"])
    (result,) = filled.mutate(mutation("c", 1, put("orders", "d", b"mine"), reads=[read]))
    assert isinstance(result, Committed), "the version that was read still stands"


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_all_who_read_an_entry_see_the_same_version_of_it(filled, mutation, put, plan):
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row("a"), row("b", b"old", ["t"])], "b", 2)
    filled.store.rebuilds.swap(lease, plan)
    keys = [KeyName("a"), KeyName("b")]
    versions = [entry.version for entry in filled.store.entries(ORDERS, keys)]
    assert versions == [4, 2]
    looked_up = filled.store.look_up(ORDERS, keys)
    assert [entry.version for entry in looked_up.entries] == versions
    assert [entry.version for entry in filled.scan("orders").entries] == versions
    loads, places = filled.store.rebuilds.loads, [(ORDERS, key) for key in keys]
    loads.claim(places, "n", 9.0, 2)
    loads.finish("n", [FinishedLoad(place, None) for place in places])
    told = [claim.entry for claim in loads.claim(places, "m", 9.0, 2)]
    assert [entry.version for entry in told if entry is not None] in ([], versions)
    reads = [("orders", *each) for each in zip("ab", versions, strict=True)]
    stale, fresh = filled.mutate(
        mutation("c", 1, put("orders", "a"), reads=[("orders", "a", versions[0] - 1)]),
        mutation("c", 1, put("orders", "a"), reads=reads),
    )
    assert (type(stale), type(fresh)) == (Conflict, Committed)


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
@pytest.mark.parametrize("deletes_missing", [True, False])
def test_what_is_prepared_is_seen_by_nobody_and_changes_made_after_it_win(
    filled, mutation, put, delete, plan, deletes_missing
):
    filled.mutate(mutation(None, 0, *(put("orders", key, b"old", ["t"]) for key in "uvw")))
    plan = attrs.evolve(plan, deletes_missing=deletes_missing)
    lease = acquire(filled.store)
    filled.mutate(mutation(None, 0, put("orders", "a", b"mine"), put("orders", "u", b"mine")))
    rows = [row("a"), row("b", tags=["u"]), row("c", b"old", ["t"]), row("d"), row("e")]
    filled.store.rebuilds.write_page(lease, rows, "e", 5)
    before = filled.scan("orders"), filled.tagged("orders", "t"), filled.head("orders")
    prepare(filled.store, lease, plan)
    assert (filled.scan("orders"), filled.tagged("orders", "t"), filled.head("orders")) == before
    filled.mutate(
        mutation(
            None,
            0,
            put("orders", "d", b"mine", ["t"]),
            delete("orders", "e"),
            put("orders", "f", b"mine"),
            put("orders", "v", b"mine"),
        )
    )
    filled.store.rebuilds.swap(lease, plan)
    mine = dict.fromkeys("adfuv", b"mine")
    kept = {} if deletes_missing else {"w": b"old"}
    assert values(filled) == {**mine, "b": b"new", "c": b"old", **kept}
    assert filled.store.count(ORDERS) == len(values(filled))
    tagged = [key for _, key in filled.tagged("orders", "t")]
    assert tagged == ["c", "d", *kept]
    assert filled.tagged("orders", "u") == [("orders", "b")]
    assert filled.entry("orders", "c").version == 3


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_a_change_that_was_undone_after_it_was_prepared_is_none(filled, mutation, put, plan):
    """Its key was copied into what was prepared as if it had changed: what the source had of it was lost."""
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row("a"), row("b"), row("c")], "c", 3)
    prepare(filled.store, lease, plan)
    filled.mutate(mutation(None, 0, put("orders", "a", b"undone")), commit=False)
    filled.store.rollback()
    assert filled.store.rebuilds.swap(lease, plan).num_changed == 3
    assert values(filled) == dict.fromkeys("abc", b"new")


def test_a_change_wins_also_where_the_source_yielded_more_and_took_it_back(filled, mutation, put):
    """Then more rows are noted as changed than have changed: the swap is large, without its having been prepared as such."""
    keys = [f"k{n:04}" for n in range(1100)]
    filled.mutate(mutation(None, 0, *(put("orders", key, b"old", ["t"]) for key in keys)))
    lease = acquire(filled.store)
    filled.store.rebuilds.write_page(lease, [row(key, b"first") for key in keys], "k1099", 1100)
    rows = [row(key, b"old", ["t"]) for key in ("a", "b", *keys)]
    filled.store.rebuilds.write_page(lease, [*rows, row("c")], "k1099", 2203)
    filled.mutate(mutation(None, 0, put("orders", "a", b"mine"), put("orders", "x", b"mine")))
    prepare(filled.store, lease, PLAN)
    filled.store.rebuilds.swap(lease, PLAN)
    expected = {**dict.fromkeys(keys, b"old"), "a": b"mine", "b": b"old", "c": b"new", "x": b"mine"}
    assert {
        entry.key: entry.value for entry in filled.scan("orders", limit=2000).entries
    } == expected


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_partitions_are_swapped_together_and_others_left_alone(log, mutation, put, plan):
    log.mutate(
        mutation(
            None,
            0,
            put("orders/eu", "1", b"old"),
            put("orders/us", "1", b"old"),
            put("orders-old", "1", b"old"),
        )
    )
    lease = acquire(log.store)
    log.store.rebuilds.write_page(lease, [row("1", channel="orders/eu")], "1", 1)
    swapped = log.store.rebuilds.swap(lease, plan)
    assert set(swapped.positions) == {"orders/eu", "orders/us"}
    assert values(log, "orders/eu") == {"1": b"new"}
    assert values(log, "orders/us") == {}
    assert values(log, "orders-old") == {"1": b"old"}


@pytest.mark.parametrize("plan", [PLAN, WHOLE])
def test_of_a_part_of_the_collection_only_what_belongs_to_it_is_deleted(
    filled, put, mutation, plan
):
    filled.mutate(mutation(None, 0, put("orders", "d", b"old")))
    lease = acquire(filled.store, is_partial=True)
    filled.mutate(mutation(None, 0, put("orders", "c", b"mine")))
    filled.store.rebuilds.write_page(lease, [row("a"), row("x")], "x", 2)
    among = [(ORDERS, KeyName(key)) for key in ("a", "b", "c", "nowhere")]
    swapped = filled.store.rebuilds.swap(lease, attrs.evolve(plan, among=among))
    assert swapped.num_changed == 3
    assert values(filled) == {"a": b"new", "c": b"mine", "d": b"old", "x": b"new"}
    assert filled.store.count(ORDERS) == 4


@pytest.mark.parametrize("is_cut_off", [True, False])
def test_a_part_of_the_collection_is_never_resumed_as_if_it_were_all(filled, is_cut_off):
    part = acquire(filled.store, is_partial=True)
    filled.store.rebuilds.write_page(part, [row("a")], "a", 1)
    if not is_cut_off:
        filled.store.rebuilds.release(part, keeps_generation=True)
    whole = acquire(filled.store, now_ms=100, resumes=True)
    assert (whole.after, whole.done) == (None, 0)


def test_a_job_that_has_ended_gets_no_second_lease_and_one_that_crashed_goes_on(filled):
    """So that of all nodes one does what is scheduled."""
    first = acquire(filled.store, "at noon")
    filled.store.rebuilds.write_page(first, [row("a"), row("b")], "b", 2)
    assert acquire(filled.store, "at noon", 99) == "at noon"
    second = acquire(filled.store, "at noon", 100)
    assert (second.after, second.done) == ("b", 2)
    filled.store.rebuilds.swap(second, PLAN)
    assert acquire(filled.store, "at noon", 101) is None
    assert isinstance(acquire(filled.store, "at one", 101), RebuildLease)


# ------------------------------------------------------------------------------------------------ nodes that share the store


@pytest.fixture
def shared(filled):
    """A store that several nodes may have open, with entries a, b and c."""
    if isinstance(filled.store, SqliteStore):
        pytest.skip("a file is one node's")
    return filled


def standing(store, now_ms):
    (found,) = store.rebuilds.standings(["orders", "never rebuilt"], now_ms)
    return found


def test_an_abandoned_generation_is_taken_over_once_and_goes_on_under_a_new_token(shared):
    rebuilds = shared.store.rebuilds
    dead = acquire(shared.store, "j", 0, note=b"about")
    rebuilds.write_page(dead, [row("a"), row("b")], "b", 2)
    held = standing(shared.store, 99)
    assert (held.is_open, held.is_held, held.is_abandoned) == (True, True, False)
    assert acquire(shared.store, "j", 99, takes_over=dead.token) is None
    left = standing(shared.store, 100)
    assert (left.is_open, left.is_held, left.is_abandoned) == (True, False, True)
    assert (left.job, left.token, left.done, left.note) == ("j", dead.token, 2, b"about")
    taken = acquire(shared.store, "j", 100, note=left.note, takes_over=left.token)
    assert (taken.after, taken.done) == ("b", 2)
    assert acquire(shared.store, "j", 100, takes_over=left.token) is None
    assert acquire(shared.store, "j", 1000, takes_over=left.token) is None
    assert not rebuilds.write_page(dead, [row("x")], "x", 3)
    assert rebuilds.swap(dead, PLAN) is None
    assert rebuilds.write_page(taken, [row("c")], "c", 3)
    assert rebuilds.swap(taken, PLAN).num_changed == 3
    assert values(shared) == dict.fromkeys("abc", b"new")
    assert not standing(shared.store, 10**6).is_abandoned


@pytest.mark.parametrize("keeps", [True, False])
def test_what_was_given_back_is_not_abandoned(shared, keeps):
    lease = acquire(shared.store, "j", 0)
    shared.store.rebuilds.release(lease, keeps_generation=keeps)
    found = standing(shared.store, 10**6)
    assert (found.is_open, found.is_held, found.is_abandoned) == (keeps, False, False)
    assert acquire(shared.store, "j", 10**6, takes_over=lease.token) is None


def test_an_abandoned_part_of_a_collection_begins_anew(shared):
    dead = acquire(shared.store, "j", 0, is_partial=True)
    shared.store.rebuilds.write_page(dead, [row("a"), row("x")], "x", 2)
    taken = acquire(shared.store, "j", 100, is_partial=True, takes_over=dead.token)
    assert (taken.after, taken.done) == (None, 0)
    shared.store.rebuilds.write_page(taken, [row("a")], "a", 1)
    among = [(ORDERS, KeyName(key)) for key in "ax"]
    shared.store.rebuilds.swap(taken, attrs.evolve(PLAN, among=among))
    assert values(shared) == {"a": b"new", "b": b"old", "c": b"old"}


def test_a_job_that_is_revoked_writes_nothing_more_and_leaves_nothing(filled):
    rebuilds = filled.store.rebuilds
    lease = acquire(filled.store, "j", 0)
    rebuilds.write_page(lease, [row("a")], "a", 1)
    assert not rebuilds.revoke("orders", "another")
    assert rebuilds.revoke("orders", "j")
    assert not rebuilds.revoke("orders", "j")
    assert not rebuilds.renew(lease, 1, 100)
    assert not rebuilds.write_page(lease, [row("b")], "b", 2)
    assert rebuilds.swap(lease, PLAN) is None
    assert acquire(filled.store, "j", 1) is None
    later = acquire(filled.store, "k", 1, resumes=True)
    assert (later.after, later.done) == (None, 0)
    assert later.token > lease.token
    assert values(filled) == dict.fromkeys("abc", b"old")


# ------------------------------------------------------------------------------------------------ survival


def test_a_kill_in_the_middle_leaves_the_old_entries_and_the_checkpoint(
    make_sqlite, mutation, put, leave_by_kill
):
    store = make_sqlite()
    store.begin_commit([mutation(None, 0, put("orders", "a", b"old"))])
    store.commit()
    lease = acquire(store, "j")
    store.rebuilds.write_page(lease, [row("a"), row("b")], "b", 2)
    again = make_sqlite(leave_by_kill())
    assert [entry.value for entry in again.entries(ORDERS, ["a", "b"])] == [b"old"]
    assert acquire(again, "k", 50, resumes=True) == "j"
    resumed = acquire(again, "k", 100, resumes=True)
    assert (resumed.after, resumed.done) == ("b", 2)
    again.begin_commit([mutation(None, 0, put("orders", "a", b"mine"))])
    again.commit()
    again.rebuilds.swap(resumed, PLAN)
    assert [entry.value for entry in again.entries(ORDERS, ["a", "b"])] == [b"mine", b"new"]


# ------------------------------------------------------------------------------------------------ any order


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_no_key_is_lost_resurrected_or_seen_early(
    seed, log, mutation, put, delete, make_sqlite, request
):
    """Invariant: readers see the old entries with later changes until the swap, then rows scanned, but for what was touched."""
    chance, nodes = random.Random(seed), [log.store]

    def reopen(store):
        if isinstance(store, SqliteStore):
            store.close()
            return make_sqlite()
        if isinstance(store, RedisStore):
            if len(nodes) < 3:
                nodes.append(request.getfixturevalue("make_redis")(node=f"n{len(nodes)}"))
            return chance.choice(nodes)
        return store

    Play(log, chance, mutation, put, delete, reopen).run(120)
