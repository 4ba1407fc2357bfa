"""The head of a channel moves over an offset only when everything up to it was seen, in whatever order that came."""

from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import ChannelName, Epoch, Position
from syncd.model import heads as heads_module
from syncd.model.heads import Heads, SharedHeads

ORDERS = ChannelName("orders")
LIFE = Epoch("e1")


def at(offset, epoch=LIFE):
    return Position(epoch, offset)


@given(start=st.integers(0, 5), seen=st.lists(st.integers(1, 30), max_size=60))
def test_the_head_is_where_the_first_gap_begins(start, seen):
    heads = SharedHeads()
    heads.read(ORDERS, at(start))
    known = set(range(start + 1))
    for offset in seen:
        assert not heads.note(ORDERS, at(offset))
        known.add(offset)
        expected = start
        while expected + 1 in known:
            expected += 1
        assert heads.get(ORDERS) == at(expected)
        assert bool(heads.gaps()) == any(each > expected for each in known)


def test_reading_the_store_does_not_move_a_head_that_is_known():
    heads = SharedHeads()
    assert not heads.read(ORDERS, at(4))
    assert not heads.read(ORDERS, at(9))
    assert heads.get(ORDERS) == at(4)


def test_with_a_store_of_ones_own_what_was_read_is_what_memory_is_as_of():
    heads = Heads()
    heads.read(ORDERS, at(4))
    heads.note(ORDERS, at(9))
    heads.note(ORDERS, at(7))
    assert heads.get(ORDERS) == at(9)
    assert heads.gaps() == []


def test_another_life_of_a_channel_is_told_so_that_memory_goes():
    heads = SharedHeads()
    heads.read(ORDERS, at(4))
    heads.note(ORDERS, at(8))
    assert heads.read(ORDERS, at(2, Epoch("e2")))
    assert heads.get(ORDERS) == at(2, Epoch("e2"))
    assert heads.gaps() == []
    assert heads.note(ORDERS, at(1, Epoch("e3")))
    assert heads.get(ORDERS) == at(1, Epoch("e3"))


def test_a_channel_that_is_held_no_more_has_no_head():
    heads = SharedHeads()
    heads.read(ORDERS, at(4))
    heads.note(ORDERS, at(8))
    heads.reset(ORDERS, None)
    assert heads.get(ORDERS) is None
    assert heads.known() == {}
    assert heads.gaps() == []


def test_what_is_kept_beyond_a_gap_is_bounded(monkeypatch):
    monkeypatch.setattr(heads_module, "MAX_AHEAD", 3)
    heads = SharedHeads()
    heads.read(ORDERS, at(0))
    for offset in range(2, 10):
        heads.note(ORDERS, at(offset))
    heads.note(ORDERS, at(1))
    assert heads.get(ORDERS) == at(4)


def test_the_newest_that_is_known_may_lie_beyond_a_gap():
    heads = SharedHeads()
    assert heads.newest(ORDERS) == 0
    heads.note(ORDERS, at(5))
    heads.note(ORDERS, at(9))
    heads.note(ORDERS, at(7))
    assert heads.newest(ORDERS) == 9
    for offset in (6, 8):
        heads.note(ORDERS, at(offset))
    assert heads.newest(ORDERS) == 9
