"""The LRU where a naive model says nothing: bounded work, honest charges, chance, and code that runs inside it."""

import math
import sys
import tracemalloc

import pytest

from syncd.model.lru import ENTRY_BYTES, EXPIRED_PER_CALL, Lru
from syncd.model.lru_columns import NUM_TABLES
from syncd.model.lru_facts import ABSENT, State
from syncd.model.tag_index import TAG_BYTES
from syncd.model.value_sizes import size_of


def test_a_call_clears_away_a_bounded_number_of_expired_entries():
    lru = Lru(max_entries=100_000)
    for number in range(10_000):
        lru.put(number, b"", 0, 0.0, ttl_s=10.0)
    for call in (
        lambda: lru.hit("no", 20.0, None),
        lambda: lru.look("no", 20.0),
        lambda: lru.put("new", b"", 0, 20.0),
    ):
        before = lru.expirations
        call()
        assert lru.expirations - before == EXPIRED_PER_CALL
    while len(lru) > 1:
        assert lru.sweep(20.0, 100) > 0
    assert lru.keys() == ["new"]
    assert lru.expirations == 10_000


def test_no_dead_entry_is_served_however_many_wait_to_be_cleared_away():
    lru = Lru(max_entries=100_000)
    for number in range(1_000):
        lru.put(number, b"", 0, 0.0, ttl_s=10.0)
    assert {lru.look(number, 10.0)[0] for number in range(1_000)} == {State.MISS}
    assert lru.expirations == 1_000
    assert len(lru) == 0


def test_a_dead_entry_is_found_within_a_64th_of_its_life():
    for life_s in (0.001, 1.0, 7.0, 86_400.0):
        lru = Lru(max_entries=10)
        lru.put("k", b"", 0, 1000.0, ttl_s=life_s)
        assert lru.sweep(1000.0 + life_s * 0.999) == 0
        assert lru.sweep(1000.0 + life_s * (1 + 1 / 64) + 1e-9) == 1


@pytest.mark.parametrize("stale_s", [1.0, 1000.0, math.inf])
def test_absence_with_a_stale_window_it_never_uses_is_cleared_away_within_a_64th_of_its_own_life(
    stale_s,
):
    """The stateful test's shortest history: the stale window, which absence does not have, made its bucket of deadlines too wide."""
    lru = Lru(max_entries=10)
    lru.put("k", ABSENT, 0, 1000.0, ttl_s=0.5, stale_s=stale_s)
    assert lru.sweep(1000.5 + 0.5 / 64 + 1e-9) == 1
    assert lru.keys() == []


def test_expired_entries_make_room_before_live_ones():
    lru = Lru(max_entries=40)
    lru.put("old but live", b"", 0, 0.0)
    for number in range(39):
        lru.put(number, b"", 0, 0.0, ttl_s=1.0)
    for number in range(100, 139):
        lru.put(number, b"", 0, 5.0)
    assert lru.look("old but live", 5.0)[0] is State.FRESH
    assert lru.evictions == 0


def test_an_entry_that_makes_room_at_the_moment_of_its_death_has_expired():
    lru = Lru(max_entries=1)
    lru.put("a", b"", 0, 0.0, ttl_s=10.0)
    lru.put("b", b"", 0, 10.0)
    assert (lru.expirations, lru.evictions) == (1, 0)


@pytest.mark.unmeasured
def test_replacing_one_key_for_ever_leaves_nothing_behind():
    lru = Lru(max_entries=10)
    tracemalloc.start()
    try:
        for step in range(20_000):
            if step == 2_000:
                before = tracemalloc.get_traced_memory()[0]
            lru.put("k", b"", 0, step / 1000.0, ttl_s=1000.0 + step % 3)
            lru.remove("k", step / 1000.0)
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
    finally:
        tracemalloc.stop()


