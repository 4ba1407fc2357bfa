"""What a client asks for when it reads: nothing older than what its own mutations have changed."""

from syncd.client.own_writes import MAX_CHANNELS, OwnWrites
from syncd.ids import ChannelName, Epoch, Position


def at(offset, epoch="e"):
    return Position(Epoch(epoch), offset)


def test_a_read_asks_for_the_newest_own_change_of_its_collection_and_no_other():
    own = OwnWrites()
    own.note({ChannelName("orders"): at(3), ChannelName("other"): at(9)})
    own.note({ChannelName("orders"): at(5)})
    assert own.after("orders", ["7"], None) == {"orders": at(5)}


def test_an_outcome_that_is_told_again_moves_nothing_back():
    own = OwnWrites()
    own.note({ChannelName("orders"): at(5)})
    own.note({ChannelName("orders"): at(3)})
    assert own.after("orders", ["7"], None) == {"orders": at(5)}


def test_a_new_epoch_goes_before_a_higher_offset_of_the_last_one():
    own = OwnWrites()
    own.note({ChannelName("orders"): at(5)})
    own.note({ChannelName("orders"): at(1, "f")})
    assert own.after("orders", ["7"], None) == {"orders": at(1, "f")}


def test_a_read_of_a_partition_asks_for_the_own_changes_of_that_partition():
    own = OwnWrites()
    own.note({ChannelName("orders/de"): at(3), ChannelName("orders/fr"): at(4)})
    assert own.after("orders", ["de/7", "de/8"], None) == {"orders/de": at(3)}


def test_the_newer_of_what_is_known_and_what_the_application_asks_for_counts():
    own = OwnWrites()
    own.note({ChannelName("orders"): at(3)})
    for asked, wanted in ((at(8), at(8)), (at(2), at(3)), (at(1, "f"), at(1, "f"))):
        assert own.after("orders", ["7"], {ChannelName("orders"): asked}) == {"orders": wanted}


def test_of_many_channels_the_one_longest_unchanged_is_forgotten():
    own = OwnWrites()
    for number in range(MAX_CHANNELS):
        own.note({ChannelName(f"c{number}"): at(1)})
    own.note({ChannelName("c0"): at(2)})
    own.note({ChannelName("new"): at(1)})
    assert own.after("c0", [], None) == {"c0": at(2)}
    assert own.after("c1", [], None) == {}
