"""The token bucket against the textbook one, and its edges."""

import math
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.model.rate_limit import RateLimit, TokenBucket


def test_a_full_bucket_gives_its_burst_and_no_more():
    bucket = TokenBucket(rate_per_s=1000, burst=2000)
    assert all(bucket.take(1, 100.0) for _ in range(2000))
    assert not bucket.take(1, 100.0)


def test_tokens_come_back_at_the_rate():
    bucket = TokenBucket(rate_per_s=10, burst=5)
    assert bucket.take(5, 0.0)
    assert not bucket.take(1, 0.09)
    assert bucket.take(1, 0.1)
    assert not bucket.take(1, 0.1)


def test_a_refusal_costs_nothing():
    bucket = TokenBucket(rate_per_s=10, burst=5)
    assert not any(bucket.take(6, 0.0) for _ in range(100))
    assert bucket.take(5, 0.0)


def test_waiting_as_long_as_told_is_enough_and_less_is_not():
    bucket = TokenBucket(rate_per_s=4, burst=2)
    bucket.take(2, 10.0)
    wait_s = bucket.wait_s(1, 10.0)
    assert wait_s == pytest.approx(0.25)
    assert not bucket.take(1, 10.0 + wait_s - 0.01)
    assert bucket.wait_s(1, 10.0 + wait_s) == 0
    assert bucket.take(1, 10.0 + wait_s)


def test_more_than_the_burst_is_never_given():
    assert TokenBucket(1, 2).wait_s(3, 0.0) == math.inf


def test_a_long_pause_fills_no_more_than_the_burst():
    bucket = TokenBucket(rate_per_s=1, burst=3)
    assert bucket.take(3, 1_000_000.0)
    assert not bucket.take(1, 1_000_000.0)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1), (math.nan, 1)])
def test_a_rate_or_burst_of_nothing_is_refused(rate, burst):
    with pytest.raises(ValueError, match="above 0"):
        RateLimit(rate, burst)


def test_the_state_in_a_connection_is_one_float():
    limit = RateLimit(10, 2)
    state = limit.spend(0.0, 2, 5.0)
    assert isinstance(state, float)
    assert limit.spend(state, 1, 5.0) == -1.0
    assert limit.wait_s(state, 1, 5.0) == pytest.approx(0.1)
    assert sys.getsizeof(TokenBucket(1, 1)) <= 64


class Textbook:
    """Counts tokens, as the books have it; exact, because in fractions."""

    def __init__(self, rate, burst):
        self.rate, self.burst, self.tokens, self.at = rate, burst, Fraction(burst), Fraction(0)

    def take(self, n, now):
        self.tokens = min(Fraction(self.burst), self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < n:
            return False
        self.tokens -= n
        return True


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10)), max_size=60),
)
@settings(max_examples=300)
def test_it_decides_as_the_textbook_bucket_does(rate, burst, steps):
    bucket, model, now = TokenBucket(rate, burst), Textbook(rate, burst), Fraction(0)
    for pause, n in steps:
        now += Fraction(pause, 8 * rate)
        assert bucket.take(n, float(now)) == model.take(n, now)
