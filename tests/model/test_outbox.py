"""The outbox policies one by one: who is refused, who is superseded, who is dropped, and that a torso always goes out whole."""

import pytest

from syncd.model.outbox import PRESENCE_SHARE, Outbox


def drained(outbox):
    data = b""
    while outbox:
        chunk = outbox.peek(7)
        assert chunk
        outbox.consume(len(chunk))
        data += chunk
    return data


def event(outbox, frame, key=None, channel="a:b", *, conflatable=True):
    return outbox.push_event(channel, key, frame, conflatable=conflatable)


def test_replies_are_never_refused():
    outbox = Outbox(10)
    for _ in range(10):
        outbox.push(b"0123456789")
    assert outbox.size_bytes == 100
    assert drained(outbox) == b"0123456789" * 10


def test_events_are_refused_past_the_budget_and_nothing_of_them_stays():
    outbox = Outbox(10)
    assert event(outbox, b"0123456789")
    assert not event(outbox, b"x")
    outbox.push(b"reply")
    assert drained(outbox) == b"0123456789reply"
    assert event(outbox, b"y"), "room again"


def test_keyed_events_stay_beside_each_other_up_to_half_of_the_budget():
    outbox = Outbox(20)
    assert all(event(outbox, bytes([number]) * 5, "k") for number in range(3))
    assert outbox.num_conflated == 0
    assert event(outbox, b"new", "k")
    assert outbox.num_conflated == 1
    assert outbox.conflated == {"a:b"}
    assert drained(outbox) == bytes(5) + b"\1" * 5 + b"new", "the newest goes to the end"


def test_what_the_session_caused_itself_is_not_superseded():
    outbox = Outbox(40, [b"<me>"])
    for frame in (b"event of <you>..", b"event of <me>..."):
        event(outbox, frame, "k")
    assert not outbox.supersedes("a:b", "k")
    assert event(outbox, b"third", "k")
    assert outbox.supersedes("a:b", "k")
    assert event(outbox, b"last", "k")
    assert drained(outbox) == b"event of <you>..event of <me>...last"


@pytest.mark.parametrize(
    ("key", "channel", "conflatable"),
    [(None, "a:b", True), ("other", "a:b", True), ("k", "a:c", True), ("k", "a:b", False)],
    ids=["keyless", "other-key", "other-channel", "stream"],
)
def test_only_the_same_key_of_the_same_latest_channel_is_superseded(key, channel, conflatable):
    outbox = Outbox(20)
    event(outbox, b"k" * 15, "k")
    event(outbox, b"new", key, channel, conflatable=conflatable)
    assert outbox.num_conflated == 0
    assert drained(outbox) == b"k" * 15 + b"new"


def test_a_frame_that_was_sent_in_part_is_neither_superseded_nor_dropped():
    outbox = Outbox(20)
    event(outbox, b"k" * 15, "k")
    outbox.consume(1)
    event(outbox, b"new", "k")
    outbox.drop_channel("a:b")
    assert outbox.num_conflated == 0
    assert drained(outbox) == b"k" * 14


def test_a_torso_taken_over_from_the_socket_goes_out_first_and_whole():
    outbox = Outbox(20)
    outbox.push_torso(b"torso", 2)
    event(outbox, b"event")
    outbox.drop_channel("a:b")
    assert outbox.size_bytes == 3
    assert drained(outbox) == b"rso"


def test_what_a_task_carries_away_is_neither_superseded_nor_dropped_meanwhile():
    """Over TLS the bytes of several frames are on their way while others are queued."""
    outbox = Outbox(30)
    event(outbox, b"k" * 12, "k")
    event(outbox, b"other", None, "a:c")
    chunk = outbox.seal(15)
    assert chunk == b"k" * 12 + b"other"
    event(outbox, b"new", "k")
    outbox.drop_channel("a:c")
    outbox.consume(len(chunk))
    assert drained(outbox) == b"new"
    assert outbox.seal(5) == b""


def test_dropping_a_channel_takes_its_events_and_presence_and_the_debt_of_a_mark():
    outbox = Outbox(100)
    event(outbox, b"k" * 60, "k")
    outbox.push(b"reply")
    event(outbox, b"new", "k")
    event(outbox, b"other", "k", "a:c")
    assert outbox.push_presence("a:b", b"who")
    outbox.drop_channel("a:b")
    assert outbox.conflated == set()
    assert outbox.presence_bytes == 0
    assert drained(outbox) == b"replyother"


def test_after_a_channel_was_dropped_its_keys_start_anew():
    outbox = Outbox(20)
    event(outbox, b"k" * 12, "k")
    outbox.drop_channel("a:b")
    outbox.push(b"r" * 12)
    event(outbox, b"new", "k")
    assert outbox.num_conflated == 0
    assert drained(outbox) == b"r" * 12 + b"new"


def test_an_older_event_of_a_key_that_goes_out_leaves_the_newer_one_to_be_superseded():
    outbox = Outbox(20)
    event(outbox, b"older", "k")
    event(outbox, b"newer", "k")
    outbox.consume(5)
    outbox.push(b"r" * 8, "a:b")
    event(outbox, b"newest", "k")
    assert drained(outbox) == b"r" * 8 + b"newest"


def test_what_was_queued_before_a_reply_does_not_move_behind_it():
    outbox = Outbox(20)
    event(outbox, b"event of it", "k")
    outbox.push(b"reply")
    event(outbox, b"next", "k")
    assert drained(outbox) == b"event of itreplynext"
    assert not outbox.conflated


def test_an_event_that_is_refused_takes_no_other_with_it():
    outbox = Outbox(20)
    event(outbox, b"k" * 15, "k")
    assert not event(outbox, b"n" * 21, "k")
    assert drained(outbox) == b"k" * 15
    assert outbox.num_conflated == 0


def test_only_past_half_of_the_budget_an_event_supersedes_the_one_before_it():
    outbox = Outbox(20)
    event(outbox, b"k" * 10, "k")
    assert not outbox.supersedes("a:b", "k")
    outbox.push(b"x", "a:b")
    assert outbox.supersedes("a:b", "k")
    assert not outbox.supersedes("a:b", "other")
    assert not outbox.supersedes("a:b", None)


def test_presence_fills_its_share_and_no_more_while_events_still_go_in():
    outbox = Outbox(40)
    assert outbox.push_presence("a:b", bytes(int(40 * PRESENCE_SHARE)))
    assert not outbox.push_presence("a:b", b"x")
    assert event(outbox, b"event")
    outbox.consume(10)
    assert outbox.presence_bytes == 0
    assert outbox.push_presence("a:b", b"x"), "its share is free again"


def test_a_state_larger_than_the_whole_share_goes_in_when_no_other_waits():
    outbox = Outbox(8)
    assert outbox.push_presence("a:b", bytes(100))
    assert not outbox.push_presence("a:b", b"x")
    assert drained(outbox) == bytes(100)


def test_an_empty_outbox_offers_nothing():
    outbox = Outbox(10)
    assert not outbox
    assert outbox.peek(100) == b""
    outbox.consume(0)
    assert outbox.size_bytes == 0


def test_an_outbox_whose_frames_were_all_dropped_is_empty():
    outbox = Outbox(10)
    event(outbox, b"abc", "k")
    outbox.drop_channel("a:b")
    assert not outbox
    assert outbox.peek(100) == b""
    outbox.consume(0)
    assert drained(outbox) == b""
