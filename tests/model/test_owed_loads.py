"""What is owed stays owed until it is paid, waits longer after each failure, and what finds no room costs its channel its sureness."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syncd.model import owed_loads
from syncd.model.owed_loads import OwedLoads

A, B = ("prices", "a"), ("prices", "b")


def test_what_is_invalidated_is_due_at_once_until_it_is_paid():
    owed = OwedLoads()
    owed.invalidated(A, 5.0)
    assert owed.due(5.0) == [A]
    assert owed.due(5.0) == [A]
    owed.paid(A)
    assert owed.due(5.0) == []


def test_each_failure_in_a_row_is_waited_out_longer_but_never_longer_than_half_a_minute():
    owed, now, waits = OwedLoads(), 0.0, []
    for _ in range(9):
        owed.failed(A, now, 0.0)
        wait_s = next(tenth / 10 for tenth in range(1000) if owed.due(now + tenth / 10))
        waits.append(wait_s)
        now += wait_s
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_the_wait_that_a_failure_asks_for_is_kept():
    owed = OwedLoads()
    owed.failed(A, 0.0, 7.0)
    assert owed.due(6.9) == []
    assert owed.due(7.0) == [A]


def test_a_new_invalidation_waits_for_nothing():
    owed = OwedLoads()
    for place in (A, B):
        for _ in range(5):
            owed.failed(place, 0.0, 0.0)
    owed.invalidated(A, 1.0)
    assert owed.due(1.0) == [A]
    owed.doubt_all(2.0)
    assert set(owed.due(2.0)) == {A, B}
    owed.failed(B, 2.0, 0.0)
    assert owed.due(2.5)[-1] == B, "the row begins anew"


def test_putting_off_what_is_owed_already_changes_nothing():
    owed = OwedLoads()
    owed.failed(A, 0.0, 7.0)
    owed.put_off(A, 1.0)
    assert owed.due(6.0) == []
    owed.put_off(B, 1.0)
    assert owed.due(6.0) == [B]


def test_all_that_is_owed_has_its_turn(monkeypatch):
    monkeypatch.setattr(owed_loads, "LOOKED_AT_ONCE", 10)
    owed = OwedLoads()
    places = [("prices", f"k{number}") for number in range(35)]
    for place in places:
        owed.invalidated(place, 0.0)
    looks = [owed.due(0.0) for _ in range(4)]
    assert [len(look) for look in looks] == [10] * 4
    assert {place for look in looks for place in look} == set(places)


def test_a_channel_is_sure_once_it_was_looked_through_and_nothing_came_between():
    owed = OwedLoads()
    assert not owed.is_sure("prices")
    owed.begin_walk("prices")
    assert owed.is_sure("prices"), "that is being seen to"
    owed.end_walk("prices", is_complete=True)
    assert owed.is_sure("prices")
    owed.doubt_all(0.0)
    assert not owed.is_sure("prices")
    owed.begin_walk("prices")
    owed.doubt("prices")
    assert not owed.is_sure("prices"), "what was looked at may be old again"
    owed.end_walk("prices", is_complete=True)
    assert not owed.is_sure("prices")
    owed.begin_walk("prices")
    owed.end_walk("prices", is_complete=False)
    assert not owed.is_sure("prices")


class Debts(RuleBasedStateMachine):
    """A small house: what was invalidated is owed, or of a channel that is not sure."""

    channels = ("x", "y", "z")
    places = st.tuples(st.sampled_from(channels), st.sampled_from("abc"))

    def __init__(self):
        super().__init__()
        self.was = owed_loads.MAX_OWED, owed_loads.MAX_SURE
        owed_loads.MAX_OWED, owed_loads.MAX_SURE = 4, 2
        self.owed, self.now = OwedLoads(), 0.0
        self.old = set()
        """Invalidated and not loaded since."""
        self.walks = {}
        """Channel to what was old when its walk began: that is owed when it comes by, or on its way."""

    def teardown(self):
        owed_loads.MAX_OWED, owed_loads.MAX_SURE = self.was

    def _has_aged(self, places):
        self.old |= places
        for seen in self.walks.values():
            seen.difference_update(places)

    @rule(place=places)
    def invalidate(self, place):
        self._has_aged({place})
        gone = self.owed.invalidated(place, self.now)
        assert gone is None or not self.owed.is_sure(gone)

    @rule()
    def invalidate_all(self):
        self._has_aged({(channel, key) for channel in self.channels for key in "abc"})
        self.owed.doubt_all(self.now)

    @rule(place=places)
    def load(self, place):
        self.old.discard(place)
        self.owed.paid(place)

    @rule(place=places, after_s=st.sampled_from((0.0, 3.0)))
    def fail(self, place, after_s):
        self._has_aged({place})
        self.owed.failed(place, self.now, after_s)

    @rule(seconds=st.sampled_from((0.1, 1.0, 40.0)))
    def wait(self, seconds):
        self.now += seconds

    @rule(channel=st.sampled_from(channels))
    def begin(self, channel):
        if channel not in self.walks:
            self.walks[channel] = {place for place in self.old if place[0] == channel}
            self.owed.begin_walk(channel)

    @precondition(lambda self: self.walks)
    @rule(data=st.data(), is_complete=st.booleans())
    def end(self, data, is_complete):
        """A walk loads what was old when it began; if it breaks off, nothing."""
        channel = data.draw(st.sampled_from(sorted(self.walks)))
        seen = self.walks.pop(channel)
        if is_complete:
            for place in seen:
                self.load(place)
        self.owed.end_walk(channel, is_complete=is_complete)

    @invariant()
    def nothing_old_is_forgotten(self):
        for place in self.old:
            being_seen_to = place in self.walks.get(place[0], ())
            assert place in self.owed or being_seen_to or not self.owed.is_sure(place[0]), place

    @invariant()
    def there_is_a_bound(self):
        assert len(self.owed) <= 4

    @invariant()
    def what_is_due_is_owed(self):
        assert all(place in self.owed for place in self.owed.due(self.now))


TestDebts = Debts.TestCase
TestDebts.pytestmark = pytest.mark.unmeasured
