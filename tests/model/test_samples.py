"""What a node counted becomes a row of numbers a second, and the newest ten minutes are kept."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import ChannelName, Epoch
from syncd.model.channel_rates import ChannelRates
from syncd.model.samples import Counts, Samples
from syncd.ports import ChannelInfo


def counts(at_s, *, gauges=None, counters=None, means=None):
    return Counts(
        at_ms=int(at_s * 1000),
        at_s=at_s,
        gauges=gauges or {},
        counters=counters or {},
        means=means or {},
    )


def test_a_counter_is_told_as_a_rate_over_the_time_that_really_passed():
    samples = Samples()
    assert samples.take(counts(10.0, counters={"messages_in": 500}))["messages_in_per_s"] == 0.0
    assert samples.take(counts(12.5, counters={"messages_in": 750}))["messages_in_per_s"] == 100.0


def test_a_counter_that_begins_anew_is_not_told_as_a_negative_rate():
    samples = Samples()
    samples.take(counts(1.0, counters={"published": 1000}))
    assert samples.take(counts(2.0, counters={"published": 3}))["published_per_s"] == 3.0


def test_a_mean_is_of_what_came_since_the_last_sample_and_nothing_when_nothing_came():
    samples = Samples()
    samples.take(counts(1.0, means={"commit_ms": (100.0, 10)}))
    assert samples.take(counts(2.0, means={"commit_ms": (130.0, 12)}))["commit_ms"] == 15.0
    assert samples.take(counts(3.0, means={"commit_ms": (130.0, 12)}))["commit_ms"] is None


def test_gauges_are_told_as_they_are():
    sample = Samples().take(counts(1.0, gauges={"connections": 7, "publish_ms": None}))
    assert sample == {"at_ms": 1000, "connections": 7, "publish_ms": None}


def test_two_samples_at_one_moment_divide_by_nothing():
    samples = Samples()
    samples.take(counts(1.0, counters={"errors": 1}))
    assert samples.take(counts(1.0, counters={"errors": 2}))["errors_per_s"] == 0.0


def test_the_ring_keeps_the_newest_as_columns_of_one_length():
    samples = Samples(size=3)
    assert (samples.columns(), samples.latest) == ({}, None)
    for second in range(5):
        samples.take(counts(float(second), gauges={"connections": second}))
    assert samples.columns() == {"at_ms": [2000, 3000, 4000], "connections": [2, 3, 4]}
    assert samples.latest == {"at_ms": 4000, "connections": 4}


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50), st.floats(0.1, 10))
def test_rates_times_time_add_up_to_what_was_counted(steps, period_s):
    samples, total = Samples(), 0
    samples.take(counts(0.0, counters={"deliveries": 0}))
    told = 0.0
    for number, step in enumerate(steps, 1):
        total += step
        sample = samples.take(counts(number * period_s, counters={"deliveries": total}))
        told += sample["deliveries_per_s"] * period_s
    assert abs(told - total) <= 0.001 * period_s * len(steps)


def info(name, num_events, epoch="e1"):
    return ChannelInfo(ChannelName(name), 1, Epoch(epoch), num_events, num_events)


def looked_at(*infos):
    return {each.channel: each for each in infos}


def test_a_channels_rate_is_what_it_gained_between_two_looks():
    rates = ChannelRates()
    assert rates.rates(looked_at(info("demo:a", 10)), 5.0) == {"demo:a": None}
    found = rates.rates(looked_at(info("demo:a", 30), info("demo:b", 99)), 15.0)
    assert found == {"demo:a": 2.0, "demo:b": None}


def test_a_channel_in_a_new_epoch_has_no_rate_yet():
    rates = ChannelRates()
    rates.rates(looked_at(info("demo:a", 10)), 1.0)
    assert rates.rates(looked_at(info("demo:a", 500, "e2")), 2.0) == {"demo:a": None}
    assert rates.rates(looked_at(info("demo:a", 503, "e2")), 3.0) == {"demo:a": 3.0}
