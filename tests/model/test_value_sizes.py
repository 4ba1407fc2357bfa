"""Sizes are exact where they can be, near the truth elsewhere, and cheap everywhere."""

import enum
import sys
import tracemalloc
from collections import deque

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.model.value_sizes import size_of


@given(st.one_of(st.binary(), st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_plain_values_are_exact(value):
    assert size_of(value) == sys.getsizeof(value)


class Colour(enum.Enum):
    RED = 1


@attrs.define
class Slotted:
    name: str
    more: object = None


class Hidden:
    __slots__ = ("__data",)

    def __init__(self, data):
        self.__data = data


class Open:
    def __init__(self, data):
        self.data = data


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [bytes(100 + i % 7) for i in range(n)],
        lambda n: {f"key {i}": i * 1_000_000 for i in range(n)},
        lambda n: [{"id": i + 1000, "name": f"name {i}", "tags": [f"t{i}"]} for i in range(n)],
        lambda n: {f"member {i}" for i in range(n)},
        lambda n: deque(f"item {i}" for i in range(n)),
        lambda n: [Slotted(f"name {i}", [f"more {i}"]) for i in range(n)],
        lambda n: [Open(f"data {i}") for i in range(n)],
        lambda n: [Hidden(bytes(1000 + i % 2)) for i in range(n)],
    ],
)
@pytest.mark.parametrize("num_items", [300, 1_000])
def test_containers_and_objects_are_near_what_they_really_take(make, num_items):
    tracemalloc.start()
    value = make(num_items)
    took = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.7 * took - 200 <= size_of(value) <= 1.4 * took + 200


def test_what_is_met_twice_counts_once():
    big = bytes(100_000)
    assert size_of([big, big, {"again": big}]) < 101_000


def test_a_circle_ends():
    circle = [1]
    circle.append(circle)
    assert size_of(circle) < 1_000


def test_what_others_hold_too_is_free():
    assert size_of([Colour.RED, Slotted, size_of, sys]) == sys.getsizeof([1, 2, 3, 4])


def test_views_count_what_they_show():
    assert size_of(memoryview(bytes(5000))) > 5000
    assert size_of(bytearray(5000)) > 5000


def test_a_wrong_sizeof_is_no_harm():
    class Wrong:
        def __sizeof__(self):
            return "large"

    assert size_of(Wrong()) > 0


def test_deep_and_wide_values_are_looked_at_within_bounds():
    looked = 0

    class Counting:
        def __sizeof__(self):
            nonlocal looked
            looked += 1
            return 50

    wide = [[[Counting() for _ in range(50)] for _ in range(50)] for _ in range(50)]
    assert 0.5 * 125_000 * 50 < size_of(wide) < 5 * 125_000 * 50
    assert looked < 2_001
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert size_of(deep) > 100_000
