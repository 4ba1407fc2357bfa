"""However a call is written, it has one key; different calls have different ones."""

import inspect

import pytest

from syncd.cache.keys import key_maker


def plain(a, b=2, *, c=3):
    return a, b, c


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1,), {}),
        ((1, 2), {}),
        ((1,), {"b": 2}),
        ((), {"a": 1}),
        ((1,), {"c": 3}),
        ((), {"c": 3, "b": 2, "a": 1}),
    ],
)
def test_one_call_has_one_key(args, kwargs):
    assert key_maker(plain)(*args, **kwargs) == (1, 2, 3)


def test_a_lone_plain_argument_is_its_own_key():
    key = key_maker(lambda x: x)
    assert [key("a"), key(7), key(b"b"), key(x="a")] == ["a", 7, b"b", "a"]
    assert [key(1.5), key((1, 2)), key(None)] == [(1.5,), ((1, 2),), (None,)]
    assert key(True) != key(1)
    with_default = key_maker(lambda x="a": x)
    assert with_default() == with_default("a") == "a"


def test_variable_arguments_are_all_in_the_key():
    def variable(*args, flag=False, **more):
        return args, flag, more

    key = key_maker(variable)
    assert key(1, x=1, y=2) == key(1, y=2, x=1, flag=False)
    assert len({key(1), key(1, 2), key(1, flag=True), key(1, z=3)}) == 4


def test_a_function_without_arguments_has_one_key():
    key = key_maker(lambda: 1)
    assert key() == ()


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"d": 1}), ((1,), {"a": 1})]
)
def test_a_call_that_cannot_be_is_a_type_error(args, kwargs):
    with pytest.raises(TypeError):
        key_maker(plain)(*args, **kwargs)


def test_a_function_that_does_not_tell_its_arguments_is_keyed_as_called():
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(max)
    key = key_maker(max)
    assert key(1, 2) == key(1, 2) != key(2, 1)
    assert key([], key=1) == (([],), (("key", 1),))
