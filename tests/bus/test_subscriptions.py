"""One subscribing link's decisions: batched commands, gaps when they are due, and nothing but answers from Redis."""

import hiredis
import pytest

from syncd.bus.commands import WHOLE, LinkLost
from syncd.bus.subscriptions import Subscriptions


class Told:
    def __init__(self, **options):
        self.messages, self.gaps, self.order = [], [], []
        self.link = Subscriptions(WHOLE, self.on_messages, self.on_gap, **options)

    def on_messages(self, batch):
        self.messages += batch
        self.order.append("messages")

    def on_gap(self, topics):
        self.gaps.append(list(topics))
        self.order.append("gap")

    def written(self):
        reader = hiredis.Reader()
        reader.feed(self.link.take_output())
        commands = []
        while (command := reader.gets()) is not False:
            commands.append(command)
        return commands

    def confirm(self, verb, *topics):
        self.link.take_replies([[verb, topic, 1] for topic in topics])


def test_a_gap_is_told_when_the_subscription_is_confirmed_and_before_its_messages():
    told = Told()
    told.link.want([b"a", b"b", b"a"])
    assert told.written() == []
    told.link.open()
    assert told.written() == [[b"SUBSCRIBE", b"a", b"b"]]
    assert told.gaps == []
    told.link.take_replies([[b"subscribe", b"a", 1], [b"message", b"a", b"1"]])
    assert told.order == ["gap", "messages"]
    assert told.gaps == [[b"a"]]
    assert told.link.num_subscribed == 1
    told.confirm(b"subscribe", b"b")
    assert told.gaps == [[b"a"], [b"b"]]


def test_a_topic_unwanted_and_wanted_in_one_tick_costs_no_command_and_gets_its_gap():
    told = Told()
    told.link.open()
    told.link.want([b"a"])
    told.written()
    told.confirm(b"subscribe", b"a")
    told.link.unwant([b"a", b"unknown"])
    told.link.want([b"a"])
    assert told.written() == []
    assert told.gaps == [[b"a"], [b"a"]]


def test_a_gap_waits_for_the_last_of_several_commands():
    told = Told()
    told.link.open()
    told.link.want([b"a"])
    assert told.written() == [[b"SUBSCRIBE", b"a"]]
    told.link.unwant([b"a"])
    assert told.written() == [[b"UNSUBSCRIBE", b"a"]]
    told.link.want([b"a"])
    assert told.written() == [[b"SUBSCRIBE", b"a"]]
    told.confirm(b"subscribe", b"a")
    told.confirm(b"unsubscribe", b"a")
    assert told.gaps == []
    told.confirm(b"subscribe", b"a")
    assert told.gaps == [[b"a"]]


def test_after_a_cut_everything_wanted_is_subscribed_again_and_gets_a_gap():
    told = Told()
    told.link.open()
    told.link.want([b"a", b"b"])
    told.written()
    told.confirm(b"subscribe", b"a", b"b")
    told.link.close()
    assert told.link.num_subscribed == 0
    told.link.unwant([b"b"])
    assert told.written() == []
    told.link.open()
    assert told.written() == [[b"SUBSCRIBE", b"a"]]
    told.confirm(b"subscribe", b"a")
    assert told.gaps == [[b"a", b"b"], [b"a"]]


def test_many_topics_go_out_in_few_commands_by_slot_where_slots_count():
    told = Told(slot_of=len)
    told.link.open()
    told.link.want([b"%04d" % number for number in range(2500)] + [b"x"])
    assert [len(command) - 1 for command in told.written()] == [1000, 1000, 500, 1]


def test_both_forms_of_a_pong_are_counted():
    told = Told()
    told.link.open()
    assert told.link.take_replies([b"PONG", [b"pong", b""]]) == 2


@pytest.mark.parametrize(
    "reply",
    [
        hiredis.ReplyError("NOPERM no"),
        [b"unsubscribe", b"a", 0],
        [b"subscribe", b"never asked", 1],
        [b"other", b"a", 1],
        7,
    ],
)
def test_a_refusal_or_a_subscription_taken_away_ends_the_link_after_what_came_before(reply):
    told = Told()
    told.link.open()
    told.link.want([b"a"])
    told.written()
    told.confirm(b"subscribe", b"a")
    with pytest.raises(LinkLost):
        told.link.take_replies([[b"message", b"a", b"1"], reply])
    assert told.messages == [(b"a", b"1")]
