"""A histogram counts what it was given, each observation at every bound that is not below it."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.model.histogram import Histogram

VALUES = st.lists(st.integers(-5, 25).map(float))
BOUNDS = (0.0, 1.0, 5.0, 20.0)


@given(VALUES)
def test_every_bound_counts_what_is_not_above_it(values):
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    counts = histogram.counts()
    expected = tuple(sum(value <= bound for value in values) for bound in BOUNDS)
    assert (counts.cumulative, counts.count, counts.total) == (expected, len(values), sum(values))
