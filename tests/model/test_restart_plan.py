"""A process that ends is started again, later each time, and given up when it never lasts."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.model.restart_plan import MAX_QUICK_ENDS, STEADY_S, RestartPlan


def test_waits_grow_and_end_in_giving_up():
    plan = RestartPlan()
    waits = [plan.ended(0.5) for _ in range(MAX_QUICK_ENDS + 1)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, None]


def test_who_has_lasted_starts_over():
    plan = RestartPlan()
    for _ in range(3):
        for _ in range(MAX_QUICK_ENDS - 1):
            assert plan.ended(1.0) is not None
        assert plan.ended(STEADY_S) == 0.1


@given(st.lists(st.floats(0, 3 * STEADY_S), max_size=60))
def test_it_gives_up_only_after_a_row_of_quick_ends(lasted):
    plan, row = RestartPlan(), 0
    for each in lasted:
        row = 1 if each >= STEADY_S else row + 1
        assert (plan.ended(each) is None) == (row > MAX_QUICK_ENDS)
    assert plan.num_ends == len(lasted)


def test_who_finds_the_store_away_is_tried_again_for_as_long_as_that_takes():
    plan = RestartPlan()
    waits = [plan.found_store_away() for _ in range(2000)]
    assert waits[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(waits[6:]) == {5.0}
    assert plan.num_ends == 2000


def test_an_end_for_another_reason_counts_as_ever_and_lets_the_next_wait_be_short():
    plan = RestartPlan()
    for _ in range(MAX_QUICK_ENDS):
        plan.found_store_away()
        assert plan.ended(0.5) is not None
    assert plan.found_store_away() == 0.1
    assert plan.ended(0.5) is None
