"""The gate of `make bench`: a ratio a fifth worse than the median of recorded runs is found, noise and other machines are not."""

import json

import pytest

from bench.history import History, best_of, read_history
from bench.report import Row, save

FACTS = {"cpu": "AMD EPYC", "cores": 2, "python": "3.11.7", "plan": "quick", "nice": -15}


def row(value, figure="syncd memory, 1 outstanding", unit="x floor", *, is_minimum=False):
    return Row("fanout-1k", figure, value, unit, limit=9.0, is_minimum=is_minimum)


def record(value, **facts):
    return {**FACTS, **facts, "figures": [vars(row(value))]}


def worse(value, records, **options):
    return [each.value for each in History(records, FACTS).worse([row(value, **options)])]


RUNS = [record(value) for value in (1.0, 1.1, 0.9, 5.0)]
"""One of four was measured while somebody else had the machine: the median is 1.05."""


@pytest.mark.parametrize("value", [0.5, 1.05, 1.25])
def test_within_a_fifth_of_the_median_all_is_well(value):
    assert worse(value, RUNS) == []


def test_more_than_a_fifth_worse_is_told_with_the_median():
    (found,) = History(RUNS, FACTS).worse([row(1.27)])
    assert (found.value, found.median, found.num_runs) == (1.27, 1.05, 4)
    assert "fanout-1k: syncd memory, 1 outstanding is 1.27" in found.text()


def test_a_ratio_that_must_be_high_is_worse_when_it_is_low():
    assert worse(0.87, RUNS, is_minimum=True) == [0.87]
    assert worse(0.88, RUNS, is_minimum=True) == []


@pytest.mark.parametrize(
    "facts",
    [{"cpu": "Intel"}, {"cores": 8}, {"python": "3.13.1"}, {"plan": "full"}, {"is_worse": True}],
    ids=lambda facts: next(iter(facts)),
)
def test_runs_of_other_machines_plans_and_failed_ones_are_no_history(facts):
    assert worse(9.0, [record(1.0, **facts)] * 5) == []
    assert worse(9.0, [record(1.0, **facts)] * 5 + [record(1.0)] * 3) == [9.0]


def test_another_patch_release_of_python_is_the_same_class():
    assert worse(9.0, [record(1.0, python="3.11.2")] * 3) == [9.0]


def test_two_runs_are_no_history():
    assert worse(9.0, [record(1.0)] * 2) == []


def test_only_the_last_nine_count():
    assert worse(1.5, [record(9.0)] * 50 + [record(1.0)] * 9) == [1.5]


@pytest.mark.parametrize(
    "options",
    [{"unit": "ms"}, {"unit": "/s"}, {"figure": "floor in groups"}, {"figure": "websockets, 1"}],
    ids=lambda options: next(iter(options.values())),
)
def test_absolute_values_floors_and_rivals_are_not_compared(options):
    other = row(1.0, **options)
    records = [{**FACTS, "figures": [vars(other)]}] * 5
    assert History(records, FACTS).worse([row(9.0, **options)]) == []


def test_the_best_of_all_measurements_counts():
    first = [row(9.0), row(0.1, "high", is_minimum=True), row(7.0, unit="ms")]
    again = [row(1.0), row(0.9, "high", is_minimum=True), row(1.0, unit="ms")]
    assert [each.value for each in best_of(first, again)] == [1.0, 0.9, 7.0]
    assert [each.value for each in best_of(again, first)] == [1.0, 0.9, 1.0]
    assert [each.value for each in best_of(first, [])] == [9.0, 0.1, 7.0]


def test_what_was_saved_is_history(tmp_path):
    for value in (1.0, 1.1, 1.2):
        save([row(value)], FACTS, tmp_path)
    assert read_history(tmp_path, FACTS).num_runs == 3
    (found,) = read_history(tmp_path, FACTS).worse([row(1.4)])
    assert found.median == 1.1
    assert all(json.loads(path.read_text())["figures"] for path in tmp_path.glob("*.json"))
