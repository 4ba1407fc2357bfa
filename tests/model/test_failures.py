"""After a failure the next attempt waits, longer each time, and one success forgets it all."""

import pytest

from syncd.model.failures import MAX_FAILURES, Backoff, Failures


def test_the_wait_doubles_up_to_the_longest():
    failures = Failures(Backoff(1.0, 5.0), lambda: 0.0)
    waits = [failures.add("k", OSError(), 100.0).retry_at - 100.0 for _ in range(6)]
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    for _ in range(2_000):
        failures.add("k", OSError(), 100.0)
    assert failures.find("k", 104.9).num_in_row == 2_006


def test_chance_takes_up_to_a_half_of_the_wait():
    failures = Failures(Backoff(1.0, 5.0), lambda: 0.999)
    assert 0.5 < failures.add("k", OSError(), 0.0).retry_at < 0.51


def test_an_attempt_is_forbidden_until_its_time():
    failures = Failures(Backoff(1.0, 5.0), lambda: 0.0)
    error = OSError("down")
    failures.add("k", error, 0.0)
    assert failures.find("k", 0.999).error is error
    assert failures.find("k", 1.0) is None
    assert failures.find("other", 0.0) is None


def test_a_success_forgets_the_row():
    failures = Failures(Backoff(1.0, 5.0), lambda: 0.0)
    for _ in range(3):
        failures.add("k", OSError(), 0.0)
    failures.forget("k")
    assert failures.find("k", 0.0) is None
    assert failures.add("k", OSError(), 0.0).num_in_row == 1
    failures.clear()
    assert len(failures) == 0


def test_only_the_latest_so_many_are_remembered():
    failures = Failures(Backoff(1.0, 5.0), lambda: 0.0)
    for key in range(MAX_FAILURES + 10):
        failures.add(key, OSError(), 0.0)
        failures.add(0, OSError(), 0.0)
    assert len(failures) == MAX_FAILURES
    assert failures.find(0, 0.0) is not None, "it failed again and again"
    assert failures.find(1, 0.0) is None


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_a_backoff_that_would_not_wait_is_an_error(wrong):
    with pytest.raises(ValueError, match="backoff"):
        Backoff(*wrong)