@pytest.mark.unmeasured
@pytest.mark.parametrize(("sharing", "least"), [(0, 0.7), (1, 0.7), (10, 0.4)])
def test_the_charge_for_an_entry_covers_the_memory_it_takes(sharing, least):
    """At sizes where the tables are nearly full and where they have just grown; `sharing` entries have a tag in common."""
    for num_entries in (2_500, 5_000, 5_500):
        keys = [f"key:{number}" for number in range(num_entries)]
        tags = [(sys.intern(f"tag:{n // sharing}"),) if sharing else () for n in range(num_entries)]
        lru = Lru(max_bytes=1 << 40)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for number, key in enumerate(keys):
            lru.put(key, None, 0, number * 0.001, ttl_s=600.0, stale_s=30.0, tags=tags[number])
        took = (tracemalloc.get_traced_memory()[0] - before) / num_entries
        tracemalloc.stop()
        charge = lru.num_bytes / num_entries
        assert charge == ENTRY_BYTES + bool(sharing) * TAG_BYTES
        assert least * charge < took < charge


def test_chance_shortens_a_lifetime_by_at_most_the_jitter():
    draws = iter([0.0, 0.5, 0.999999])
    lru = Lru(max_entries=10, chance=lambda: next(draws))
    for key in "abc":
        lru.put(key, b"", 0, 0.0, ttl_s=100.0, jitter=0.2)
    for key, life_s in (("a", 100.0), ("b", 90.0), ("c", 80.00001)):
        assert lru.peek(key, life_s - 0.001)[0] is State.FRESH
        assert lru.peek(key, life_s + 0.001)[0] is State.MISS


def test_a_value_larger_than_the_limit_is_refused_and_its_former_value_gone():
    lru = Lru(max_bytes=10_000)
    assert lru.put("k", "small", 10, 0.0)
    assert not lru.put("k", "large", 10_000, 0.0)
    assert lru.peek("k", 0.0) == (State.MISS, None)
    assert (lru.num_bytes, lru.oversized, lru.removals) == (0, 1, 1)


@pytest.mark.parametrize(
    "wrong", [{"ttl_s": 0.0}, {"ttl_s": -1.0}, {"ttl_s": math.nan}, {"stale_s": -1.0}]
)
def test_a_wrong_lifetime_is_an_error_and_changes_nothing(wrong):
    lru = Lru(max_entries=10)
    with pytest.raises(ValueError, match="lifetime"):
        lru.put("k", b"", 0, 0.0, **wrong)
    assert lru.keys() == []


def test_a_limit_below_one_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        Lru(max_entries=0)


def test_the_end_of_a_value_may_use_the_cache_it_was_dropped_from():
    lru = Lru(max_entries=2, max_bytes=2_000)

    class Last:
        def __del__(self):
            held = lru.keys()
            seen.append(
                lru.num_bytes
                == sum(lru._sizes[lru._tables[hash(key) % NUM_TABLES][key]] for key in held)
            )
            lru.put("from the end", 1, 1, 0.0)

    seen = []
    for key in "abc":
        lru.put(key, Last(), 100, 0.0)
    lru.put("c", 1, 1, 0.0)
    lru.remove("c", 0.0)
    assert seen == [True] * 3
    assert lru.num_bytes == len(lru) * (ENTRY_BYTES + 1)
    assert lru.insertions == lru.evictions + lru.removals + len(lru)


def test_absence_is_found_as_such_and_never_stale():
    lru = Lru(max_entries=2)
    lru.put("k", ABSENT, 0, 0.0, ttl_s=1.0, stale_s=100.0)
    assert lru.look("k", 0.5) == (State.ABSENT, None)
    assert lru.look("k", 1.0) == (State.MISS, None)
    assert (lru.hits, lru.negative_hits, lru.misses) == (1, 1, 1)


def test_the_hit_rate_counts_fresh_and_stale():
    lru = Lru(max_entries=2)
    assert lru.statistics().hit_rate == 0.0
    lru.put("k", b"", size_of(b""), 0.0, ttl_s=1.0, stale_s=1.0)
    states = [lru.look("k", now)[0] for now in (0.5, 1.5, 2.5, 2.6)]
    assert states == [State.FRESH, State.STALE, State.MISS, State.MISS]
    assert lru.statistics().hit_rate == 0.5


def test_a_scan_brings_what_is_held_all_the_time_exactly_once():
    lru = Lru(max_entries=10_000)
    for number in range(5_000):
        lru.put(number, b"", 0, 0.0)
    kept = set(range(0, 5_000, 2))
    found, cursor, fresh = [], 0, 10_000
    while True:
        keys, cursor = lru.scan(cursor, 100)
        assert len(keys) <= 100
        found += keys
        if not cursor:
            break
        for _ in range(20):
            lru.remove(fresh % 5_000 | 1, 0.0)
            lru.put(fresh, b"", 0, 0.0)
            lru.put(fresh * 2 % 5_000, b"new", 0, 0.0)
            fresh += 1
    assert len(found) == len(set(found))
    assert kept <= set(found)


