"""Idempotency keys in memory: the first result stands until it is too old or too many came after it."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import Epoch
from syncd.model.recent_keys import Known, RecentKeys
from syncd.ports_log import IdempotencyKey

EPOCH = Epoch("0123456789abcdef")


def key(name="k", request=b"r", *, identity="user:a", operation="publish"):
    return IdempotencyKey(identity, operation, name, request)


def test_a_repetition_finds_the_first_result_and_another_request_a_mismatch():
    keys = RecentKeys(10, 60)
    assert keys.find(key(), 0) is None
    keys.add(key(), EPOCH, 7, 0)
    assert keys.find(key(), 59) == (EPOCH, 7)
    assert keys.find(key(request=b"other"), 59) is Known.MISMATCH


def test_keys_of_others_and_of_other_operations_are_other_keys():
    keys = RecentKeys(10, 60)
    keys.add(key(), EPOCH, 7, 0)
    assert keys.find(key(identity="user:b"), 1) is None
    assert keys.find(key(operation="mutate"), 1) is None
    assert keys.find(key("other"), 1) is None


def test_a_key_is_forgotten_at_its_time_even_before_anybody_tidies_up():
    keys = RecentKeys(10, 60)
    keys.add(key(), EPOCH, 7, 0)
    assert keys.find(key(), 60) is None
    assert keys.find(key(request=b"other"), 60) is None, "and may stand for something else"
    keys.add(key(request=b"other"), None, 0, 60)
    assert keys.find(key(request=b"other"), 61) == (None, 0)


def test_tidying_up_goes_in_bounded_steps_and_takes_only_what_is_too_old():
    keys = RecentKeys(100, 60)
    for number in range(10):
        keys.add(key(str(number)), EPOCH, number, number)
    keys.expire(65, max_steps=4)
    assert len(keys) == 6
    keys.expire(65)
    assert [keys.find(key(str(n)), 65) is None for n in range(10)] == [True] * 6 + [False] * 4


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), max_size=60))
def test_the_newest_so_many_are_kept(steps):
    keys, model, now = RecentKeys(4, 10), {}, 0
    for name, wait in steps:
        now += wait
        keys.add(key(str(name)), EPOCH, now, now)
        model.pop(name, None)
        model[name] = now
        model = dict(list(model.items())[-4:])
        keys.expire(now)
        model = {name: at for name, at in model.items() if at + 10 > now}
        assert len(keys) == len(model) <= 4
        for other in range(10):
            found = keys.find(key(str(other)), now)
            assert found == ((EPOCH, model[other]) if other in model else None)
