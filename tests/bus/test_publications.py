"""One publishing link's decisions: one piece a tick, bounded, every message accounted for once."""

import hiredis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from syncd.bus.commands import WHOLE, LinkLost, pack
from syncd.bus.publications import Publications


def make(queue_bytes=10_000, max_outstanding=100):
    link = Publications(WHOLE, queue_bytes=queue_bytes, max_outstanding=max_outstanding)
    link.open()
    return link


def test_everything_of_a_tick_goes_out_as_one_piece_in_order():
    link = make()
    assert all(link.publish(b"t", payload) for payload in (b"1", b"2"))
    assert link.take_output() == pack("PUBLISH", b"t", b"1") + pack("PUBLISH", b"t", b"2")
    assert (link.num_outstanding, link.num_queued, link.queue_bytes) == (2, 0, 0)


def test_a_closed_link_and_a_full_queue_drop_and_count():
    link = make(queue_bytes=100)
    link.close()
    assert not link.publish(b"t", b"x")
    link.open()
    assert link.publish(b"t", b"x" * 60)
    assert not link.publish(b"t", b"x" * 60)
    assert link.num_dropped == 2


def test_no_more_than_the_bound_is_outstanding():
    link = make(max_outstanding=3)
    for number in range(5):
        link.publish(b"t", b"%d" % number)
    assert link.take_output().count(b"PUBLISH") == 3
    assert not link.has_output()
    assert link.take_replies([1, 0]) == 0
    assert link.has_output()
    assert link.take_output().count(b"PUBLISH") == 2


def test_a_refused_message_is_counted_and_the_link_goes_on():
    link = make()
    for _ in range(3):
        link.publish(b"t", b"x")
    link.take_output()
    assert link.take_replies([1, hiredis.ReplyError("NOPERM no"), b"PONG", 2]) == 1
    assert (link.num_published, link.num_refused, link.num_outstanding) == (2, 1, 0)


@pytest.mark.parametrize("reply", [hiredis.ReplyError("MOVED 1 host:1"), [b"message"], 1])
def test_a_topic_served_elsewhere_or_an_answer_out_of_place_ends_the_link(reply):
    link = make()
    with pytest.raises(LinkLost):
        link.take_replies([reply])


class Accounts(RuleBasedStateMachine):
    """Accepted = published + refused + unconfirmed + outstanding + queued, and what is written is what was accepted, in order."""

    def __init__(self):
        super().__init__()
        self.link = Publications(WHOLE, queue_bytes=200, max_outstanding=5)
        self.is_open = False
        self.num_accepted = self.num_offered = 0
        self.expected = []

    @rule(size=st.integers(0, 80))
    def publish(self, size):
        self.num_offered += 1
        if self.link.publish(b"t", b"x" * size):
            assert self.is_open
            self.num_accepted += 1
            self.expected.append(pack("PUBLISH", b"t", b"x" * size))

    @precondition(lambda self: not self.is_open)
    @rule()
    def open(self):
        self.link.open()
        self.is_open = True

    @precondition(lambda self: self.is_open)
    @rule()
    def close(self):
        self.link.close()
        self.is_open = False
        self.expected.clear()

    @precondition(lambda self: self.is_open)
    @rule()
    def write(self):
        had_output = self.link.has_output()
        before = self.link.num_outstanding
        output = self.link.take_output()
        count = self.link.num_outstanding - before
        assert bool(output) == had_output
        assert output == b"".join(self.expected[:count])
        del self.expected[:count]

    @precondition(lambda self: self.link.num_outstanding)
    @rule(data=st.data())
    def answer(self, data):
        count = data.draw(st.integers(1, self.link.num_outstanding))
        one = st.sampled_from([0, 1, hiredis.ReplyError("OOM full")])
        self.link.take_replies(data.draw(st.lists(one, min_size=count, max_size=count)))

    @invariant()
    def every_message_is_accounted_for(self):
        link = self.link
        settled = link.num_published + link.num_refused + link.num_unconfirmed
        assert settled + link.num_outstanding + link.num_queued == self.num_accepted
        assert link.num_dropped == self.num_offered - self.num_accepted
        assert link.num_outstanding <= 5
        assert 0 <= link.queue_bytes <= 200 + 50


TestAccounts = Accounts.TestCase
TestAccounts.pytestmark = pytest.mark.unmeasured