def test_the_newest_keys_are_what_was_used_last():
    lru = Lru(max_entries=10)
    for number in range(10):
        lru.put(number, b"", 0, 0.0)
    lru.hit(3, 0.0, None)
    assert lru.newest_keys(3) == [3, 9, 8]
    assert len(lru.newest_keys(100)) == 10


def test_what_is_made_stale_is_stale_for_its_window_and_not_longer_than_it_would_have_lived():
    lru = Lru(max_entries=10)
    lru.put("long", 1, 0, 0.0, ttl_s=100.0)
    lru.put("short", 2, 0, 0.0, ttl_s=2.0, stale_s=2.0)
    lru.put("absent", ABSENT, 0, 0.0)
    assert [lru.make_stale(key, 1.0, 10.0) for key in ("long", "short", "absent", "no")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert lru.deadlines("long") == (1.0, 11.0)
    assert lru.deadlines("short") == (1.0, 4.0)
    assert lru.deadlines("absent") is None
    assert lru.look("long", 10.9) == (State.STALE, 1)
    assert lru.sweep(11.0 + 10 / 64) == 1
    assert (len(lru), lru.expirations, lru.removals) == (0, 2, 1)


def test_lives_that_alternate_leave_bounded_references_behind():
    """An earlier death leaves a reference in the bucket of the later one; ten keys must not collect them without end."""
    lru = Lru(max_entries=10)
    now = 0.0
    for step in range(20_000):
        now += 0.01
        lru.put(step % 10, b"", 0, now, ttl_s=1e6 if step // 10 % 2 else 0.05)
    wheel = lru._wheel
    num_references = sum(map(len, wheel._buckets.values()))
    assert num_references <= 3 * len(wheel.dues)
    assert lru.look(3, now + 2e6)[0] is State.MISS


def test_keys_with_a_common_factor_spread_over_the_tables():
    lru = Lru(max_entries=100_000)
    for number in range(10_000):
        lru.put(number << 22, b"", 0, 0.0)
    assert max(map(len, lru._tables)) < 2 * 10_000 / NUM_TABLES


def test_the_end_of_a_value_may_use_the_cache_while_it_is_cleared():
    lru = Lru(max_entries=100)

    class Last:
        def __del__(self):
            lru.put(len(lru), "from the end", 1, 0.0)

    for number in range(50):
        lru.put(number, Last(), 100, 0.0)
    assert lru.clear() == 50
    assert lru.keys() == list(range(50))
    assert lru.num_bytes == 50 * (ENTRY_BYTES + 1)


def test_renew_replaces_a_value_and_makes_it_the_newest():
    lru = Lru(max_entries=2)
    lru.put("a", 1, 10, now=0.0)
    lru.put("b", 2, 10, now=0.0)
    assert lru.renew("a", 3, 30)
    assert lru.num_bytes == 2 * ENTRY_BYTES + 40
    lru.put("c", 4, 10, now=0.0)
    assert lru.keys() == ["a", "c"]
    assert lru.look("a", 0.0) == (State.FRESH, 3)


@pytest.mark.parametrize(
    ("prepare", "size"),
    [
        (lambda lru: lru.remove("a", 0.0), 10),
        (lambda lru: lru.put("a", 1, 10, 0.0, ttl_s=5.0), 10),
        (lambda lru: lru.put("a", 1, 10, 0.0, tags=["red"]), 10),
        (lambda _lru: None, 1000),
    ],
    ids=["not there", "with a lifetime", "with tags", "too large"],
)
def test_renew_leaves_to_put_what_is_not_plain(prepare, size):
    lru = Lru(max_bytes=1000)
    lru.put("a", 1, 10, now=0.0)
    prepare(lru)
    before = lru.statistics(), lru.keys(), lru.peek("a", 0.0)
    assert not lru.renew("a", 2, size)
    assert (lru.statistics(), lru.keys(), lru.peek("a", 0.0)) == before
