"""The checker of collections finds every kind of broken promise; otherwise no test that rests on it means anything."""

import pytest

from syncd.testing.counter_history import CounterHistory, Decided, WatchedCounters
from tests.cluster.faults import NODE_KINDS, REDIS_KINDS, make_plan

E, F = "e", "f"


def decided(client="a", mid=1, key="k", value=1, epoch=E, offset=1):
    return Decided(client, mid, key, value, epoch, offset)


def history(*outcomes, may_lose=False):
    made = CounterHistory("counters", may_lose)
    for told in outcomes:
        made.decided(told)
    return made


def entry(key="k", version=1, value=1):
    return {"key": key, "version": version, "value": value}


def watched(offset, *entries, epoch=E, recovered=False, more=False):
    position = {"epoch": epoch, "offset": offset}
    return {"position": position, "recovered": recovered, "entries": entries, "more": more}


def event(offset, value, key="k", epoch=E):
    return {"epoch": epoch, "offset": offset, "key": key, "data": {"value": value}}


def view(*steps, may_lose=False):
    made = WatchedCounters(history(may_lose=may_lose), "w")
    for kind, body in steps:
        if kind == "disconnected":
            made.disconnected()
        else:
            getattr(made, kind)(body)
    return made


TWO = (decided(), decided(client="b", value=2, offset=2))


def test_a_sound_history_has_no_violations():
    made = history(*TWO, TWO[1])
    made.read("a", made.known("a"), E, entry())
    made.read("a", made.known("a"), E, entry(version=2, value=2))
    assert not made.welcomed("a", 1, 1, 2)
    made.check_entries(E, {"k": (2, 2)})
    assert made.violations == []


BROKEN_OUTCOMES = {
    "two mutations, one sum": [decided(), decided(client="b", offset=2)],
    "two mutations, one place": [decided(), decided(client="b", value=2)],
    "a mutation took effect twice": [decided(), decided(value=2, offset=2)],
}


@pytest.mark.parametrize("outcomes", BROKEN_OUTCOMES.values(), ids=BROKEN_OUTCOMES)
def test_it_finds_broken_outcomes(outcomes):
    assert history(*outcomes).violations != []


BROKEN_ENDS = {
    "an acknowledged one is missing": {"k": (1, 1)},
    "one counts that nobody made": {"k": (3, 3)},
    "the last one has another version": {"k": (9, 2)},
}


@pytest.mark.parametrize("entries", BROKEN_ENDS.values(), ids=BROKEN_ENDS)
def test_it_finds_a_broken_end(entries):
    made = history(*TWO)
    made.check_entries(E, entries)
    assert made.violations != []


def test_it_finds_an_old_value_read_after_an_acknowledgement():
    made = history(*TWO)
    made.read("b", made.known("b"), E, entry())
    assert made.violations != []
    made = history(*TWO)
    made.read("b", {}, E, entry())
    assert made.violations == [], "it was asked before"


def test_it_finds_two_values_of_one_version():
    made = history(*TWO)
    made.read("c", {}, E, entry(version=2, value=7))
    assert made.violations != []


def test_it_finds_versions_out_of_step_with_sums():
    made = history(decided(offset=2), decided(client="b", value=2, offset=1))
    made.check_entries(E, {"k": (1, 2)})
    assert made.violations != []


def test_it_finds_another_epoch_and_forgotten_clients_unless_they_may_be():
    for may_lose in (False, True):
        made = history(*TWO, may_lose=may_lose)
        made.read("a", made.known("a"), F, entry(version=1, value=1))
        assert bool(made.violations) is not may_lose
        made = history(*TWO, may_lose=may_lose)
        assert made.welcomed("a", 0, 1, 1)
        assert bool(made.violations) is not may_lose
        made = history(*TWO, decided(client="c", value=1, epoch=F), may_lose=may_lose)
        made.check_entries(F, {"k": (1, 1)})
        assert bool(made.violations) is not may_lose


def test_offsets_that_are_used_again_are_a_breach_even_where_work_may_be_lost():
    made = history(*TWO, may_lose=True)
    made.lost("a")
    made.decided(decided(client="a", value=3, offset=2))
    assert made.violations != []


def test_it_finds_a_client_that_was_told_of_mutations_it_never_made():
    made = history(may_lose=True)
    made.welcomed("a", 3, 0, 2)
    assert made.violations != []


def test_a_sound_view_has_no_violations():
    made = view(
        ("watched", watched(1, entry())),
        ("event", event(2, 2)),
        ("disconnected", None),
        ("watched", watched(2, recovered=True)),
        ("event", event(3, 3)),
        ("mark", {"position": {"epoch": E, "offset": 4}}),
    )
    assert made.history.violations == []
    assert (made.entries, made.offset) == ({"k": (3, 3)}, 4)


def test_a_snapshot_in_pages_counts_once_it_is_whole():
    made = view(
        ("watched", watched(1, entry(), more=True)),
        ("event", event(2, 2)),
        ("snapshot", {"entries": [entry("l", 1, 1)], "more": False}),
    )
    assert made.history.violations == []
    assert made.entries == {"k": (2, 2), "l": (1, 1)}
    assert (
        view(("watched", watched(1, entry(), more=True)), ("disconnected", None)).position() is None
    )


START = ("watched", watched(1, entry()))
BROKEN_VIEWS = {
    "a gap": [START, ("event", event(3, 3))],
    "a sum that goes back": [START, ("event", event(2, 1))],
    "an event of another epoch": [START, ("event", event(2, 2, epoch=F))],
    "a mark of another epoch": [START, ("mark", {"position": {"epoch": F, "offset": 2}})],
    "recovered into another epoch": [START, ("watched", watched(1, epoch=F, recovered=True))],
    "another epoch": [START, ("watched", watched(1, entry(), epoch=F))],
    "a snapshot behind": [START, ("event", event(2, 2)), ("watched", watched(1, entry()))],
    "a snapshot that lacks something": [START, ("watched", watched(2))],
}


@pytest.mark.parametrize("steps", BROKEN_VIEWS.values(), ids=BROKEN_VIEWS)
def test_it_finds_a_broken_view(steps):
    assert view(*steps).history.violations != []


def test_a_plan_is_the_same_for_the_same_seed_and_has_every_kind():
    kinds = NODE_KINDS + REDIS_KINDS
    plan = make_plan(3, 60, num_nodes=3, longest_s=4, kinds=kinds)
    assert plan == make_plan(3, 60, num_nodes=3, longest_s=4, kinds=kinds)
    assert plan != make_plan(4, 60, num_nodes=3, longest_s=4, kinds=kinds)
    assert {fault.kind for fault in plan} == set(kinds)
