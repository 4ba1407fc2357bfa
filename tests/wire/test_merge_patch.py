"""Merge patches: what is found is what has to be applied, and what cannot be said is not said wrongly."""

import copy

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.wire.merge_patch import OVERHEAD_BYTES, apply_patch, find_patch, patch_if_smaller

_names = st.sampled_from("abcd")
_leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 1.5])
    | st.sampled_from(["", "x"])
    | st.binary(max_size=1)
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)
_maps = st.dictionaries(_names, _values, max_size=4)


def exact(value):
    """A form in which values are equal only if every type, sign and nesting is."""
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return (type(value), repr(value))


def has_null(value):
    """Whether a map within maps holds a null."""
    return isinstance(value, dict) and any(v is None or has_null(v) for v in value.values())


@given(_maps, _maps)
def test_the_patch_between_two_maps_makes_one_of_the_other(base, new):
    patch = find_patch(base, new)
    if patch is None:
        assert has_null(new)
    else:
        assert exact(apply_patch(base, patch)) == exact(new)


@given(_values, _values)
def test_what_is_no_map_is_told_whole(base, new):
    if not (isinstance(base, dict) and isinstance(new, dict)):
        assert find_patch(base, new) is None


@given(_maps)
def test_nothing_changed_is_the_empty_patch(value):
    assert find_patch(value, copy.deepcopy(value)) == {}


@given(_maps, _maps)
def test_a_patch_on_what_has_no_nulls_is_always_found(base, new):
    if not has_null(new):
        assert find_patch(base, new) is not None


@given(_values, _values)
def test_neither_argument_changes(base, new):
    before = (copy.deepcopy(base), copy.deepcopy(new))
    find_patch(base, new)
    apply_patch(base, new)
    assert exact([base, new]) == exact([*before])


@given(_values, _values)
def test_applying_twice_is_applying_once(base, patch):
    once = apply_patch(base, patch)
    assert exact(apply_patch(once, patch)) == exact(once)


@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_the_examples_of_rfc_7386(base, patch, result):
    assert apply_patch(base, patch) == result


@pytest.mark.parametrize(
    "new", [{"a": None}, {"a": {"b": None}}, {"a": {"b": 1, "c": {"d": None}}}]
)
def test_a_null_cannot_be_written_by_a_patch(new):
    assert find_patch({"a": 1}, new) is None


def test_a_null_that_stays_or_lies_in_a_list_is_no_hindrance():
    assert find_patch({"a": None, "b": 1}, {"a": None, "b": 2}) == {"b": 2}
    assert find_patch({"a": 1}, {"a": [None, {"b": None}]}) == {"a": [None, {"b": None}]}


def test_a_patch_is_taken_only_where_it_saves_bytes():
    text = "x" * 100
    base, new = {"text": text, "n": 1}, {"text": text, "n": 2}
    size = len(msgpack.packb(new))
    patch = patch_if_smaller(base, new, size)
    assert msgpack.unpackb(patch) == {"n": 2}
    assert patch_if_smaller(base, new, len(patch) + OVERHEAD_BYTES) is None
    assert patch_if_smaller(base, new, len(patch) + OVERHEAD_BYTES + 1) == patch
    assert patch_if_smaller(text, new, size) is None
